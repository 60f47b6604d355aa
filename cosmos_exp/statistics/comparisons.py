"""Paired differences between two runs: permutation test, test of equivalence, effect size, Holm's correction."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from scipy import stats

from cosmos_exp.statistics.intervals import RESAMPLES, Groups, Values, mean_interval

PERMUTATIONS = 9999
NO_SPREAD = 1e-12  # a smaller range of the prompt means is rounding: there is no error to test against

Key = TypeVar("Key", bound=tuple[str, Hashable])  # the prompt, then what identifies a video of it


@dataclass(frozen=True)
class Difference:
    """b minus a over the prompts and seeds that both have, in the measure's unit.

    Attributes:
        n: Number of prompts.
        pairs: Number of pairs of videos.
        left_out: Videos for which only one of the two has a score.
        p: Two-sided paired permutation test (signs of the mean differences per prompt).
        margin: Margin of the test of equivalence.
        p_equivalent: Two one-sided t-tests against +-margin; None without a margin.
        p_holm, p_equivalent_holm: The same after Holm's correction over the family.
        effect: Cohen's d_z over prompts, with the ends of its interval.
    """

    a: str
    b: str
    measure: str
    mean: float | None
    ci_low: float | None
    ci_high: float | None
    n: int
    pairs: int
    left_out: int
    p: float | None = None
    p_holm: float | None = None
    margin: float | None = None
    p_equivalent: float | None = None
    p_equivalent_holm: float | None = None
    effect: float | None = None
    effect_low: float | None = None
    effect_high: float | None = None


def paired(a: Mapping[Key, float | None], b: Mapping[Key, float | None]) -> tuple[Groups, int]:
    """Differences b - a by prompt, of the videos for which both have a score, and the number of videos with only one."""
    groups: dict[str, list[float]] = defaultdict(list)
    left_out = 0
    for key in sorted(set(a) | set(b), key=str):
        first, second = a.get(key), b.get(key)
        if first is None or second is None:
            left_out += (first is None) != (second is None)
            continue
        groups[key[0]].append(second - first)
    return [np.array(g) for g in groups.values()], left_out


def difference(
    a: str,
    b: str,
    measure: str,
    first: Mapping[Key, float | None],
    second: Mapping[Key, float | None],
    margin: float | None = None,
    seed: int = 0,
) -> Difference:
    """The difference b - a with its interval and tests; `holm` adds the corrected p values.

    Args:
        a, b: Names.
        first, second: Values of a and of b by (prompt, video).
        margin: Margin of equivalence in the measure's unit; None for no test of equivalence.
        seed: Seed of the bootstrap and of the random signs.
    """
    groups, left_out = paired(first, second)
    mean, low, high = mean_interval(groups, seed)
    pairs = sum(len(g) for g in groups)
    if len(groups) < 2:
        return Difference(a, b, measure, mean, low, high, len(groups), pairs, left_out, margin=margin)
    means = np.array([g.mean() for g in groups])
    effect, effect_low, effect_high = effect_size(groups, seed)
    return Difference(
        a=a,
        b=b,
        measure=measure,
        mean=mean,
        ci_low=low,
        ci_high=high,
        n=len(groups),
        pairs=pairs,
        left_out=left_out,
        p=permutation_p(means, seed),
        margin=margin,
        p_equivalent=equivalence_p(means, margin),
        effect=effect,
        effect_low=effect_low,
        effect_high=effect_high,
    )


def permutation_p(means: Values, seed: int = 0) -> float:
    """Two-sided p value of the mean of paired differences under random signs: exact up to 13 prompts, else 9,999 draws."""
    if not np.any(means):
        return 1.0
    found = stats.permutation_test(
        (means,),
        np.mean,
        permutation_type="samples",
        n_resamples=PERMUTATIONS,
        vectorized=True,
        alternative="two-sided",
        rng=np.random.default_rng(seed),
    )
    return float(found.pvalue)


def equivalence_p(means: Values, margin: float | None) -> float | None:
    """The larger p value of two one-sided t-tests (Schuirmann 1987). A small one means: the difference lies within +-margin.

    Returns:
        None without a margin, and where all prompts differ by the same amount (the test is undefined there, e.g. when all
        scores are at the end of their scale).
    """
    from statsmodels.stats.weightstats import DescrStatsW

    if margin is None or np.ptp(means) < NO_SPREAD:
        return None
    return float(DescrStatsW(means).ttost_mean(-margin, margin)[0])


def effect_size(groups: Groups, seed: int = 0) -> tuple[float | None, float | None, float | None]:
    """Cohen's d_z of the mean differences per prompt, with a 95 % percentile bootstrap interval over prompts.

    Returns:
        d_z, lower and upper end; None for fewer than three prompts or without spread.
    """
    means = np.array([g.mean() for g in groups])
    if len(means) < 3 or np.ptp(means) < NO_SPREAD:
        return None, None, None
    rng = np.random.default_rng(seed)
    drawn = means[rng.integers(0, len(means), (RESAMPLES, len(means)))]
    spread = drawn.std(axis=1, ddof=1)
    ratios = drawn.mean(axis=1)[spread > 0] / spread[spread > 0]
    low, high = np.percentile(ratios, [2.5, 97.5])
    return float(means.mean() / means.std(ddof=1)), float(low), float(high)


def holm(differences: list[Difference]) -> list[Difference]:
    """The differences of one family with corrected p values (Holm 1979), each of the two tests as a family of its own."""
    different = _holm([d.p for d in differences])
    equivalent = _holm([d.p_equivalent for d in differences])
    return [
        replace(d, p_holm=p, p_equivalent_holm=q) for d, p, q in zip(differences, different, equivalent, strict=True)
    ]


def _holm(values: list[float | None]) -> list[float | None]:
    """Corrected p values; None stays None and does not count."""
    from statsmodels.stats.multitest import multipletests

    tested = [p for p in values if p is not None]
    corrected = iter(multipletests(tested, method="holm")[1] if tested else ())
    return [None if p is None else float(next(corrected)) for p in values]
