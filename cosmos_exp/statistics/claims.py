"""Claims that are written down before a sweep runs, and their confirmatory tests with Holm's correction over them alone.

A claim is one line: `instruction: lora-r32 > base`, `tse: lora-r32 < base`, `physics: dora-r8 > lora-r8 by 0.25`,
`tse: lora-r32 = lora-r8 within 0.05`. `>` and `<` are about the number, not about better or worse.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cosmos_exp.errors import UserError
from cosmos_exp.statistics.cells import PairedCells, Scenes, Scores, paired_cells
from cosmos_exp.statistics.comparisons import MIN_SCENES, Difference, contrast, difference, holm_values
from cosmos_exp.statistics.crossed import LEVEL, NO_SPREAD, Estimate

FORMS = "MEASURE: A > B, MEASURE: A < B, either with `by NUMBER`, or MEASURE: A = B within NUMBER"
_CLAIM = re.compile(r"(\S+?)\s*:\s*(\S+)\s*([<>=])\s*(\S+)(?:\s+(by|within)\s+(\S+))?")

CONFIRMED, REFUTED, NOT_SHOWN, UNTESTABLE = "confirmed", "refuted", "not shown", "cannot be tested"


@dataclass(frozen=True)
class Claim:
    """What is expected of the mean score of adapter `a` minus that of adapter `b`.

    Attributes:
        text: The claim as it was written.
        sign: `>`: the difference is above `amount`; `<`: it is below -`amount`; `=`: it lies within ±`amount`.
        amount: In the measure's unit. Positive for `=`. For `>` and `<` it may be negative: `a > b by -0.1` says that a
            is at most 0.1 below b.
    """

    text: str
    measure: str
    a: str
    sign: str
    b: str
    amount: float

    @property
    def bound(self) -> float:
        """The end of the claimed range of the difference a - b; for `=` the upper one."""
        return -self.amount if self.sign == "<" else self.amount


@dataclass(frozen=True)
class ClaimResult:
    """The test of a claim.

    Attributes:
        difference: a - b with its 95 % interval; None if there are no scores to compare.
        p: One-sided test of the claim, or two one-sided tests (`=`); 1 where it cannot be tested.
        p_opposite: Test of the opposite of the claim; 1 where it cannot be tested.
        p_holm, p_opposite_holm: The same after Holm's correction over all claims; the two kinds are families of their own.
        reason: Why the claim cannot be tested; None if it can.
    """

    claim: Claim
    difference: Difference | None
    p: float = 1.0
    p_opposite: float = 1.0
    p_holm: float = 1.0
    p_opposite_holm: float = 1.0
    reason: str | None = None

    @property
    def verdict(self) -> str:
        """confirmed; refuted (the opposite is shown); not shown; cannot be tested."""
        if self.reason or self.difference is None:
            return UNTESTABLE
        if self.p_holm < LEVEL and not self.obstacle:
            return CONFIRMED
        return REFUTED if self._is_refuted else NOT_SHOWN

    @property
    def is_about_recipe(self) -> bool:
        """Whether the verdict is about new trainings of the recipes, not about these trained adapters only."""
        return self.difference is not None and self.difference.recipe

    @property
    def few_runs(self) -> int | None:
        """Training runs per adapter, if a verdict about the recipes rests on few: it holds if no run fails."""
        return self.difference.few_runs if self.difference else None

    @property
    def obstacle(self) -> str | None:
        """Why a significant test of the claim does not confirm it; None if nothing stands against it."""
        d, claim = self.difference, self.claim
        if d is None or d.mean is None:
            return None
        if claim.sign != "=":
            within = abs(d.mean - claim.bound) <= (d.repeatability or 0.0)
            return (
                f"the excess is not above the measure's own repeatability ({d.repeatability:.3g})" if within else None
            )
        if replace(d, p_equivalent_holm=0.0).is_equivalent:
            return None
        if d.ci_low is None:
            return "all scenes differ by the same amount, so the error is unknown"
        if d.n < MIN_SCENES:
            return f"too few scenes to call them equivalent: {d.n}, at least {MIN_SCENES} are needed"
        if not d.may_be_equivalent:
            return f"the measure's repeatability ({d.repeatability or 0.0:.3g}) is not below the margin"
        return "the 95 % interval is not within the margin"

    @property
    def _is_refuted(self) -> bool:
        """The corrected test of the opposite is significant, and the 95 % interval lies outside the claimed range."""
        d, claim = self.difference, self.claim
        if d is None or d.mean is None or self.p_opposite_holm >= LEVEL:
            return False
        low, high = (d.mean, d.mean) if d.ci_low is None or d.ci_high is None else (d.ci_low, d.ci_high)
        if claim.sign == "=":
            distance = abs(d.mean) - claim.amount
            outside = low > claim.amount or high < -claim.amount
        else:
            distance = abs(d.mean - claim.bound)
            outside = high < claim.bound if claim.sign == ">" else low > claim.bound
        return outside and distance > (d.repeatability or 0.0)


def parse_claim(text: str) -> Claim:
    """A claim from its text.

    Raises:
        UserError: The text is not a claim; the error says what is expected.
    """
    found = _CLAIM.fullmatch(text.strip())
    if not found:
        raise UserError(f"claim {text!r}: not a claim. Write {FORMS}.")
    measure, a, sign, b, word, amount = found.groups()
    if (word or "by") != ("within" if sign == "=" else "by") or (sign == "=" and word is None):
        raise UserError(f"claim {text!r}: `by NUMBER` belongs to > and <, `within NUMBER` to =. Write {FORMS}.")
    try:
        value = float(amount or 0.0)
    except ValueError as error:
        raise UserError(f"claim {text!r}: {amount} is not a number. Write e.g. 0.25.") from error
    if not math.isfinite(value) or (sign == "=" and value <= 0):
        raise UserError(f"claim {text!r}: {amount}: expected a {'positive' if sign == '=' else 'finite'} number")
    if a == b:
        raise UserError(f"claim {text!r}: compares {a} with itself. Name two arms.")
    return Claim(text.strip(), measure, a, sign, b, value)


def untestable(claim: Claim, reason: str) -> ClaimResult:
    """The result of a claim without a test. It counts in Holm's correction with p = 1."""
    return ClaimResult(claim, None, reason=reason)


