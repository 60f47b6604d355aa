"""The first phase of a sweep by arms, in which each arm's own values were chosen: scores of the tried values, and the record."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd

from cosmos_exp.config.measures import LIMITS, LOSSES, measure_info
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
        losses = pd.Series([run.training.get(VALIDATION) for run in runs], dtype=float)
        known = losses[losses.map(math.isfinite)]
        mean = float(known.mean()) if len(known) and len(known) == len(runs) else None
        return PointScore(mean, None, None, len(known), 0, {})
    rows = []
    scenes: dict[str, str] = {}
    for number, run in enumerate(runs):
        scenes |= run.scenes
        for row in run.scores:
            if row["measure"] == by:
                rows.append({**row, "run_seed": number})
    if not rows:
        return PointScore(None, None, None, 0, 0, {})
    scores = score_frame(rows, scenes)
    summary = summarize_frame(scores, LIMITS)[by]
    by_scene = scene_table(video_table(scores)).mean(axis="columns").to_dict()
    return PointScore(
        summary["mean"], summary["ci_low"], summary["ci_high"], summary["n"], summary["missing"], by_scene
    )


def chosen_point(points: Sequence[PointScore], by: str, rule: str) -> int | None:
    """The index of the point that the rule chooses; None if no point has a score."""
    return choose_point([point.compared for point in points], better_of(by), rule)


def better_of(by: str) -> int:
    """1 if higher is better in what a tuning is chosen by, -1 if lower is better."""
    return -1 if by in LOSSES else measure_info(by).better


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

    @property
    def points(self) -> pd.DataFrame:
        """One row per arm and point: arm, the tuned keys, score, low, high, n, missing, chosen, edge (of the grid)."""
        rows = []
        for choice in self.choices:
            for point in choice["points"]:
                chosen = point["values"] == choice["chosen"]
                row = {
                    "arm": choice["arm"],
                    **point["values"],
                    "chosen": chosen,
                    "edge": chosen and bool(choice["edges"]),
                }
                for key in ("score", "low", "high", "n", "missing"):
                    row[key] = point[key]
                rows.append(row)
        return pd.DataFrame(rows)

    @property
    def notes(self) -> list[str]:
        """What a reader must know of the choices."""
        found = [
            f"Each arm has its own {', '.join(self.keys)}, chosen by {self.heading}, training seeds {self.seeds}, rule "
            f"{self.rule}. No test prompt and no training run of the test took part."
        ]
        for choice in self.choices:
            if choice["edges"]:
                keys = ", ".join(choice["edges"])
                found.append(
                    f"{choice['arm']}: the chosen {keys} is at the edge of the grid: extend the grid and run again."
                )
        return found
