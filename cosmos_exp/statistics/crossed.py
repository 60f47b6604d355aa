"""The mean of scores, or of differences of two adapters, when scenes and training runs are both random.

The model of the score of adapter a on scene c by training run r is

    y[a, c, r] = mean[a] + scene[c] + (adapter x scene)[a, c] + run[a, r] + rest[a, c, r]

with independent effects. A training run shifts all scenes together, so scenes and runs are crossed. Two adapters share
the scenes, but not the runs. The variance components are those of the analysis of variance for balanced data (Searle,
Casella and McCulloch, Variance Components, 1992, chapter 4).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import special

LEVEL = 0.05  # of the tests; intervals cover 1 - LEVEL
NO_SPREAD = 1e-12  # a smaller standard deviation, relative to the values, is rounding
# Satterthwaite (1946) has 2. With three runs and many scenes that rejects up to 8 % at the 5 % level, since a small
# variance of the runs is then often luck. Linear shares (1) reject 2 to 6 %. See docs/statistics.md.
SHARE_EXPONENT = 1.25

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A mean and what its interval needs. Every field has the leading shape of the cells.

    Attributes:
        mean: The mean, or the difference of two means.
        variance: Variance of `mean`: `scenes` + `runs`.
        scenes, runs: The parts of `variance` that more scenes and more training runs reduce.
        df: Degrees of freedom of `variance`.
        run_df: Degrees of freedom of `runs`.
        skew: Skewness of the distribution of `mean`, from that of the scenes.
    """

    mean: Values
    variance: Values
    scenes: Values
    runs: Values
    df: Values
    run_df: Values
    skew: Values

    def p(self, value: float = 0.0) -> Values:
        """Two-sided p value of the hypothesis that the true mean is `value`."""
        return np.minimum(1.0, 2.0 * np.minimum(self.p_above(value), self.p_below(value)))

    def p_above(self, value: float) -> Values:
        """p value of the hypothesis that the true mean is at most `value`. Small: it is above."""
        return self._tail(np.minimum, value, -1.0)

    def p_below(self, value: float) -> Values:
        """p value of the hypothesis that the true mean is at least `value`. Small: it is below."""
        return self._tail(np.maximum, value, 1.0)

    def _tail(self, less_extreme: np.ufunc, value: float, sign: float) -> Values:
        """The larger of the p values of Student's t and of the t corrected for skewness."""
        with np.errstate(divide="ignore", invalid="ignore"):
            t = (self.mean - value) / np.sqrt(self.variance)
            tail: Values = special.stdtr(self.df, sign * less_extreme(t, _corrected(t, self.skew)))
        return tail

    def interval(self, level: float = LEVEL) -> tuple[Values, Values]:
        """The interval of all means that `p` does not reject at `level`: the union of both t intervals."""
        t = special.stdtrit(self.df, 1 - level / 2)
        error = np.sqrt(self.variance)
        low = self.mean - np.maximum(t, _uncorrected(t, self.skew)) * error
        high = self.mean - np.minimum(-t, _uncorrected(-t, self.skew)) * error
        return low, high


def estimate(cells: Sequence[Values], signs: Sequence[float] = (1.0,), random_runs: bool = True) -> Estimate:
    """The signed sum of the means of one or two adapters.

    Args:
        cells: For each adapter the mean score of each scene in each training run, (..., scenes, runs). All have the same
            scenes, at least two. An adapter with one run adds no variance of runs: the base, or a single training.
        signs: 1 or -1 for each adapter.
        random_runs: False: a statement about these runs only; their variance does not count.
    """
    scenes: Values = np.sum([s * y.mean(-1) for s, y in zip(signs, cells, strict=True)], axis=0)  # (..., scenes)
    count = scenes.shape[-1]
    between = scenes.var(-1, ddof=1) / count
    parts = [(run_variance(y), y.shape[-1] - 1) for y in cells if random_runs and y.shape[-1] > 1]
    runs = np.zeros_like(between) + sum(part for part, _ in parts)
    squares = np.zeros_like(between) + sum(part**2 / df for part, df in parts)
    run_df = np.where(squares > 0, runs**2 / np.where(squares > 0, squares, 1.0), 1.0)
    variance = between + runs
    share = np.where(variance > 0, between / np.where(variance > 0, variance, 1.0), 1.0)
    df = degrees_of_freedom(share, count - 1, run_df)
    return Estimate(
        mean=scenes.mean(-1),
        variance=variance,
        scenes=between,
        runs=runs,
        df=df,
        run_df=run_df,
        skew=_skewness(scenes) / np.sqrt(count) * share**1.5,
    )


def run_variance(cells: Values) -> Values:
    """The part of the variance of one adapter's mean that comes from its training runs, (...).

    The variance of the run means over the number of runs, less what the rest (scene x run, noise) adds to it; at least 0.

    Args:
        cells: (..., scenes, runs) with at least two runs and two scenes.
    """
    scenes, runs = cells.shape[-2:]
    of_runs, of_scenes = cells.mean(-2, keepdims=True), cells.mean(-1, keepdims=True)
    rest = cells - of_runs - of_scenes + cells.mean((-2, -1), keepdims=True)
    mean_square = (rest**2).sum((-2, -1)) / ((scenes - 1) * (runs - 1))
    part: Values = np.maximum(of_runs[..., 0, :].var(-1, ddof=1) - mean_square / scenes, 0.0) / runs
    return part


def degrees_of_freedom(share: Values | float, scene_df: float, run_df: Values | float) -> Values:
    """Degrees of freedom of the sum of two variances, of which `share` comes from the scenes.

    Satterthwaite's formula (Biometrics Bulletin 2, 1946) is this one with SHARE_EXPONENT = 2.
    """
    share = np.asarray(share, dtype=np.float64)
    inverse = share**SHARE_EXPONENT / scene_df + (1 - share) ** SHARE_EXPONENT / run_df
    df: Values = np.asarray(1.0 / inverse)
    return df


def _skewness(values: Values) -> Values:
    """Adjusted sample skewness over the last axis (Joanes and Gill 1998, G1); 0 for fewer than 3 values or no spread."""
    count = values.shape[-1]
    centred = values - values.mean(-1, keepdims=True)
    second, third = (centred**2).mean(-1), (centred**3).mean(-1)
    spread = np.sqrt(second) > NO_SPREAD * np.maximum(np.abs(values).max(-1), 1.0)
    if count < 3:
        return np.zeros_like(second)
    factor = np.sqrt(count * (count - 1)) / (count - 2)
    skewness: Values = np.where(spread, factor * third / np.where(spread, second, 1.0) ** 1.5, 0.0)
    return skewness


def _corrected(t: Values, skew: Values) -> Values:
    """Hall's monotone cubic transformation of t, which removes the effect of skewness (Hall, JRSS B 54, 1992, p. 221-228)."""
    return t + skew * (t**2 / 3 + 1 / 6) + skew**2 * t**3 / 27


def _uncorrected(t: Values, skew: Values) -> Values:
    """The inverse of `_corrected`."""
    safe = np.where(np.abs(skew) > 1e-9, skew, 1.0)
    plain: Values = np.where(np.abs(skew) > 1e-9, 3 * (np.cbrt(1 + safe * (t - safe / 6)) - 1) / safe, t)
    return plain
