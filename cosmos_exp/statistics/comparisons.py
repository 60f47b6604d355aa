"""Differences between two adapters on the same scenes: test, test of equivalence, effect size, Holm's correction."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from scipy import special

from cosmos_exp.statistics.cells import PairedCells, paired_cells
from cosmos_exp.statistics.crossed import LEVEL, NO_SPREAD, Estimate, estimate
from cosmos_exp.statistics.intervals import MIN_RUNS, SURE_RUNS
from cosmos_exp.statistics.power import Design, measured_design, runs_needed, scenes_needed

# Scenes that equivalence needs. With 23, a failure in one scene of eight is seen at least once with 95 % (0.875^23 < 0.05);
# with fewer, scores that are equal in all scenes do not show that the adapters are.
MIN_SCENES = 23


@dataclass(frozen=True)
class Difference:
    """b minus a over the scenes, prompts and noises that both have, in the measure's unit.

    Attributes:
        ci_low, ci_high: 95 % interval; None for one scene or without spread.
        n: Number of scenes.
        pairs: Number of pairs of videos: prompts with their noises.
        left_out: Prompts with a noise for which only some runs have a score.
        p: Two-sided test of no difference.
        margin: Margin of the test of equivalence.
        p_equivalent: Two one-sided tests against +-margin; None without a margin.
        p_holm, p_equivalent_holm: The same after Holm's correction over the family.
        effect: Cohen's d_z over scenes, with the ends of its interval.
        prompts: Number of prompts.
        runs: Training runs of a and of b.
        recipe: Whether interval and tests are about the recipes (new trainings), not about these trained adapters only.
        repeatability: How far two evaluations of one video differ by, in the measure's unit; None if unknown.
        dropped: The prompts that `left_out` counts.
        design: What decides the power of the comparison; None without a test.
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
    prompts: int = 0
    runs: tuple[int, int] = (1, 1)
    recipe: bool = False
    repeatability: float | None = None
    dropped: tuple[str, ...] = ()
    design: Design | None = None

    @property
    def few_runs(self) -> int | None:
        """Training runs per adapter, if a statement about the recipes rests on fewer than SURE_RUNS: it holds if none fails."""
        least = min((runs for runs in self.runs if runs >= MIN_RUNS), default=SURE_RUNS)  # the base has one, untrained
        return least if self.recipe and least < SURE_RUNS else None

    @property
    def is_different(self) -> bool:
        """Whether the corrected test is significant, and the difference larger than the measure's repeatability."""
        repeats = abs(self.mean or 0.0) > (self.repeatability or 0.0)
        return self.p_holm is not None and self.p_holm < LEVEL and repeats

    @property
    def is_equivalent(self) -> bool:
        """Whether equivalence is shown: the corrected test, the 95 % interval within the margin, and `may_be_equivalent`."""
        if self.p_equivalent_holm is None or self.margin is None or self.ci_low is None or self.ci_high is None:
            return False
        inside = -self.margin < self.ci_low and self.ci_high < self.margin
        return self.p_equivalent_holm < LEVEL and inside and self.may_be_equivalent

    def needs(self) -> tuple[int | None, int | None]:
        """Scenes, or else training runs per adapter, that show a true difference of the margin with 80 % power.

        Both None where the comparison is decided, has as many, or has no margin, or where too many are needed. The scenes are at
        least those that equivalence asks for.
        """
        if self.design is None or not self.margin or self.is_different or self.is_equivalent:
            return None, None
        scenes = scenes_needed(self.design, self.margin, max(self.runs))
        if scenes:
            scenes = max(scenes, MIN_SCENES)
            return (scenes, None) if scenes > self.n else (None, None)
        return None, runs_needed(self.design, self.margin, self.n) if self.recipe else None

    @property
    def may_be_equivalent(self) -> bool:
        """Whether scenes and measure allow a statement of equivalence: MIN_SCENES, repeatability below the margin."""
        return self.n >= MIN_SCENES and self.margin is not None and (self.repeatability or 0.0) < self.margin


def difference(
    a: str,
    b: str,
    measure: str,
    first: pd.DataFrame,
    second: pd.DataFrame,
    margin: float | None = None,
    trained: tuple[bool, bool] = (True, True),
    repeatability: float | None = None,
) -> Difference:
    """The difference b - a with its interval and tests; `holm` adds the corrected p values.

    It is about the recipes if each trained adapter has at least MIN_RUNS training runs, else about these adapters.

    Args:
        a, b: Names.
        first, second: Scores of a and of b (`video_table`).
        margin: Margin of equivalence in the measure's unit; None for no test of equivalence.
        trained: Whether a and b are trained. The base is not: it is the same in every training.
        repeatability: See `Difference`.
    """
    return compared_cells(a, b, measure, paired_cells(first, second), margin, trained, repeatability)


