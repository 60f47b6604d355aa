"""The report's statistics against closed forms, libraries and simulation (benchmarks/sweep_statistics.py has the long one)."""

import numpy as np
import pytest
from scipy import stats

from cosmos_exp.statistics.comparisons import difference, equivalence_p, holm, paired, permutation_p
from cosmos_exp.statistics.intervals import bootstrap_means, mean_interval, summarize
from cosmos_exp.statistics.power import power, prompts_needed, variance_components


def sweep(rng, prompts=25, seeds=2, mean=3.0):
    return list(rng.normal(mean, 1, (prompts, 1)) + rng.normal(0, 0.5, (prompts, seeds)))


def test_interval_covers_the_mean_about_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = 0
    for trial in range(150):
        _, low, high = mean_interval(sweep(rng), seed=trial)
        hits += low <= 3 <= high
    assert 0.88 <= hits / 150 <= 0.99


def test_the_bootstrap_resamples_prompts_and_seeds_within_them():
    rng = np.random.default_rng(0)
    one = [np.array([v]) for v in rng.normal(0, 1, 40)]
    # One seed: scipy's bootstrap of the plain mean is the same distribution.
    theirs = stats.bootstrap((np.concatenate(one),), np.mean, n_resamples=4000, rng=rng).standard_error
    assert bootstrap_means(one, 0, 4000).std() == pytest.approx(theirs, rel=0.05)
    # Equal prompts, seeds apart: only the seeds' spread is left. Two seeds at -1 and 1 have a mean of variance 1 / 2.
    groups = [np.array([-1.0, 1.0])] * 10
    assert bootstrap_means(groups, 0, 8000).var() == pytest.approx(0.5 / 10, rel=0.06)
    # Prompts of one and of three seeds weigh the same.
    uneven = [np.array([0.0]), np.array([3.0, 3.0, 3.0])]
    assert mean_interval(uneven)[0] == 1.5
    assert bootstrap_means(uneven, 0, 4000).mean() == pytest.approx(1.5, abs=0.06)


def test_missing_scores_are_counted_not_filled_in():
    def row(sample, seed, value):
        return {"sample": sample, "seed": seed, "measure": "physics", "value": value, "detail": {}}

    table = summarize([row("a", 0, 1), row("a", 1, 3), row("b", 0, 4), row("c", 0, None)])["physics"]
    assert (table["mean"], table["n"], table["videos"], table["missing"]) == (3.0, 2, 4, 1)
    assert summarize([row("a", 0, None)])["physics"]["mean"] is None


def test_differences_are_paired_and_what_one_lacks_is_counted():
    first = {("a", 0): 1.0, ("a", 1): 2.0, ("b", 0): None, ("c", 0): 5.0}
    second = {("a", 0): 2.0, ("a", 1): 4.0, ("b", 0): 3.0, ("d", 0): 1.0}
    groups, left_out = paired(first, second)
    assert [g.tolist() for g in groups] == [[1.0, 2.0]]
    assert left_out == 3
    found = difference("x", "y", "physics", first, second)
    assert (found.mean, found.n, found.p) == (1.5, 1, None)


def test_the_permutation_test_by_hand():
    # Five equal signs: of 32 sign patterns two are as extreme.
    assert permutation_p(np.array([1.0, 2, 3, 4, 5])) == pytest.approx(2 / 32)
    assert permutation_p(np.zeros(5)) == 1
    values = np.random.default_rng(0).normal(0.4, 1, 60)
    assert permutation_p(values) == pytest.approx(stats.ttest_1samp(values, 0).pvalue, abs=0.01)


def test_equivalence_is_two_one_sided_t_tests():
    values = np.random.default_rng(0).normal(0.05, 0.3, 30)
    low = stats.ttest_1samp(values, -0.25, alternative="greater").pvalue
    high = stats.ttest_1samp(values, 0.25, alternative="less").pvalue
    assert equivalence_p(values, 0.25) == pytest.approx(max(low, high))
    assert equivalence_p(values, None) is None
    assert equivalence_p(np.zeros(8), 0.25) is None  # no spread: nothing to test against


def test_false_positives_stay_near_the_level():
    rng = np.random.default_rng(1)
    false = np.mean([permutation_p(rng.normal(0, 1, 12), k) < 0.05 for k in range(300)])
    at_margin = np.mean([equivalence_p(rng.normal(0.5, 1, 12), 0.5) < 0.05 for _ in range(300)])
    assert false <= 0.085
    assert at_margin <= 0.085


def test_holm_by_hand():
    def one(p):
        return difference("a", "b", "physics", {("x", 0): 0.0}, {("x", 0): 1.0}).__class__(
            "a", "b", "physics", 1.0, 0.0, 2.0, 5, 5, 0, p=p
        )

    corrected = [d.p_holm for d in holm([one(0.01), one(0.04), one(0.03), one(None)])]
    # 3 x 0.01; then the larger of 2 x 0.03 and what came before; then no less than that.
    assert corrected == [pytest.approx(0.03), pytest.approx(0.06), pytest.approx(0.06), None]


def spread(deviation, prompts=200):
    """Differences with one seed per prompt, with exactly this standard deviation between prompts."""
    values = np.random.default_rng(0).normal(0, 1, prompts)
    return [np.array([deviation * v]) for v in (values - values.mean()) / values.std(ddof=1)]


@pytest.mark.parametrize(
    ("size", "needed"),
    # d_z and sample size for 80 % power, two-sided alpha 0.05: G*Power 3.1 and Cohen (1988), one-sample or paired t-test.
    [(0.2, 199), (0.5, 34), (0.8, 15)],
)
def test_sample_sizes_of_the_textbook(size, needed):
    groups = spread(2.0)
    assert prompts_needed(groups, 2 * size, 1) == needed
    assert prompts_needed(groups, -2 * size, 1) == needed
    assert power(groups, 2 * size, needed, 1) >= 0.8 > power(groups, 2 * size, needed - 1, 1)


def test_power_agrees_with_a_simulated_t_test():
    rng = np.random.default_rng(0)
    groups = sweep(rng, 400, 5, 0.0)
    between, within = variance_components(groups)
    assert between == pytest.approx(1, rel=0.15)
    assert within == pytest.approx(0.25, rel=0.15)
    for effect, prompts, seeds in ((0.5, 30, 2), (0.25, 100, 1), (1.0, 8, 5), (0.0, 20, 1)):
        means = effect + rng.normal(0, np.sqrt(between + within / seeds), (20000, prompts))
        simulated = (stats.ttest_1samp(means, 0, axis=1).pvalue < 0.05).mean()
        assert power(groups, effect, prompts, seeds) == pytest.approx(simulated, abs=0.012), (effect, prompts)


def test_power_at_its_limits():
    groups = spread(1.0)
    assert prompts_needed(groups, 0, 1) is None
    assert prompts_needed(groups, 0.001, 1) is None
    assert prompts_needed(groups, 0.5, 1, most=33) is None
    assert [prompts_needed(groups, effect, 1) for effect in (4, 10, 15, 2000)] == [3, 3, 2, 2]
    for effect in np.geomspace(0.01, 2000, 30):
        found = [power(groups, effect, n, 1) for n in (2, 3, 8, 50, 4096)]
        assert np.all(np.diff(found) >= -1e-9), effect
        assert 0.05 <= found[0] <= found[-1] <= 1
    same = [np.array([1.0, 1.0])] * 4
    assert power(same, 0.1, 4, 2) == 1
    assert power(same, 0.0, 4, 2) == 0
