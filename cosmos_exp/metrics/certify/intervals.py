"""The area under the ROC curve, shares and means, with intervals that have a width where nothing varies."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray
from scipy import stats

LEVEL = 0.05  # of intervals and tests

Values = NDArray[np.float64]
Interval = tuple[float, float]


def by_recording(values: Mapping[str, float], recordings: Mapping[str, str]) -> Values:
    """The mean of each recording's clips, (recordings,)."""
    groups: dict[str, list[float]] = defaultdict(list)
    for clip, value in values.items():
        groups[recordings[clip]].append(value)
    return np.array([np.mean(groups[name]) for name in sorted(groups)])


def auc(clean: Values, faulty: Values) -> float:
    """P(faulty > clean) + P(equal) / 2 over all pairs: the Mann-Whitney statistic over its maximum."""
    greater = (faulty[:, None] > clean[None, :]).mean()
    return float(greater + 0.5 * (faulty[:, None] == clean[None, :]).mean())


def auc_interval(area: float, n: int, level: float = LEVEL) -> Interval:
    """Newcombe's score interval (2006, method 5) for an AUC from n clean and n faulty clips.

    It solves |area - t| = z sqrt(V(t)) with V(t) = t (1 - t) (2 n - 1 - (3 n - 3) / ((2 - t) (1 + t))) / n^2. It has a
    width where the two samples do not overlap, and it ignores that the samples are paired, which makes it wider. With
    the number of recordings for n it holds for clips that depend on each other within a recording.
    """
    z = float(stats.norm.ppf(1 - level / 2))

    def excess(t: float) -> float:
        return (area - t) ** 2 - z**2 * t * (1 - t) * (2 * n - 1 - (3 * n - 3) / ((2 - t) * (1 + t))) / n**2

    return _root(excess, 0.0, area), _root(excess, 1.0, area)


def _root(excess: Callable[[float], float], far: float, near: float) -> float:
    """Where `excess` changes its sign between `far` (positive) and `near` (not positive), by bisection."""
    if excess(far) <= 0 or far == near:
        return far
    for _ in range(60):
        middle = (far + near) / 2
        far, near = (middle, near) if excess(middle) > 0 else (far, middle)
    return (far + near) / 2


def wilson(share: float, n: int, level: float = LEVEL) -> Interval:
    """Wilson's score interval of a share of n recordings."""
    z = float(stats.norm.ppf(1 - level / 2))
    middle = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * float(np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)))
    return max(middle - half, 0.0), min(middle + half, 1.0)


def t_interval(values: Values, level: float = LEVEL) -> Interval | None:
    """The t interval of a mean; None for fewer than two values."""
    if len(values) < 2:
        return None
    half = float(stats.t.ppf(1 - level / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
    return float(values.mean()) - half, float(values.mean()) + half