def compared_cells(
    a: str,
    b: str,
    measure: str,
    cells: PairedCells,
    margin: float | None,
    trained: tuple[bool, bool],
    repeatability: float | None,
) -> Difference:
    """`difference` of cells."""
    n, runs = len(cells.first), (cells.first.shape[1], cells.second.shape[1])
    recipe = (runs[0] >= MIN_RUNS or not trained[0]) and (runs[1] >= MIN_RUNS or not trained[1])
    found = Difference(a, b, measure, None, None, None, n, cells.pairs, cells.left_out, margin=margin)
    found = replace(found, prompts=cells.prompts, dropped=cells.dropped, runs=runs, recipe=recipe)
    found = replace(found, repeatability=repeatability)
    if n:
        found = replace(found, mean=float(cells.second.mean() - cells.first.mean()))
    return _tested(found, cells, contrast(cells, recipe)) if n > 1 else found


def contrast(cells: PairedCells, recipe: bool) -> Estimate:
    """The estimate of b - a. At least two scenes."""
    return estimate([cells.first, cells.second], (-1.0, 1.0), random_runs=recipe)


def largest(cells: PairedCells) -> float:
    """The largest score, at least 1: what rounding is relative to."""
    return max(float(np.abs(cells.first).max()), float(np.abs(cells.second).max()), 1.0)


def _tested(found: Difference, cells: PairedCells, result: Estimate) -> Difference:
    """The difference with interval, tests and effect size."""
    rounding = NO_SPREAD * largest(cells)
    if result.variance <= rounding**2:
        return replace(found, p=sign_p(float(result.mean), found.n, rounding))
    low, high = result.interval()
    effect, effect_low, effect_high = effect_size(result, found.n)
    return replace(
        found,
        ci_low=float(low),
        ci_high=float(high),
        p=float(result.p()),
        p_equivalent=equivalence_p(result, found.margin, cells.noise),
        effect=effect,
        effect_low=effect_low,
        effect_high=effect_high,
        design=measured_design(cells, result),
    )


def sign_p(mean: float, scenes: int, rounding: float) -> float:
    """The exact two-sided sign test where all scenes differ by the same amount, so that no t test exists."""
    return 1.0 if abs(mean) <= rounding else min(1.0, 2.0 ** (1 - scenes))


def equivalence_p(result: Estimate, margin: float | None, noise: float | None = None) -> float | None:
    """The larger p value of two one-sided tests (Schuirmann 1987). A small one means: the difference lies within +-margin.

    Args:
        noise: Variance of the mean from the noises within prompts. The variance of the scenes is not taken as less.

    Returns:
        None without a margin.
    """
    if margin is None:
        return None
    missing = max((noise or 0.0) - float(result.scenes), 0.0)
    floored = replace(result, variance=result.variance + missing, scenes=result.scenes + missing)
    return float(np.maximum(floored.p_above(-margin), floored.p_below(margin)))


def effect_size(result: Estimate, scenes: int) -> tuple[float | None, float | None, float | None]:
    """Cohen's d_z: the mean difference over the standard deviation of the scenes' differences, with a 95 % interval.

    The interval is that of the noncentral t distribution (Cumming and Finch 2001).

    Returns:
        d_z, lower and upper end; None for fewer than three scenes or without spread between scenes.
    """
    deviation = math.sqrt(float(result.scenes) * scenes)
    if scenes < 3 or deviation <= NO_SPREAD:
        return None, None, None
    t, unit = float(result.mean / np.sqrt(result.variance)), math.sqrt(float(result.variance)) / deviation
    ends: list[float | None] = []
    for tail in (1 - LEVEL / 2, LEVEL / 2):
        end = float(special.nctdtrinc(float(result.df), tail, t)) * unit
        ends.append(float(f"{end:.6g}") if math.isfinite(end) else None)  # the inverse is exact to about eight digits
    return float(result.mean) / deviation, ends[0], ends[1]


def holm(differences: Sequence[Difference]) -> list[Difference]:
    """The differences of one family with corrected p values (Holm 1979), each of the two tests as a family of its own."""
    corrected = []
    different = holm_values([d.p for d in differences])
    equivalent = holm_values([d.p_equivalent for d in differences])
    for d, p, p_equivalent in zip(differences, different, equivalent, strict=True):
        corrected.append(replace(d, p_holm=p, p_equivalent_holm=p_equivalent))
    return corrected


def holm_values(values: Sequence[float | None]) -> list[float | None]:
    """Corrected p values (step down); None stays None and does not count. statsmodels' takes 2,000 times as long."""
    tested = pd.Series(values, dtype=float).dropna().sort_values(kind="stable")
    steps = tested * np.arange(len(tested), 0, -1)
    corrected = steps.cummax().clip(upper=1.0).reindex(range(len(values)))
    or_none: list[float | None] = corrected.astype(object).where(corrected.notna(), None).tolist()
    return or_none
