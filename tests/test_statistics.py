"""The report's statistics against closed forms, libraries and simulation (benchmarks/sweep_statistics.py has the long one)."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from cosmos_exp.statistics.cells import paired_cells, video_table
from cosmos_exp.statistics.comparisons import MIN_SCENES, Difference, difference, equivalence_p, holm, sign_p
from cosmos_exp.statistics.crossed import estimate, run_variance
from cosmos_exp.statistics.intervals import mean_interval, summarize
from cosmos_exp.statistics.power import Design, power, runs_needed, scenes_needed


def symmetric(count, deviation=1.0, mean=0.0):
    """Values without skewness, with exactly this mean and standard deviation."""
    values = stats.norm.ppf((np.arange(count) + 0.5) / count)
    return mean + deviation * values / values.std(ddof=1)


def test_one_run_is_students_t_and_skewness_only_widens():
    values = symmetric(12, 0.7, 0.4)
    found = estimate([values[:, None]])
    assert float(found.p()) == pytest.approx(stats.ttest_1samp(values, 0).pvalue)
    low, high = stats.t.interval(0.95, 11, values.mean(), stats.sem(values))
    assert mean_interval(values[:, None]) == pytest.approx((0.4, low, high))
    skewed = np.random.default_rng(0).exponential(size=10) - 1
    low, high = stats.t.interval(0.95, 9, skewed.mean(), stats.sem(skewed))
    found = estimate([skewed[:, None]])
    wider = found.interval()
    assert wider[0] == pytest.approx(low)
    assert wider[1] > high + 0.05  # a sample of a distribution with a long right tail often lacks the tail
    assert [float(found.p(end)) for end in wider] == pytest.approx([0.05, 0.05])


def test_a_training_run_shifts_all_scenes():
    """The run component is that of the two-way analysis of variance (statsmodels)."""
    from statsmodels.formula.api import ols
    from statsmodels.stats.anova import anova_lm

    rng = np.random.default_rng(0)
    cells = rng.normal(size=(9, 1)) + np.array([0.0, 1.0, 3.0]) + 0.5 * rng.normal(size=(9, 3))
    scene, run = np.indices(cells.shape)
    table = pd.DataFrame({"y": cells.ravel(), "scene": scene.ravel(), "run": run.ravel()})
    squares = anova_lm(ols("y ~ C(scene) + C(run)", table).fit())["mean_sq"]
    assert run_variance(cells) == pytest.approx((squares["C(run)"] - squares["Residual"]) / cells.size)
    found = estimate([cells])
    assert found.variance == pytest.approx(found.scenes + found.runs)


def row(sample, seed, value, measure="physics"):
    return {"sample": sample, "seed": seed, "measure": measure, "value": value, "detail": {}}


def test_missing_scores_are_counted_not_filled_in():
    rows = [row("a", 0, 1), row("a", 1, 3), row("b", 0, 4), row("c", 0, None)]
    table = summarize(rows)["physics"]
    assert (table["mean"], table["n"], table["videos"], table["missing"]) == (3.0, 2, 4, 1)
    assert summarize([row("a", 0, None)])["physics"]["mean"] is None
    twins = summarize(rows, {"a": "one frame", "b": "one frame"})["physics"]
    assert (twins["mean"], twins["n"], twins["ci_low"]) == (3.0, 1, None)


def test_the_interval_of_a_mean_ends_at_the_measures_limits():
    rows = [row("a", 0, 5.0), row("b", 0, 5.0), row("c", 0, 4.0)]
    free, cut = summarize(rows)["physics"], summarize(rows, limits={"physics": (1, 5)})["physics"]
    assert free["ci_high"] > cut["ci_high"] == 5
    assert cut["ci_low"] == free["ci_low"]


def table(values, scenes=None):
    """The table of {(prompt, noise, training seed): value}."""
    rows = pd.DataFrame(list(values), columns=["prompt", "noise", "seed"])
    scene = rows["prompt"].map(scenes or {}).fillna(rows["prompt"])
    return video_table(rows.assign(scene=scene, value=np.array(list(values.values()), dtype=float)))


def compare(first, second, margin=None, scenes=None, **options):
    cells = paired_cells(table(first, scenes), table(second, scenes))
    return difference("x", "y", "physics", cells, margin, **options)


def one_run(values):
    return {(str(k), 0, 0): float(value) for k, value in enumerate(values)}


def test_differences_are_paired_and_what_one_lacks_is_counted():
    first = {("a", 0, 0): 1.0, ("b", 0, 0): None, ("c", 0, 0): 5.0, ("a", 1, 0): 2.0}
    second = {("a", 0, 0): 2.0, ("b", 0, 0): 3.0, ("d", 0, 0): 1.0, ("a", 1, 0): 4.0}
    found = compare(first, second)
    assert (found.mean, found.n, found.pairs, found.left_out, found.p) == (1.5, 1, 2, 3, None)
    assert compare(first, {("a", 0, 0): None}).mean is None


def test_prompts_of_one_scene_are_one_observation():
    names = {(f"{k}_{hand}", 0, 0): float(k) for k in range(5) for hand in ("left", "right")}
    zero, scenes = dict.fromkeys(names, 0.0), {n: n[0] for n, _, _ in names}
    twins, once = compare(zero, names, scenes=scenes), compare(one_run([0] * 5), one_run(range(5)))
    assert (twins.n, twins.prompts, twins.p, twins.low) == (5, 10, pytest.approx(once.p), pytest.approx(once.low))


@pytest.mark.parametrize(("runs", "trained"), [((3, 3), (True, True)), ((1, 3), (False, True))])
def test_three_runs_speak_of_the_recipe(runs, trained):
    arms = [{(str(k), 0, r): k + 0.1 * r * (k % 3) for k in range(6) for r in range(count)} for count in runs]
    assert compare(*arms, trained=trained).recipe
    two = {key: value for key, value in arms[1].items() if key[2] < 2}
    assert not compare(arms[0], two, trained=trained).recipe


def test_equivalence_is_two_one_sided_t_tests_and_must_be_earned():
    """Its p value is compared with statsmodels in tests/test_claims.py."""
    found = estimate([symmetric(30, 0.3, 0.05)[:, None]])
    assert equivalence_p(found, 0.25) < 0.01
    assert equivalence_p(found, 0.25, noise=1.0) > 0.3  # the noises within prompts are a floor on the variance

    def is_equivalent(count, deviation, repeatability=None):
        arms = one_run([0] * count), one_run(symmetric(count, deviation))
        return holm([compare(*arms, 0.25, repeatability=repeatability)])[0].is_equivalent

    assert is_equivalent(MIN_SCENES, 0.2)
    assert not is_equivalent(MIN_SCENES - 1, 0.2)
    assert not is_equivalent(MIN_SCENES, 0.2, repeatability=0.3)
    assert not is_equivalent(MIN_SCENES, 0.8)


def test_scenes_that_all_differ_alike_have_the_exact_sign_test():
    assert sign_p(0.5, 5, 1e-12) == pytest.approx(stats.binomtest(5, 5).pvalue)
    assert sign_p(0.0, 5, 1e-12) == 1


def test_holm_is_that_of_statsmodels():
    from statsmodels.stats.multitest import multipletests

    values = np.random.default_rng(0).uniform(0, 0.3, 9).tolist()
    one = Difference("a", "b", "physics", 1.0, 0.0, 2.0, 5)
    first, *corrected = [d.p_holm for d in holm([replace(one, p=p) for p in (None, *values)])]
    assert first is None  # it does not count
    assert corrected == pytest.approx(list(multipletests(values, method="holm")[1]))


def test_the_noise_within_prompts_is_pooled():
    first = {(prompt, noise, 0): 0.0 for prompt in "ab" for noise in (0, 1)}
    second = dict(zip(first, (1.0, 3.0, 2.0, 2.0), strict=True))
    # Variances 2 and 0 within the prompts, pooled 1; a mean of two noises has 1 / 2, a mean of two scenes 1 / 4.
    assert paired_cells(table(first), table(second)).noise == pytest.approx(0.25)


# d_z and sample size for 80 % power, two-sided alpha 0.05: G*Power 3.1 and Cohen (1988), one-sample or paired t-test.
@pytest.mark.parametrize(("size", "needed"), [(0.2, 199), (0.5, 34), (0.8, 15)])
def test_sample_sizes_of_the_textbook(size, needed):
    design = Design(scene=4.0, run=0.0, run_df=1.0)
    assert scenes_needed(design, 2 * size) == scenes_needed(design, -2 * size) == needed
    assert power(design, 2 * size, needed) >= 0.8 > power(design, 2 * size, needed - 1)


def test_power_is_that_of_statsmodels_and_ends_at_its_limits():
    """statsmodels 0.15.0, TTestPower.power at the same degrees of freedom."""
    assert power(Design(1.0, 0.5, 1.0), 1.0, 16, 2) == pytest.approx(0.1368174168883128, abs=1e-9)
    assert power(Design(1.0, 0.2, 2.0), 0.4, 48, 3) == pytest.approx(0.20334573717747387, abs=1e-9)
    assert power(Design(1.0, 0.0, 1.0), 40.0, 8) == power(Design(0.0, 0.0, 1.0), 0.1, 4) == 1
    assert scenes_needed(Design(1.0, 0.0, 1.0), 0.5, most=33) is None
    assert runs_needed(Design(1.0, 0.5, 1.0), 1.5, 16) <= runs_needed(Design(1.0, 0.5, 1.0), 1.0, 16)
