"""The report's statistics against closed forms, libraries and simulation (benchmarks/sweep_statistics.py has the long one)."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from cosmos_exp.statistics.cells import paired_cells, video_table
from cosmos_exp.statistics.comparisons import MIN_SCENES, Difference, equivalence_p, holm, sign_p
from cosmos_exp.statistics.comparisons import difference as compare
from cosmos_exp.statistics.crossed import degrees_of_freedom, estimate, run_variance
from cosmos_exp.statistics.intervals import mean_interval, summarize
from cosmos_exp.statistics.power import Design, power, runs_needed, scenes_needed


def symmetric(count, deviation=1.0, mean=0.0):
    """Values without skewness, with exactly this mean and standard deviation."""
    values = stats.norm.ppf((np.arange(count) + 0.5) / count)
    return mean + deviation * values / values.std(ddof=1)


def test_without_skewness_one_run_is_students_t():
    values = symmetric(12, 0.7, 0.4)
    found = estimate([values[:, None]])
    assert float(found.p()) == pytest.approx(stats.ttest_1samp(values, 0).pvalue)
    low, high = stats.t.interval(0.95, 11, values.mean(), stats.sem(values))
    assert [float(x) for x in found.interval()] == pytest.approx([low, high])
    assert mean_interval(values[:, None]) == pytest.approx((0.4, low, high))


def test_skewness_only_widens():
    values = np.random.default_rng(0).exponential(size=10) - 1
    found = estimate([values[:, None]])
    low, high = stats.t.interval(0.95, 9, values.mean(), stats.sem(values))
    assert found.interval()[0] <= low + 1e-12
    assert found.interval()[1] >= high - 1e-12
    assert found.p() >= stats.ttest_1samp(values, 0).pvalue - 1e-12


def test_a_training_run_shifts_all_scenes():
    """The run component is that of the two-way analysis of variance (statsmodels)."""
    from statsmodels.formula.api import ols
    from statsmodels.stats.anova import anova_lm

    rng = np.random.default_rng(0)
    cells = rng.normal(size=(9, 1)) + np.array([0.0, 1.0, 3.0]) + 0.5 * rng.normal(size=(9, 3))
    scene, run = np.indices(cells.shape)
    table = anova_lm(
        ols(
            "y ~ C(scene) + C(run)", pd.DataFrame({"y": cells.ravel(), "scene": scene.ravel(), "run": run.ravel()})
        ).fit()
    )
    squares = table["mean_sq"]
    assert run_variance(cells) == pytest.approx((squares["C(run)"] - squares["Residual"]) / cells.size)
    shifted = np.arange(5.0)[:, None] + np.array([0.0, 1.0, 3.0])  # nothing but scenes and runs
    assert run_variance(shifted) == pytest.approx(np.var([0, 1, 3], ddof=1) / 3)
    found = estimate([cells])
    assert found.variance == pytest.approx(found.scenes + found.runs)


def test_degrees_of_freedom_lie_between_those_of_scenes_and_runs():
    assert degrees_of_freedom(1.0, 15, 2) == pytest.approx(15)
    assert degrees_of_freedom(0.0, 15, 2) == pytest.approx(2)
    assert 2 < degrees_of_freedom(0.5, 15, 2) < 15


def test_runs_that_are_ignored_give_false_positives():
    """16 scenes, 3 runs, run variance half of the scenes', no difference: 5 % with the runs, over 15 % without."""
    rng = np.random.default_rng(0)
    shape = (3000, 16, 3)
    common = rng.normal(size=(3000, 16, 1))
    arms = [
        common + rng.normal(size=(3000, 16, 1)) + 0.7 * rng.normal(size=(3000, 1, 3)) + 0.5 * rng.normal(size=shape)
        for _ in range(2)
    ]
    rejected = {r: float((estimate(arms, (-1.0, 1.0), random_runs=r).p() < 0.05).mean()) for r in (True, False)}
    assert 0.02 <= rejected[True] <= 0.07
    assert rejected[False] > 0.15


def test_missing_scores_are_counted_not_filled_in():
    def row(sample, seed, value):
        return {"sample": sample, "seed": seed, "measure": "physics", "value": value, "detail": {}}

    rows = [row("a", 0, 1), row("a", 1, 3), row("b", 0, 4), row("c", 0, None)]
    table = summarize(rows)["physics"]
    assert (table["mean"], table["n"], table["videos"], table["missing"]) == (3.0, 2, 4, 1)
    assert summarize([row("a", 0, None)])["physics"]["mean"] is None
    twins = summarize(rows, {"a": "one frame", "b": "one frame"})["physics"]
    assert (twins["mean"], twins["n"], twins["ci_low"]) == (3.0, 1, None)


