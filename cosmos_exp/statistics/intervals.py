"""Means over scenes with t intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from cosmos_exp.statistics.cells import Scenes, scene_table, video_table
from cosmos_exp.statistics.crossed import NO_SPREAD, Values, estimate
from cosmos_exp.statistics.scores import MeasureSummary, score_frame

MIN_RUNS = 3  # training runs of a recipe; with fewer, nothing is said about another training of it
# With fewer, what is said holds if no training run fails. Where half of the trainings learn and half do not, all of n runs
# agree in 2 * 0.5^n of the sweeps: 25 % with 3 runs, 6 % with 5. Their scores then do not show that the others exist.
SURE_RUNS = 5
Limits = Mapping[str, tuple[float | None, float | None]]


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
    if len(means) < 2:
        return mean, None, None
    full = cells[~np.isnan(cells).any(axis=1)]
    if cells.shape[1] < MIN_RUNS or len(full) < 2:
        full = means[:, None]
    full_estimate = estimate([full])
    if full_estimate.variance <= (NO_SPREAD * scale) ** 2:
        return mean, None, None
    low, high = full_estimate.interval()
    shift = mean - float(full_estimate.mean)
    return mean, float(low) + shift, float(high) + shift


def summarize(
    rows: Sequence[Mapping[str, object]], scenes: Scenes | None = None, limits: Limits | None = None
) -> dict[str, MeasureSummary]:
    """`summarize_frame` of the rows of scores.jsonl.

    Args:
        scenes: The scene of each prompt; prompts of one scene are one observation. None: every prompt is a scene.
        limits: As in `summarize_frame`.
    """
    return summarize_frame(score_frame(rows, scenes), limits)


def summarize_frame(scores: pd.DataFrame, limits: Limits | None = None) -> dict[str, MeasureSummary]:
    """The summary of every measure in a frame of scores, by name.

    Args:
        limits: Smallest and largest possible value of each measure. A mean cannot lie outside, so intervals are cut there.
    """
    table: dict[str, MeasureSummary] = {}
    for measure, rows in scores.groupby("measure"):
        cells = scene_table(video_table(rows)).to_numpy()
        mean, low, high = mean_interval(cells)
        bottom, top = (limits or {}).get(str(measure), (None, None))
        if low is not None and bottom is not None:
            low = max(low, bottom)
        if high is not None and top is not None:
            high = min(high, top)
        is_missing = rows["value"].isna()
        missing, doubtful = rows[is_missing], rows[~is_missing & (rows["reason"] != "")]
        summary = MeasureSummary(
            mean=mean, ci_low=low, ci_high=high, n=len(cells), videos=len(rows), missing=len(missing)
        )
        if mean is None and len(missing):
            summary["reason"] = missing["reason"].iloc[0] or "no answer held a score"
        if len(doubtful):
            summary |= {"doubtful": len(doubtful), "caution": doubtful["reason"].iloc[0]}
        table[str(measure)] = summary
    return table
