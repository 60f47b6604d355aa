"""The statistics of an ablation. The unit is the prompt; seeds lie within prompts; runs are paired by prompt and seed."""

from __future__ import annotations

import numpy as np
from scipy import stats

from cosmos_exp.statistics.intervals import LEVEL, Groups


# --- how many would it need -------------------------------------------------------------------------------------
def variance_components(groups: Groups) -> tuple[float, float]:
    """Variance of the true difference between prompts and of one seed within a prompt (one-way random effects)."""
    within = [g.var(ddof=1) for g in groups if len(g) > 1]
    inner = float(np.mean(within)) if within else 0.0
    means = np.array([g.mean() for g in groups])
    seeds = float(np.mean([len(g) for g in groups]))
    return max(float(means.var(ddof=1)) - inner / seeds, 0.0), inner


def power(groups: Groups, effect: float, prompts: int, seeds: int, trials: int = 2000, seed: int = 0) -> float:
    """Share of simulated studies of this size that find a true difference of `effect` at the 5 % level (paired t-test).

    Prompts' true differences and seeds' noise are normal with the measured variances.
    """
    between, within = variance_components(groups)
    rng = np.random.default_rng(seed)
    means = effect + rng.normal(0, np.sqrt(between + within / seeds), (trials, prompts))
    return float((stats.ttest_1samp(means, 0, axis=1).pvalue < LEVEL).mean())


def prompts_needed(groups: Groups, effect: float, seeds: int, wanted: float = 0.8, most: int = 4096) -> int | None:
    """The fewest prompts at which `power` reaches `wanted`; None when even `most` do not."""
    if effect == 0 or power(groups, effect, most, seeds, 200) < wanted:
        return None
    low, high = 2, most
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if power(groups, effect, middle, seeds, 1000) >= wanted else (middle + 1, high)
    return low