def scores(values, noise=0, run=0):
    return {(name, (noise, run)): value for name, value in values.items()}


def table(values, scenes=None):
    """The table of {(prompt, (noise, training seed)): value}."""
    rows = [
        {"prompt": prompt, "scene": (scenes or {}).get(prompt, prompt), "noise": noise, "seed": run, "value": value}
        for (prompt, (noise, run)), value in values.items()
    ]
    return video_table(pd.DataFrame(rows).astype({"value": float}))


def difference(a, b, measure, first, second, margin=None, scenes=None, **options):
    return compare(a, b, measure, table(first, scenes), table(second, scenes), margin, **options)


def test_differences_are_paired_and_what_one_lacks_is_counted():
    first = scores({"a": 1.0, "b": None, "c": 5.0}) | scores({"a": 2.0}, noise=1)
    second = scores({"a": 2.0, "b": 3.0, "d": 1.0}) | scores({"a": 4.0}, noise=1)
    found = difference("x", "y", "physics", first, second)
    assert (found.mean, found.n, found.pairs, found.left_out, found.p) == (1.5, 1, 2, 3, None)
    nothing = difference("x", "y", "physics", first, scores({"a": None}))
    assert (nothing.mean, nothing.n) == (None, 0)


def test_prompts_of_one_scene_are_one_observation():
    names = {f"{k}_{hand}": float(k) for k in range(5) for hand in ("left", "right")}
    zero = dict.fromkeys(names, 0.0)
    scenes = {n: n[0] for n in names}
    twins = difference("x", "y", "physics", scores(zero), scores(names), scenes=scenes)
    once = difference(
        "x", "y", "physics", scores({str(k): 0.0 for k in range(5)}), scores({str(k): float(k) for k in range(5)})
    )
    assert (twins.n, twins.prompts, twins.p, twins.ci_low) == (5, 10, pytest.approx(once.p), pytest.approx(once.ci_low))
    assert difference("x", "y", "physics", scores(zero), scores(names)).p < once.p


@pytest.mark.parametrize(("runs", "trained", "recipe"), [((3, 3), (True, True), True), ((1, 3), (False, True), True)])
def test_three_runs_speak_of_the_recipe(runs, trained, recipe):
    arms = [{(str(k), (0, r)): k + 0.1 * r * (k % 3) for k in range(6) for r in range(count)} for count in runs]
    assert difference("x", "y", "physics", *arms, trained=trained).recipe is recipe
    two = {key: value for key, value in arms[1].items() if key[1][1] < 2}
    assert difference("x", "y", "physics", arms[0], two, trained=trained).recipe is False


def test_equivalence_is_two_one_sided_t_tests():
    values = symmetric(30, 0.3, 0.05)
    low = stats.ttest_1samp(values, -0.25, alternative="greater").pvalue
    high = stats.ttest_1samp(values, 0.25, alternative="less").pvalue
    found = estimate([values[:, None]])
    assert equivalence_p(found, 0.25) == pytest.approx(max(low, high))
    assert equivalence_p(found, None) is None
    # The noises within prompts are a floor on the variance.
    assert equivalence_p(found, 0.25, noise=1.0) > 0.3


def test_equivalence_must_be_earned():
    def compared(count, deviation, repeatability=None):
        values = symmetric(count, deviation)
        arms = [scores({str(k): 0.0 for k in range(count)}), scores({str(k): float(v) for k, v in enumerate(values)})]
        return holm([difference("x", "y", "physics", *arms, 0.25, repeatability=repeatability)])[0]

    assert compared(MIN_SCENES, 0.2).is_equivalent
    assert not compared(MIN_SCENES - 1, 0.2).is_equivalent
    assert not compared(MIN_SCENES, 0.2, repeatability=0.3).is_equivalent
    assert not compared(MIN_SCENES, 0.8).is_equivalent


def test_a_difference_below_the_repeatability_is_none():
    found = Difference("a", "b", "tse", 0.01, 0.005, 0.015, 20, 20, 0, p=0.001, p_holm=0.001)
    assert found.is_different
    assert not replace(found, repeatability=0.02).is_different


