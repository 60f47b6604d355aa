"""The statistics of an ablation. The unit is the prompt; seeds lie within prompts; runs are paired by prompt and seed."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

RESAMPLES = 2000
PERMUTATIONS = 9999
LEVEL = 0.05

Groups = list[np.ndarray]  # a 1-d array of values (one a seed) for each prompt


def prompt_groups(rows: Iterable[Mapping[str, Any]], measure: str) -> dict[str, np.ndarray]:
    """Each prompt's values, one a seed; missing scores (None) are left out, never filled in."""
    values = defaultdict(list)
    for row in rows:
        if row["measure"] == measure and row["value"] is not None:
            values[row["sample"]].append(float(row["value"]))
    return {sample: np.array(v) for sample, v in sorted(values.items())}


def bootstrap_means(groups: Groups, seed: int = 0, resamples: int = RESAMPLES) -> np.ndarray:
    """Means of `resamples` draws: prompts with replacement, then within each the seeds with replacement; (resamples,)."""
    counts = np.array([len(g) for g in groups])
    values = np.zeros((len(groups), counts.max()))
    for i, group in enumerate(groups):
        values[i, : len(group)] = group
    rng = np.random.default_rng(seed)
    prompts = rng.integers(0, len(groups), (resamples, len(groups)))
    own = counts[prompts][..., None]
    picks = (rng.random((resamples, len(groups), counts.max())) * own).astype(int)
    inside = np.arange(counts.max()) < own
    drawn = values[prompts[..., None], picks]
    return ((drawn * inside).sum(2) / own[..., 0]).mean(1)


def mean_interval(groups: Groups, seed: int = 0) -> tuple[float | None, float | None, float | None]:
    """Mean of the prompts' means and its 95 % percentile bootstrap interval; the interval is None for one prompt."""
    if not groups:
        return None, None, None
    mean = float(np.mean([g.mean() for g in groups]))
    if len(groups) < 2:
        return mean, None, None
    if np.ptp(np.concatenate(groups)) == 0:
        return mean, mean, mean
    low, high = np.percentile(bootstrap_means(groups, seed), [100 * LEVEL / 2, 100 - 100 * LEVEL / 2])
    return mean, float(low), float(high)


def summarize(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """{measure: mean, ci_low, ci_high, n (prompts), videos, missing} for every measure in the rows."""
    table: dict[str, dict[str, Any]] = {}
    for measure in sorted({r["measure"] for r in rows}):
        groups = list(prompt_groups(rows, measure).values())
        mean, low, high = mean_interval(groups)
        own = [r for r in rows if r["measure"] == measure]
        missing = [r for r in own if r["value"] is None]
        table[measure] = {
            "mean": mean, "ci_low": low, "ci_high": high, "n": len(groups), "videos": len(own), "missing": len(missing),
        }  # fmt: skip
        if mean is None and missing:
            table[measure]["reason"] = (missing[0].get("detail") or {}).get("reason") or "no answer held a score"
    return table


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
    a: str, b: str, measure: str, first: Mapping[Key, float | None], second: Mapping[Key, float | None],
    margin: float | None = None, seed: int = 0,
) -> Difference:  # fmt: skip
    """All that can be said of b minus a; the Holm figures are filled in by `holm`."""
    groups, left_out = paired(first, second)
    mean, low, high = mean_interval(groups, seed)
    pairs = sum(len(g) for g in groups)
    if len(groups) < 2:
        return Difference(a, b, measure, mean, low, high, len(groups), pairs, left_out, margin=margin)
    means = np.array([g.mean() for g in groups])
    effect, effect_low, effect_high = effect_size(groups, seed)
    return Difference(
        a, b, measure, mean, low, high, len(groups), pairs, left_out, permutation_p(means, seed), None, margin,
        equivalence_p(means, margin), None, effect, effect_low, effect_high,
    )  # fmt: skip


def permutation_p(means: np.ndarray, seed: int = 0) -> float:
    """Two-sided p of the mean of paired differences under random signs: exact up to 13 prompts, else 9,999 draws."""
    if not np.any(means):
        return 1.0
    found = stats.permutation_test(
        (means,), np.mean, permutation_type="samples", n_resamples=PERMUTATIONS, vectorized=True, alternative="two-sided",
        rng=np.random.default_rng(seed),
    )  # fmt: skip
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
