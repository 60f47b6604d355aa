"""F for comparisons: several random starts, each refined to a least-squares fit of its inliers, and how far they disagree."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cosmos_exp.config.schema import Sampson as SampsonSettings
from cosmos_exp.metrics.geometry.epipolar import estimate_fundamental, fundamental_from_intrinsics, sampson_distance
from cosmos_exp.metrics.geometry.refine import refine


@dataclass(frozen=True)
class RobustFit:
    """F of N matches from several starts.

    Attributes:
        fundamental: of the start with the least cost, (3, 3).
        errors: Sampson errors of the matches under it, pixels, corrected for the fit's degrees of freedom, (N,).
        all_errors: likewise for each start, (B, N). A start is one full estimate with random choices of its own.
    """

    fundamental: np.ndarray
    errors: np.ndarray
    all_errors: np.ndarray

    @property
    def median(self) -> float:
        """The median error, pixels."""
        return float(np.median(self.errors))

    @property
    def medians(self) -> tuple[float, ...]:
        """The median error of each start, pixels."""
        return tuple(np.median(self.all_errors, axis=1).tolist())


def fixed_fit(x: np.ndarray, y: np.ndarray, fundamental: np.ndarray, starts: int) -> RobustFit:
    """The errors under an F that was not estimated from these matches."""
    errors = sampson_distance(x, y, fundamental)
    return RobustFit(fundamental, errors, np.repeat(errors[None], starts, axis=0))


def robust_fit(
    x: np.ndarray, y: np.ndarray, settings: SampsonSettings, seed: int, intrinsics: np.ndarray | None = None
) -> RobustFit | str:
    """F of matches for the measures that compare videos, or the reason why no start gives one.

    `sampson.repeats` starts by MAGSAC++ (Barath 2020), each with the matches in another order and refined by `refine`. The
    start with the least cost is the result.

    Args:
        x, y: matched points, (N, 2), N at least 8.
        seed: of the orders.
        intrinsics: K (3, 3), required by `sampson.estimator=five_point`. Its F is not refined: that would drop K.
    """
    starts = range(seed * settings.repeats, (seed + 1) * settings.repeats)
    if settings.estimator == "five_point":
        assert intrinsics is not None
        return _five_point_fit(x, y, settings, starts, intrinsics)
    fits = [estimate_fundamental(x, y, settings.estimator, settings.threshold, s) for s in starts]
    found = [f for f in fits if not isinstance(f, str)]
    if not found:
        return _most_frequent(fits)
    refined = refine(x, y, np.stack(found))
    best = int(refined.costs.argmin())
    return RobustFit(refined.fundamentals[best], refined.corrected[best], refined.corrected)


def _five_point_fit(
    x: np.ndarray, y: np.ndarray, settings: SampsonSettings, starts: Sequence[int], intrinsics: np.ndarray
) -> RobustFit | str:
    fits = [fundamental_from_intrinsics(x, y, intrinsics, settings.threshold, s) for s in starts]
    found = [f for f in fits if not isinstance(f, str)]
    if not found:
        return _most_frequent(fits)
    errors = np.stack([sampson_distance(x, y, f) for f in found])
    best = int(np.median(errors, axis=1).argmin())
    return RobustFit(found[best], errors[best], errors)


def _most_frequent(fits: Sequence[np.ndarray | str]) -> str:
    """The reason that most starts give."""
    return Counter(f for f in fits if isinstance(f, str)).most_common(1)[0][0]