def test_scenes_that_all_differ_alike_have_the_exact_sign_test():
    assert sign_p(0.5, 5, 1e-12) == pytest.approx(stats.binomtest(5, 5).pvalue)
    assert sign_p(0.0, 5, 1e-12) == 1


def test_holm_by_hand():
    one = Difference("a", "b", "physics", 1.0, 0.0, 2.0, 5, 5, 0)
    corrected = [d.p_holm for d in holm([replace(one, p=p) for p in (0.01, 0.04, 0.03, None)])]
    # 3 x 0.01; then the larger of 2 x 0.03 and what came before; then no less than that.
    assert corrected == [pytest.approx(0.03), pytest.approx(0.06), pytest.approx(0.06), None]


def test_holm_is_that_of_statsmodels():
    from statsmodels.stats.multitest import multipletests

    values = np.random.default_rng(0).uniform(0, 0.3, 9)
    one = Difference("a", "b", "physics", 1.0, 0.0, 2.0, 5, 5, 0)
    corrected = [d.p_holm for d in holm([replace(one, p=float(p)) for p in values])]
    assert corrected == pytest.approx(multipletests(values, method="holm")[1])
    assert holm([]) == []


def test_the_noise_within_prompts_is_pooled():
    first = {("a", (n, 0)): 0.0 for n in range(2)} | {("b", (n, 0)): 0.0 for n in range(2)}
    second = {("a", (0, 0)): 1.0, ("a", (1, 0)): 3.0, ("b", (0, 0)): 2.0, ("b", (1, 0)): 2.0}
    # Variances 2 and 0 within the prompts, pooled 1; a mean of two noises has 1 / 2, a mean of two scenes 1 / 4.
    assert paired_cells(table(first), table(second)).noise == pytest.approx(0.25)


@pytest.mark.parametrize(
    ("size", "needed"),
    # d_z and sample size for 80 % power, two-sided alpha 0.05: G*Power 3.1 and Cohen (1988), one-sample or paired t-test.
    [(0.2, 199), (0.5, 34), (0.8, 15)],
)
def test_sample_sizes_of_the_textbook(size, needed):
    design = Design(scene=4.0, run=0.0, run_df=1.0)
    assert scenes_needed(design, 2 * size) == needed
    assert scenes_needed(design, -2 * size) == needed
    assert power(design, 2 * size, needed) >= 0.8 > power(design, 2 * size, needed - 1)


@pytest.mark.parametrize(
    ("design", "effect", "scenes", "runs", "expected"),
    [  # statsmodels 0.15.0, TTestPower.power at the same degrees of freedom
        (Design(1.0, 0.5, 1.0), 1.0, 16, 2, 0.1368174168883128),
        (Design(4.0, 0.0, 1.0), 0.5, 24, 1, 0.21680506059128307),
        (Design(1.0, 0.2, 2.0), 0.4, 48, 3, 0.20334573717747387),
        (Design(1.0, 0.0, 1.0), 40.0, 8, 1, 1.0),
    ],
)
def test_power_is_that_of_statsmodels(design, effect, scenes, runs, expected):
    assert power(design, effect, scenes, runs) == pytest.approx(expected, abs=1e-9)


def test_power_at_its_limits():
    design = Design(scene=1.0, run=0.5, run_df=1.0)
    assert scenes_needed(design, 0) is None
    assert scenes_needed(Design(1.0, 0.0, 1.0), 0.5, most=33) is None
    assert runs_needed(design, 1.5, 16) <= runs_needed(design, 1.0, 16)
    assert power(Design(0.0, 0.0, 1.0), 0.1, 4) == 1
    assert power(Design(0.0, 0.0, 1.0), 0.0, 4) == 0


def test_the_interval_of_a_mean_ends_at_the_measures_limits():
    rows = [
        {"sample": name, "seed": 0, "measure": "physics", "value": value, "video": "", "prompt": "", "detail": {}}
        for name, value in (("a", 5.0), ("b", 5.0), ("c", 4.0))
    ]
    free, cut = summarize(rows)["physics"], summarize(rows, limits={"physics": (1, 5)})["physics"]
    assert free["ci_high"] > 5
    assert cut["ci_high"] == 5
    assert (cut["mean"], cut["ci_low"]) == (free["mean"], free["ci_low"])
