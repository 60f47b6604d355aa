"""Means over scenes with t intervals."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence

import numpy as np

from cosmos_exp.statistics.cells import Scenes, scene_means
from cosmos_exp.statistics.crossed import NO_SPREAD, Values, estimate
from cosmos_exp.statistics.scores import MeasureSummary, ScoreRow

MIN_RUNS = 3  # training runs of a recipe; with fewer, nothing is said about another training of it
# With fewer, what is said holds if no training run fails. Where half of the trainings learn and half do not, all of n runs
# agree in 2 * 0.5^n of the sweeps: 25 % with 3 runs, 6 % with 5. Their scores then do not show that the others exist.
SURE_RUNS = 5


def unseen_failures(runs: int) -> float:
    """Upper 95 % bound on the share of training runs of a kind that none of `runs` showed (Clopper and Pearson 1934)."""
    return float(1 - 0.05 ** (1 / runs))


def prompt_groups(rows: Sequence[ScoreRow], measure: str) -> dict[str, Values]:
    """The values of each prompt, one per video. Missing scores (None) are left out, never imputed."""
    values: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        if row["measure"] == measure and row["value"] is not None:
            values[row["sample"]].append(float(row["value"]))
    return {sample: np.array(v) for sample, v in sorted(values.items())}


def scene_run_cells(rows: Sequence[ScoreRow], measure: str, scenes: Scenes) -> Values:
    """Mean score of each scene in each training run, (scenes, runs); NaN where a run has no value for a scene.

    Scenes and runs without any value are left out.
    """
    own = [r for r in rows if r["measure"] == measure and r["value"] is not None]
    runs = sorted({r.get("run_seed", 0) for r in own})
    values = np.full((len(own), len(runs)), np.nan)
    for i, row in enumerate(own):
        values[i, runs.index(row.get("run_seed", 0))] = row["value"]
    return scene_means([r["sample"] for r in own], values, scenes)


def scene_scores(rows: Sequence[ScoreRow], scenes: Scenes) -> dict[str, float]:
    """The mean score of each scene that has one: over training runs, and within them over prompts and noises.

    Args:
        rows: Of one measure.
    """
    by_scene: dict[str, list[ScoreRow]] = defaultdict(list)
    for row in rows:
        by_scene[scenes.get(row["sample"], row["sample"])].append(row)
    found = {s: scene_run_cells(own, own[0]["measure"], scenes) for s, own in sorted(by_scene.items())}
    return {s: float(np.nanmean(cells)) for s, cells in found.items() if len(cells)}


def mean_interval(cells: Values) -> tuple[float | None, float | None, float | None]:
    """Mean over scenes, and its 95 % interval.

    With at least MIN_RUNS training runs the interval is for scenes and trainings like these; with fewer, for scenes like
    these and exactly these trainings.

    Args:
        cells: (scenes, runs), NaN where there is no value; no row is empty.

    Returns:
        Mean, lower and upper end. All None for no scene. The ends are None for one scene, and where all scenes have the same
        value: without spread, nothing is known of the error.
    """
    if not len(cells):
        return None, None, None
    means = np.nanmean(cells, axis=1)
    mean, scale = float(means.mean()), max(float(np.abs(means).max()), 1.0)
    full = cells[~np.isnan(cells).any(axis=1)]
    crossed = cells.shape[1] >= MIN_RUNS and len(full) > 1
    found = estimate([full if crossed else means[:, None]]) if len(means) > 1 else None
    if found is None or found.variance <= (NO_SPREAD * scale) ** 2:
        return mean, None, None
    low, high = found.interval()
    shift = mean - float(found.mean)
    return mean, float(low) + shift, float(high) + shift


Limits = Mapping[str, tuple[float | None, float | None]]


def summarize(
    rows: Sequence[ScoreRow], scenes: Scenes | None = None, limits: Limits | None = None
) -> dict[str, MeasureSummary]:
    """The summary of every measure in the rows, by name.

    Args:
        scenes: The scene of each prompt; prompts of one scene are one observation. None: every prompt is a scene.
        limits: Smallest and largest possible value of each measure. A mean cannot lie outside, so intervals are cut there.
    """
    table: dict[str, MeasureSummary] = {}
    for measure in sorted({r["measure"] for r in rows}):
        cells = scene_run_cells(rows, measure, scenes or {})
        mean, low, high = mean_interval(cells)
        bottom, top = _limits(measure, limits or {})
        own = [r for r in rows if r["measure"] == measure]
        missing = [r for r in own if r["value"] is None]
        table[measure] = {
            "mean": mean,
            "ci_low": None if low is None else max(low, bottom),
            "ci_high": None if high is None else min(high, top),
            "n": len(cells),
            "videos": len(own),
            "missing": len(missing),
        }
        if mean is None and missing:
            table[measure]["reason"] = _reason(missing[0]) or "no answer held a score"
        doubtful = [r for r in own if r["value"] is not None and _reason(r)]
        if doubtful:
            table[measure] |= {"doubtful": len(doubtful), "caution": _reason(doubtful[0])}
    return table


def _reason(row: ScoreRow) -> str:
    """The reason beside a score; empty if there is none."""
    return str((row.get("detail") or {}).get("reason") or "")


def _limits(measure: str, limits: Limits) -> tuple[float, float]:
    low, high = limits.get(measure, (None, None))
    return -math.inf if low is None else low, math.inf if high is None else high
