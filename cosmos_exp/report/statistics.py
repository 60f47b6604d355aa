"""Means with their uncertainty. The unit is the prompt: seeds of one prompt are averaged before anything else."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import numpy as np
from scipy import stats

RESAMPLES = 2000


def prompt_means(rows: list[dict[str, Any]], measure: str) -> dict[str, float]:
    """Mean over seeds for each sample; missing scores (None) are left out, never filled in."""
    values = defaultdict(list)
    for row in rows:
        if row["measure"] == measure and row["value"] is not None:
            values[row["sample"]].append(float(row["value"]))
    return {sample: float(np.mean(v)) for sample, v in sorted(values.items())}


def mean_interval(values: list[float], seed: int = 0) -> tuple[float | None, float | None, float | None]:
    """Mean and 95 % percentile bootstrap interval; the interval is None for fewer than two values."""
    if not values:
        return None, None, None
    mean = float(np.mean(values))
    if len(values) < 2:
        return mean, None, None
    if len(set(values)) == 1:
        return mean, mean, mean
    found = stats.bootstrap(
        (np.asarray(values),), np.mean, n_resamples=RESAMPLES, method="percentile", rng=np.random.default_rng(seed)
    ).confidence_interval
    return mean, float(found.low), float(found.high)


def summarize(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """{measure: mean, ci_low, ci_high, n (prompts), videos, missing} for every measure in the rows."""
    table: dict[str, dict[str, Any]] = {}
    for measure in sorted({r["measure"] for r in rows}):
        means = prompt_means(rows, measure)
        mean, low, high = mean_interval(list(means.values()))
        own = [r for r in rows if r["measure"] == measure]
        missing = [r for r in own if r["value"] is None]
        table[measure] = {
            "mean": mean, "ci_low": low, "ci_high": high, "n": len(means), "videos": len(own), "missing": len(missing),
        }  # fmt: skip
        if mean is None and missing:
            table[measure]["reason"] = (missing[0].get("detail") or {}).get("reason") or "no answer held a score"
    return table
