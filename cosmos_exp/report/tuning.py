"""The first phase of a sweep by arms, in which each arm's own values were chosen: scores of the tried values, and the record."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pandas as pd

from cosmos_exp.config.measures import ARROWS, LIMITS, LOSSES, measure_info
from cosmos_exp.files import JsonObject
from cosmos_exp.report.runs import Run
from cosmos_exp.statistics.cells import scene_table, video_table
from cosmos_exp.statistics.intervals import summarize_frame
from cosmos_exp.statistics.scores import score_frame
from cosmos_exp.statistics.selection import choose_point

VALIDATION = "validation_loss"


@dataclass(frozen=True)
class PointScore:
    """The score of a set of values over its tuning runs.

    score: mean over the runs and the selection scenes (or validation clips); None if a run has none.
    low, high: its 95 % interval; None for the validation loss and for one scene.
    n: scenes, or training runs of the validation loss.
    missing: videos without a score; they are left out of the mean.
    scenes: mean score of each scene; of the validation loss one entry, the score.
    """

    score: float | None = None
    low: float | None = None
    high: float | None = None
    n: int = 0
    missing: int = 0
    scenes: dict[str, float] = field(default_factory=dict)


def point_score(runs: Sequence[Run], by: str) -> PointScore:
    """The score of the tuning runs of one point."""
    if by == VALIDATION:
        losses = pd.Series([run.training.get(VALIDATION) for run in runs], dtype=float)
        known = losses[losses.map(math.isfinite)]
        if known.empty or len(known) < len(runs):
            return PointScore(n=len(known))
        return PointScore(float(known.mean()), n=len(known), scenes={"": float(known.mean())})
    frames = [score_frame(run.scores, run.scenes).assign(seed=number) for number, run in enumerate(runs)]
    scores = pd.concat([score_frame([]), *frames])
    scores = scores[scores["measure"] == by]
    if scores.empty:
        return PointScore()
    summary = summarize_frame(scores, LIMITS)[by]
    scenes = scene_table(video_table(scores)).mean(axis="columns").to_dict()
    return PointScore(summary["mean"], summary["ci_low"], summary["ci_high"], summary["n"], summary["missing"], scenes)


def chosen_point(points: Sequence[PointScore], by: str, rule: str) -> int | None:
    """The index of the point that the rule chooses; None if no point has a score."""
    return choose_point([point.scenes for point in points], better_of(by), rule)


def better_of(by: str) -> int:
    """1 if higher is better in what a tuning is chosen by, -1 if lower is better."""
    if by in LOSSES:
        return -1
    return measure_info(by).better


@dataclass(frozen=True)
class Tuning:
    """The first phase of a sweep by arms, as sweep.json records it.

    by: the measure of the choice.
    keys: the tuned keys.
    record: the sweep's record: rule (see statistics/selection.py), seeds (of the tuning runs), choices (per arm).
    """

    by: str
    keys: list[str]
    record: JsonObject

    @property
    def heading(self) -> str:
        """What the points show, with its better direction."""
        prompts = {VALIDATION: "validation clips"}.get(self.by, "selection prompts")
        return f"{self.by} on the {prompts}{ARROWS[better_of(self.by)]}"

    @property
    def points(self) -> pd.DataFrame:
        """One row per arm and point: arm, the tuned keys, score, low, high, n, missing, chosen."""
        rows = []
        for choice in self.record["choices"]:
            for point in choice["points"]:
                row = {"arm": choice["arm"], **point["values"], **point}
                rows.append(row | {"chosen": point["values"] == choice["chosen"]})
        return pd.DataFrame(rows).drop(columns=["values", "runs", "scenes"], errors="ignore")

    @property
    def notes(self) -> Iterator[str]:
        """What a reader must know of the choices."""
        yield (
            f"Each arm has its own {', '.join(self.keys)}, chosen by {self.heading}, training seeds {self.record['seeds']}, "
            f"rule {self.record.get('rule', 'best')}. "
            "No test prompt and no training run of the test took part."
        )
        for choice in self.record["choices"]:
            if choice["edges"]:
                keys = ", ".join(choice["edges"])
                yield f"{choice['arm']}: the chosen {keys} is at the edge of the grid: extend the grid and run again."
