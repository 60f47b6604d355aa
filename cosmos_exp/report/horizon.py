"""Measures over the horizon: the mean over scenes of the per-frame curves in scores.jsonl."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cosmos_exp.statistics.cells import Scenes, nanmean, scene_means
from cosmos_exp.statistics.intervals import mean_interval
from cosmos_exp.statistics.scores import ScoreRow

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """A measure at each frame after the conditioning frames, (T,): mean over scenes, and its 95 % interval.

    A frame at which no video has a value is NaN. `low` and `high` are NaN where all scenes have the same value, and None for
    one scene.
    """

    mean: Values
    low: Values | None
    high: Values | None


def curve_measures(rows: Iterable[ScoreRow], order: Sequence[str]) -> list[str]:
    """The measures that have a curve, in the given order."""
    found = {r["measure"] for r in rows if r["detail"].get("curve")}
    return [m for m in order if m in found]


def mean_curve(rows: Iterable[ScoreRow], measure: str, scenes: Scenes | None = None) -> Curve | None:
    """The curve of a measure; None if no video has one. Frames that not all videos have are left out.

    Args:
        scenes: The scene of each prompt; None: every prompt is a scene.
    """
    own = [r for r in rows if r["measure"] == measure and r["detail"].get("curve")]
    if not own:
        return None
    length = min(len(r["detail"]["curve"]) for r in own)
    values = np.stack([np.array(r["detail"]["curve"][:length], dtype=float) for r in own])
    means = scene_means([r["sample"] for r in own], values, scenes or {})
    if len(means) < 2:
        return Curve(nanmean(means), None, None)
    ends = [mean_interval(column[~np.isnan(column)][:, None])[1:] for column in means.T]
    low, high = np.array(ends, dtype=float).T
    return Curve(nanmean(means), low, high)
