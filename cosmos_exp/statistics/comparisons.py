"""The statistics of an ablation. The unit is the prompt; seeds lie within prompts; runs are paired by prompt and seed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from cosmos_exp.statistics.intervals import RESAMPLES, Groups, mean_interval

PERMUTATIONS = 9999


# --- differences between two runs -------------------------------------------------------------------------------
@dataclass(frozen=True)
class Difference:
    """b minus a over the prompts and seeds that both have, in the measure's own units.

    p: paired permutation test (signs of the prompts' mean differences), two-sided; p_holm: after Holm over its family.
    p_equivalent: two one-sided t-tests against +-margin; None without a margin. effect: Cohen's d_z over prompts.
    left_out: videos that only one of the two has a score for.
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


Key = tuple[str, Any]  # prompt, then whatever numbers the video within it


def paired(a: Mapping[Key, float | None], b: Mapping[Key, float | None]) -> tuple[Groups, int]:
    """b - a of each video that both score, grouped by prompt; and how many videos only one scores."""
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
    """All that can be said of b minus a; the Holm figures are filled in by `holm`."""
    groups, left_out = paired(first, second)
    mean, low, high = mean_interval(groups, seed)
    pairs = sum(len(g) for g in groups)
    if len(groups) < 2:
        return Difference(a, b, measure, mean, low, high, len(groups), pairs, left_out, margin=margin)
    means = np.array([g.mean() for g in groups])
    effect, effect_low, effect_high = effect_size(groups, seed)
    return Difference(
        a,
        b,
        measure,
        mean,
        low,
        high,
        len(groups),
        pairs,
        left_out,
        permutation_p(means, seed),
        None,
        margin,
        equivalence_p(means, margin),
        None,
        effect,
        effect_low,
        effect_high,
    )


def permutation_p(means: np.ndarray, seed: int = 0) -> float:
    """Two-sided p of the mean of paired differences under random signs: exact up to 13 prompts, else 9,999 draws."""
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


def equivalence_p(means: np.ndarray, margin: float | None) -> float | None:
    """The larger p of two one-sided t-tests (Schuirmann 1987): small means the true difference lies within +-margin.

    None without a margin, and where all prompts differ by the same.
    """
    if margin is None:
        return None
    from statsmodels.stats.weightstats import DescrStatsW

    if (
        np.ptp(means) < 1e-12
    ):  # without spread there is no error to test against (scores at the end of their scale, say)
        return None
    return float(DescrStatsW(means).ttost_mean(-margin, margin)[0])


def effect_size(groups: Groups, seed: int = 0) -> tuple[float | None, float | None, float | None]:
    """Cohen's d_z of the prompts' mean differences with a percentile bootstrap interval over prompts; None without spread."""
    means = np.array([g.mean() for g in groups])
    if len(means) < 3 or np.ptp(means) < 1e-12:
        return None, None, None
    rng = np.random.default_rng(seed)
    drawn = means[rng.integers(0, len(means), (RESAMPLES, len(means)))]
    spread = drawn.std(axis=1, ddof=1)
    ratios = drawn.mean(axis=1)[spread > 0] / spread[spread > 0]
    low, high = np.percentile(ratios, [2.5, 97.5])
    return float(means.mean() / means.std(ddof=1)), float(low), float(high)


def holm(differences: list[Difference]) -> list[Difference]:
    """The same with p values corrected over the family (Holm 1979), superiority and equivalence each as a family."""
    from dataclasses import replace

    from statsmodels.stats.multitest import multipletests

    out = list(differences)
    for name, corrected in (("p", "p_holm"), ("p_equivalent", "p_equivalent_holm")):
        there = [i for i, d in enumerate(out) if getattr(d, name) is not None]
        if there:
            values = multipletests([getattr(out[i], name) for i in there], method="holm")[1]
            for i, value in zip(there, values, strict=True):
                out[i] = replace(out[i], **{corrected: float(value)})  # type: ignore[arg-type]
    return out
