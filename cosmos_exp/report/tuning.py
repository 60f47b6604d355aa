"""The tuning of a sweep by arms in a report: the points of each arm, the chosen values, and what is said about rates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cosmos_exp.config.measures import LIMITS, measure_info
from cosmos_exp.files import JsonObject
from cosmos_exp.report.formatting import interval, number
from cosmos_exp.report.variants import Run, Variant, read_sweep
from cosmos_exp.statistics.intervals import scene_scores, summarize
from cosmos_exp.statistics.scores import ScoreRow
from cosmos_exp.statistics.selection import choose_point

VALIDATION = "validation_loss"
RATE = "training.learning_rate"


@dataclass(frozen=True)
class PointScore:
    """The score of a set of values over its tuning runs.

    score: mean over the runs and the selection scenes (or validation clips); None if a run has none.
    low, high: its 95 % interval; None for the validation loss and for one scene.
    n: scenes, or training runs of the validation loss.
    missing: videos without a score; they are left out of the mean.
    scenes: mean score of each scene; empty for the validation loss.
    """

    score: float | None
    low: float | None
    high: float | None
    n: int
    missing: int
    scenes: dict[str, float]

    @property
    def compared(self) -> dict[str, float]:
        """What the choice compares: the scenes' scores, or the validation loss alone."""
        return {} if self.score is None else self.scenes or {"": self.score}


def point_score(runs: Sequence[Run], by: str) -> PointScore:
    """The score of the tuning runs of one point."""
    if by == VALIDATION:
        losses = [r.metrics.get("training", {}).get(VALIDATION) for r in runs]
        known = [float(x) for x in losses if x is not None and math.isfinite(x)]
        mean = sum(known) / len(known) if known and len(known) == len(runs) else None
        return PointScore(mean, None, None, len(known), 0, {})
    scenes = {sample: scene for r in runs for sample, scene in r.scenes.items()}
    rows: list[ScoreRow] = [
        {**row, "run_seed": k} for k, r in enumerate(runs) for row in r.scores if row["measure"] == by
    ]
    if not rows:
        return PointScore(None, None, None, 0, 0, {})
    s = summarize(rows, scenes, LIMITS)[by]
    return PointScore(s["mean"], s["ci_low"], s["ci_high"], s["n"], s["missing"], scene_scores(rows, scenes))


def chosen_point(points: Sequence[PointScore], by: str, rule: str) -> int | None:
    """The index of the point that the rule chooses; None if no point has a score."""
    return choose_point([p.compared for p in points], better_of(by), rule)


def better_of(by: str) -> int:
    """1 if higher is better in what a tuning is chosen by, -1 if lower is better."""
    return -1 if by == VALIDATION else measure_info(by).better


@dataclass(frozen=True)
class Tuning:
    """The first phase of a sweep by arms, as sweep.json records it.

    by: the measure of the choice.
    keys: the tuned keys.
    rule: how a point is chosen (statistics/selection.py).
    seeds: training seeds of the tuning runs.
    choices: per arm its points and the chosen values.
    """

    by: str
    rule: str
    keys: list[str]
    seeds: list[int]
    choices: list[JsonObject]

    @property
    def heading(self) -> str:
        """What the points show, with its better direction."""
        where = "on the validation clips" if self.by == VALIDATION else "on the selection prompts"
        return f"{self.by} {where} ({'higher' if better_of(self.by) > 0 else 'lower'} is better)"


def tunings(variants: list[Variant]) -> list[Tuning]:
    """The tunings of the sweeps that the variants belong to."""
    parents = dict.fromkeys(r.folder.path.parent for v in variants if v.arm for r in v.runs)
    found = [read_sweep(p).get("tuning") for p in parents]
    return [Tuning(t["by"], t.get("rule", "best"), list(t["grid"]), t["seeds"], t["choices"]) for t in found if t]


def tuning_markdown(tuning: Tuning) -> str:
    """A table of all points, one row per arm and point, the chosen ones in bold."""
    lines = ["| arm | " + " | ".join(tuning.keys) + f" | {tuning.by} | n | |", "|" + " --- |" * (len(tuning.keys) + 4)]
    for choice in tuning.choices:
        for point in choice["points"]:
            chosen = point["values"] == choice["chosen"]
            cells = [choice["arm"], *(str(point["values"][k]) for k in tuning.keys), _score(point), str(point["n"])]
            cells = [f"**{c}**" for c in cells] if chosen else cells
            lines.append("| " + " | ".join([*cells, _remark(choice, point) if chosen else _missing(point)]) + " |")
    return "\n".join(lines) + "\n"


def _score(point: JsonObject) -> str:
    score, low, high = point["score"], point["low"], point["high"]
    return "–" if score is None else interval(score, low, high) if low is not None else number(score)


def _remark(choice: JsonObject, point: JsonObject) -> str:
    edge = f"at the edge of the grid ({', '.join(choice['edges'])})" if choice["edges"] else ""
    return "; ".join(w for w in ("chosen", edge, _missing(point)) if w)


def _missing(point: JsonObject) -> str:
    return f"{point['missing']} videos without a score" if point["missing"] else ""


def tuning_notes(variants: list[Variant], found: list[Tuning]) -> list[str]:
    """What a reader must know about the learning rates and other tuned keys of a comparison."""
    trained = [v for v in variants if not v.is_base and v.done]
    notes = []
    for t in found:
        seeds = ", ".join(map(str, t.seeds))
        rule = "" if t.rule == "best" else ": the first value at most one standard error worse than the best"
        notes.append(
            f"Each arm has its own {', '.join(t.keys)}, chosen by {t.heading}, with training seed {seeds}{rule}. No test prompt and "
            "no training run of the test took part in the choice."
        )
        for choice in t.choices:
            if choice["edges"]:
                notes.append(
                    f"{choice['arm']}: the chosen {', '.join(choice['edges'])} is at the edge of the grid. A better value may lie "
                    "outside: extend the grid and run the sweep again."
                )
    untuned = [v for v in trained if RATE not in v.tuned]
    if len({v.name for v in untuned}) > 1:
        rates = sorted({_rate(v) for v in untuned})
        shared = "a shared learning rate" if len(rates) == 1 else "learning rates that were set by hand"
        notes.append(
            f"Untuned: {', '.join(v.name for v in untuned)} were trained at {shared} ({', '.join(f'{r:g}' for r in rates)}). "
            "Rank, alpha and DoRA shift the best rate, so a difference between them may come from a rate that suits one better. "
            "Tune it for each arm: sweep.tune.grid={training.learning_rate: [...]}."
        )
    return notes


def _rate(variant: Variant) -> float:
    return float((variant.runs[0].config.get("training") or {}).get("learning_rate", math.nan))
