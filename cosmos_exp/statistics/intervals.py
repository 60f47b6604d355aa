"""The statistics of an ablation. The unit is the prompt; seeds lie within prompts; runs are paired by prompt and seed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

RESAMPLES = 2000

LEVEL = 0.05

Groups = list[np.ndarray]  # a 1-d array of values (one a seed) for each prompt


def prompt_groups(rows: Iterable[Mapping[str, Any]], measure: str) -> dict[str, np.ndarray]:
    """Each prompt's values, one a seed; missing scores (None) are left out, never filled in."""
    values = defaultdict(list)
    for row in rows:
        if row["measure"] == measure and row["value"] is not None:
            values[row["sample"]].append(float(row["value"]))
    return {sample: np.array(v) for sample, v in sorted(values.items())}


def bootstrap_means(groups: Groups, seed: int = 0, resamples: int = RESAMPLES) -> np.ndarray:
    """Means of `resamples` draws: prompts with replacement, then within each the seeds with replacement; (resamples,)."""
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
    return ((drawn * inside).sum(2) / own[..., 0]).mean(1)


def mean_interval(groups: Groups, seed: int = 0) -> tuple[float | None, float | None, float | None]:
    """Mean of the prompts' means and its 95 % percentile bootstrap interval; the interval is None for one prompt."""
    if not groups:
        return None, None, None
    mean = float(np.mean([g.mean() for g in groups]))
    if len(groups) < 2:
        return mean, None, None
    if np.ptp(np.concatenate(groups)) == 0:
        return mean, mean, mean
    low, high = np.percentile(bootstrap_means(groups, seed), [100 * LEVEL / 2, 100 - 100 * LEVEL / 2])
    return mean, float(low), float(high)


def summarize(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """{measure: mean, ci_low, ci_high, n (prompts), videos, missing} for every measure in the rows."""
    table: dict[str, dict[str, Any]] = {}
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
