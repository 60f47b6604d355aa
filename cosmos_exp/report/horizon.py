"""Measures over the horizon: the mean over prompts of the per-frame curves in scores.jsonl."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cosmos_exp.statistics.intervals import LEVEL, bootstrap_means
from cosmos_exp.statistics.scores import ScoreRow

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """A measure at each frame after the conditioning frames, (T,): mean over prompts, and its 95 % interval.

    A frame at which no video has a value is NaN. `low` and `high` are None for one prompt.
    """

    mean: Values
    low: Values | None
    high: Values | None


def curve_measures(rows: Iterable[ScoreRow], order: Sequence[str]) -> list[str]:
    """The measures that have a curve, in the given order."""
    found = {r["measure"] for r in rows if r["detail"].get("curve")}
    return [m for m in order if m in found]


def mean_curve(rows: Iterable[ScoreRow], measure: str) -> Curve | None:
    """The curve of a measure; None if no video has one. Frames that not all videos have are left out."""
    by_prompt: dict[str, list[Values]] = defaultdict(list)
    for row in rows:
        curve = row["detail"].get("curve")
        if row["measure"] == measure and curve:
            by_prompt[row["sample"]].append(np.array(curve, dtype=float))
    if not by_prompt:
        return None
    length = min(len(c) for own in by_prompt.values() for c in own)
    prompts = np.stack([_nanmean(np.stack([c[:length] for c in own])) for _, own in sorted(by_prompt.items())])
    mean = _nanmean(prompts)
    if len(prompts) < 2:
        return Curve(mean, None, None)
    ends = np.full((2, length), np.nan)
    for t in range(length):
        own = prompts[~np.isnan(prompts[:, t]), t]
        if len(own) > 1:
            percents = [100 * LEVEL / 2, 100 - 100 * LEVEL / 2]
            ends[:, t] = np.percentile(bootstrap_means([np.array([x]) for x in own], resamples=500), percents)
    return Curve(mean, ends[0], ends[1])


def _nanmean(values: Values) -> Values:
    """Mean over the first axis without NaN; NaN where there is no value."""
    counts = (~np.isnan(values)).sum(axis=0)
    mean: Values = np.where(counts > 0, np.nansum(values, axis=0) / np.maximum(counts, 1), np.nan)
    return mean
