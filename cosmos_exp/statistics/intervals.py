"""Means over prompts with bootstrap intervals."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cosmos_exp.statistics.scores import MeasureSummary, ScoreRow

RESAMPLES = 2000
LEVEL = 0.05  # of the tests; intervals cover 1 - LEVEL

Values = NDArray[np.float64]
Groups = list[Values]  # for each prompt a 1-d array with one value per seed


def prompt_groups(rows: Sequence[ScoreRow], measure: str) -> dict[str, Values]:
    """The values of each prompt, one per seed. Missing scores (None) are left out, never imputed."""
    values: dict[str, list[float]] = defaultdict(list)
    for row in rows:
        if row["measure"] == measure and row["value"] is not None:
            values[row["sample"]].append(float(row["value"]))
    return {sample: np.array(v) for sample, v in sorted(values.items())}


def bootstrap_means(groups: Groups, seed: int = 0, resamples: int = RESAMPLES) -> Values:
    """Bootstrap distribution of the mean of the prompt means.

    Each draw takes prompts with replacement and, within each prompt, its seeds with replacement.

    Returns:
        (resamples,) means.
    """
    counts = np.array([len(g) for g in groups])
    values = np.zeros((len(groups), counts.max()))
    for i, group in enumerate(groups):
        values[i, : len(group)] = group
    rng = np.random.default_rng(seed)
    prompts = rng.integers(0, len(groups), (resamples, len(groups)))
    own = counts[prompts][..., None]
    picks = (rng.random((resamples, len(groups), counts.max())) * own).astype(int)
    inside = np.arange(counts.max()) < own
    drawn = values[prompts[..., None], picks]
    means: Values = ((drawn * inside).sum(2) / own[..., 0]).mean(1)
    return means


def mean_interval(groups: Groups, seed: int = 0) -> tuple[float | None, float | None, float | None]:
    """Mean of the prompt means and its 95 % percentile bootstrap interval.

    Returns:
        Mean, lower and upper end. All None for no prompt; the ends None for one prompt.
    """
    if not groups:
        return None, None, None
    mean = float(np.mean([g.mean() for g in groups]))
    if len(groups) < 2:
        return mean, None, None
    if np.ptp(np.concatenate(groups)) == 0:
        return mean, mean, mean
    low, high = np.percentile(bootstrap_means(groups, seed), [100 * LEVEL / 2, 100 - 100 * LEVEL / 2])
    return mean, float(low), float(high)


def summarize(rows: Sequence[ScoreRow]) -> dict[str, MeasureSummary]:
    """The summary of every measure in the rows, by name."""
    table: dict[str, MeasureSummary] = {}
    for measure in sorted({r["measure"] for r in rows}):
        groups = list(prompt_groups(rows, measure).values())
        mean, low, high = mean_interval(groups)
        own = [r for r in rows if r["measure"] == measure]
        missing = [r for r in own if r["value"] is None]
        table[measure] = {
            "mean": mean,
            "ci_low": low,
            "ci_high": high,
            "n": len(groups),
            "videos": len(own),
            "missing": len(missing),
        }
        if mean is None and missing:
            table[measure]["reason"] = (missing[0].get("detail") or {}).get("reason") or "no answer held a score"
    return table
