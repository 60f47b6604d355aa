"""Power of a paired comparison: how many prompts a sweep needs."""

from __future__ import annotations

import math

import numpy as np

from cosmos_exp.statistics.intervals import LEVEL, Groups

MOST_PROMPTS = 4096  # `prompts_needed` searches no further


def variance_components(groups: Groups) -> tuple[float, float]:
    """Variance of the true difference between prompts, and of one seed within a prompt (one-way random effects).

    Args:
        groups: Differences of each prompt, one per seed; at least two prompts.
    """
    within = [g.var(ddof=1) for g in groups if len(g) > 1]
    inner = float(np.mean(within)) if within else 0.0
    means = np.array([g.mean() for g in groups])
    seeds = float(np.mean([len(g) for g in groups]))
    return max(float(means.var(ddof=1)) - inner / seeds, 0.0), inner


def power(groups: Groups, effect: float, prompts: int, seeds: int) -> float:
    """Power of the two-sided paired t-test at the 5 % level, from the noncentral t distribution (statsmodels).

    The standard deviation of a prompt's mean difference is that of the measured variance components.

    Args:
        groups: Measured differences of each prompt, one per seed; at least two prompts.
        effect: True difference, in the measure's unit.
        prompts: Number of prompts of the planned sweep, at least 2.
        seeds: Number of seeds per prompt of the planned sweep.
    """
    from statsmodels.stats.power import TTestPower

    between, within = variance_components(groups)
    deviation = math.sqrt(between + within / seeds)
    if deviation == 0:
        return float(effect != 0)
    size, test = abs(effect) / deviation, TTestPower()
    found = float(test.power(size, prompts, LEVEL))
    if math.isnan(found):  # scipy's lower tail is NaN for very large effects, where it adds nothing
        found = float(test.power(size, prompts, LEVEL / 2, alternative="larger"))
    return 1.0 if math.isnan(found) else found


def prompts_needed(
    groups: Groups, effect: float, seeds: int, wanted: float = 0.8, most: int = MOST_PROMPTS
) -> int | None:
    """The smallest number of prompts with a power of at least `wanted`; None if `most` prompts are too few.

    A bisection, because statsmodels' own solver returns NaN or a wrong number where fewer than 3 prompts are enough.
    """
    if effect == 0 or power(groups, effect, most, seeds) < wanted:
        return None
    low, high = 2, most
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if power(groups, effect, middle, seeds) >= wanted else (middle + 1, high)
    return low