def claim_result(
    claim: Claim,
    a: Scores,
    b: Scores,
    scenes: Scenes | None = None,
    trained: tuple[bool, bool] = (True, True),
    repeatability: float | None = None,
) -> ClaimResult:
    """The test of one claim; `correct` adds the corrected p values.

    Args:
        a, b: Values of the two adapters by prompt, generation seed and training seed.
        scenes: The scene of each prompt; None: every prompt is a scene.
        trained: Whether a and b are trained. The base is not.
        repeatability: How far two evaluations of one video differ by; None if unknown.
    """
    margin = claim.amount if claim.sign == "=" else None
    own = (trained[1], trained[0])
    found = difference(claim.b, claim.a, claim.measure, b, a, margin, scenes, own, repeatability)
    if found.n < 2:
        both = "no scene has" if not found.n else "only one scene has"
        return replace(untestable(claim, f"{both} a score of both; a test needs two"), difference=found)
    cells = paired_cells(b, a, scenes or {})
    if found.ci_low is None:
        p, opposite = _sign_tests(claim, float(found.mean or 0.0), cells)
    else:
        p, opposite = _t_tests(claim, found, contrast(cells, found.recipe))
    return ClaimResult(claim, found, p, opposite)


def _t_tests(claim: Claim, found: Difference, result: Estimate) -> tuple[float, float]:
    """p values of the claim and of its opposite."""
    above, below = float(result.p_above(claim.bound)), float(result.p_below(claim.bound))
    if claim.sign == "=":
        outside = min(above, float(result.p_below(-claim.amount)))
        return float(found.p_equivalent if found.p_equivalent is not None else 1.0), min(1.0, 2 * outside)
    return (above, below) if claim.sign == ">" else (below, above)


def _sign_tests(claim: Claim, mean: float, cells: PairedCells) -> tuple[float, float]:
    """The exact sign tests where all scenes differ by the same amount. Equivalence is never shown by them."""
    scenes = len(cells.first)
    rounding = NO_SPREAD * max(float(np.abs(cells.first).max()), float(np.abs(cells.second).max()), 1.0)
    if claim.sign == "=":
        return 1.0, 2.0 ** (1 - scenes) if abs(mean) - claim.amount > rounding else 1.0
    excess = (mean - claim.bound) * (1 if claim.sign == ">" else -1)
    return (2.0**-scenes if excess > rounding else 1.0), (2.0**-scenes if excess < -rounding else 1.0)


def correct(results: Sequence[ClaimResult]) -> list[ClaimResult]:
    """The results with corrected p values (Holm 1979) over these claims."""
    own, opposite = holm_values([r.p for r in results]), holm_values([r.p_opposite for r in results])
    return [
        replace(r, p_holm=float(p or 0.0), p_opposite_holm=float(q or 0.0))
        for r, p, q in zip(results, own, opposite, strict=True)
    ]
