"""Differences between two adapters on the same scenes: test, test of equivalence, Holm's correction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from cosmos_exp.statistics.cells import PairedCells
from cosmos_exp.statistics.crossed import LEVEL, NO_SPREAD, Estimate, estimate
from cosmos_exp.statistics.intervals import MIN_RUNS, SURE_RUNS
from cosmos_exp.statistics.power import Design, measured_design, runs_needed, scenes_needed

# Scenes that equivalence needs. With 23, a failure in one scene of eight is seen at least once with 95 % (0.875^23 < 0.05);
# with fewer, scores that are equal in all scenes do not show that the adapters are.
MIN_SCENES = 23


@dataclass(frozen=True)
class Difference:
    """The mean of `arm` minus that of `reference` over the scenes, prompts and noises that both have, in the measure's unit.

    Attributes:
        mean: The difference; None without a common scene.
        low, high: 95 % interval; None for one scene or without spread.
        n: Number of scenes.
        prompts: Number of prompts.
        pairs: Number of pairs of videos: prompts with their noises.
        left_out: Prompts with a noise for which only some runs have a score.
        dropped: The names of these prompts.
        arm_runs, reference_runs: Training runs.
        recipe: Whether interval and tests are about the recipes (new trainings), not about these trained adapters only.
        margin: Margin of the test of equivalence.
        repeatability: How far two evaluations of one video differ by, in the measure's unit; None if unknown.
        p: Two-sided test of no difference.
        p_equivalent: Two one-sided tests against +-margin; None without a margin.
        p_holm, p_equivalent_holm: The same after Holm's correction over the family.
        design: What decides the power of the comparison; None without a test.
    """

    reference: str
    arm: str
    measure: str
    mean: float | None
    low: float | None
    high: float | None
    n: int
    pairs: int = 0
    left_out: int = 0
    dropped: str = ""
    prompts: int = 0
    arm_runs: int = 1
    reference_runs: int = 1
    recipe: bool = False
    margin: float | None = None
    repeatability: float | None = None
    p: float | None = None
    p_holm: float | None = None
    p_equivalent: float | None = None
    p_equivalent_holm: float | None = None
    design: Design | None = None

    @property
    def few_runs(self) -> int | None:
        """Training runs per adapter, if a statement about the recipes rests on fewer than SURE_RUNS: it holds if none fails."""
        if not self.recipe:
            return None
        few = [
            runs for runs in (self.arm_runs, self.reference_runs) if MIN_RUNS <= runs < SURE_RUNS
        ]  # the base has one
        return min(few, default=None)

    @property
    def is_different(self) -> bool:
        """Whether the corrected test is significant, and the difference larger than the measure's repeatability."""
        repeats = abs(self.mean or 0.0) > (self.repeatability or 0.0)
        return self.p_holm is not None and self.p_holm < LEVEL and repeats

    @property
    def is_equivalent(self) -> bool:
        """Whether equivalence is shown: the corrected test, the 95 % interval within the margin, and `may_be_equivalent`."""
        if self.p_equivalent_holm is None or self.margin is None or self.low is None or self.high is None:
            return False
        inside = -self.margin < self.low and self.high < self.margin
        return self.p_equivalent_holm < LEVEL and inside and self.may_be_equivalent

    @property
    def may_be_equivalent(self) -> bool:
        """Whether scenes and measure allow a statement of equivalence: MIN_SCENES, repeatability below the margin."""
        return self.n >= MIN_SCENES and self.margin is not None and (self.repeatability or 0.0) < self.margin

    def needs(self) -> tuple[int | None, int | None]:
        """Scenes, or else training runs per adapter, that show a true difference of the margin with 80 % power.

        Both None where the comparison is decided, has as many, or has no margin, or where too many are needed. The scenes are at
        least those that equivalence asks for.
        """
        if self.design is None or not self.margin or self.is_different or self.is_equivalent:
            return None, None
        scenes = scenes_needed(self.design, self.margin, max(self.arm_runs, self.reference_runs))
        if scenes and max(scenes, MIN_SCENES) > self.n:
            return max(scenes, MIN_SCENES), None
        if scenes or not self.recipe:
            return None, None
        return None, runs_needed(self.design, self.margin, self.n)


def difference(
    reference: str,
    arm: str,
    measure: str,
    cells: PairedCells,
    margin: float | None = None,
    trained: tuple[bool, bool] = (True, True),
    repeatability: float | None = None,
) -> Difference:
    """The difference arm - reference with its interval and tests; `holm` adds the corrected p values.

    It is about the recipes if each trained adapter has at least MIN_RUNS training runs, else about these adapters.

    Args:
        cells: Scores of the reference (first) and of the arm.
        margin: Margin of equivalence in the measure's unit; None for no test of equivalence.
        trained: Whether reference and arm are trained. The base is not: it is the same in every training.
        repeatability: See `Difference`.
    """
    n, runs = len(cells.first), (cells.first.shape[1], cells.second.shape[1])
    recipe = (runs[0] >= MIN_RUNS or not trained[0]) and (runs[1] >= MIN_RUNS or not trained[1])
    compared = Difference(
        reference,
        arm,
        measure,
        mean=None,
        low=None,
        high=None,
        n=n,
        pairs=cells.pairs,
        left_out=cells.left_out,
        dropped=", ".join(cells.dropped),
        prompts=cells.prompts,
        arm_runs=runs[1],
        reference_runs=runs[0],
        recipe=recipe,
        margin=margin,
        repeatability=repeatability,
    )
    if n:
        compared = replace(compared, mean=float(cells.second.mean() - cells.first.mean()))
    if n < 2:
        return compared
    result, rounding = contrast(cells, recipe), NO_SPREAD * largest(cells)
    if result.variance <= rounding**2:
        return replace(compared, p=sign_p(float(result.mean), n, rounding))
    low, high = result.interval()
    return replace(
        compared,
        low=float(low),
        high=float(high),
        p=float(result.p()),
        p_equivalent=equivalence_p(result, margin, cells.noise),
        design=measured_design(cells, result),
    )


def contrast(cells: PairedCells, recipe: bool) -> Estimate:
    """The estimate of second - first. At least two scenes."""
    return estimate([cells.first, cells.second], (-1.0, 1.0), random_runs=recipe)


def largest(cells: PairedCells) -> float:
    """The largest score, at least 1: what rounding is relative to."""
    return max(float(np.abs(cells.first).max()), float(np.abs(cells.second).max()), 1.0)


def sign_p(mean: float, scenes: int, rounding: float) -> float:
    """The exact two-sided sign test where all scenes differ by the same amount, so that no t test exists."""
    if abs(mean) <= rounding:
        return 1.0
    return min(1.0, 2.0 ** (1 - scenes))


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
