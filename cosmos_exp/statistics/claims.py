"""Claims that are written down before a sweep runs, and their confirmatory tests with Holm's correction over them alone.

A claim is one line: `instruction: lora-r32 > base`, `tse: lora-r32 < base`, `physics: dora-r8 > lora-r8 by 0.25`,
`tse: lora-r32 = lora-r8 within 0.05`. `>` and `<` are about the number, not about better or worse.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

import pandas as pd

from cosmos_exp.errors import UserError
from cosmos_exp.statistics.cells import PairedCells, paired_cells
from cosmos_exp.statistics.comparisons import MIN_SCENES, Difference, contrast, difference, holm_values, largest, sign_p
from cosmos_exp.statistics.crossed import LEVEL, NO_SPREAD, Estimate

FORMS = "MEASURE: A > B, MEASURE: A < B, either with `by NUMBER`, or MEASURE: A = B within NUMBER"
_CLAIM = re.compile(r"(\S+?)\s*:\s*(\S+)\s*([<>=])\s*(\S+)(?:\s+(by|within)\s+(\S+))?")

CONFIRMED, REFUTED, NOT_SHOWN = "confirmed", "refuted", "not shown"


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
        """confirmed; refuted (the opposite is shown); not shown, also where the claim cannot be tested."""
        if self.reason or self.difference is None:
            return NOT_SHOWN
        if self.p_holm < LEVEL and not self.obstacle:
            return CONFIRMED
        if self._is_refuted:
            return REFUTED
        return NOT_SHOWN

    @property
    def obstacle(self) -> str:
        """Why a significant test of the claim does not confirm it; empty if nothing stands against it."""
        d, claim = self.difference, self.claim
        if d is None or d.mean is None:
            return ""
        repeatability = d.repeatability or 0.0
        if claim.sign != "=":
            if abs(d.mean - claim.bound) <= repeatability:
                return f"the excess is not above the measure's own repeatability ({repeatability:.3g})"
            nearest = d.low if claim.sign == ">" else d.high
            if nearest is not None and (nearest - claim.bound) * (d.mean - claim.bound) <= 0:
                return "the 95 % interval is not within the claim"
            return ""
        if d.low is None or d.high is None:
            return "all scenes differ by the same amount, so the error is unknown"
        if d.n < MIN_SCENES:
            return f"too few scenes to call them equivalent: {d.n}, at least {MIN_SCENES} are needed"
        if not d.may_be_equivalent:
            return f"the measure's repeatability ({repeatability:.3g}) is not below the margin"
        if d.low <= -claim.amount or d.high >= claim.amount:
            return "the 95 % interval is not within the margin"
        return ""

    @property
    def _is_refuted(self) -> bool:
        """The corrected test of the opposite is significant, and the 95 % interval lies outside the claimed range."""
        d, claim = self.difference, self.claim
        if d is None or d.mean is None or self.p_opposite_holm >= LEVEL:
            return False
        low, high = d.mean, d.mean
        if d.low is not None and d.high is not None:
            low, high = d.low, d.high
        distance = abs(d.mean - claim.bound)
        if claim.sign == "=":
            distance = abs(d.mean) - claim.amount
            outside = low > claim.amount or high < -claim.amount
        elif claim.sign == ">":
            outside = high < claim.bound
        else:
            outside = low > claim.bound
        return outside and distance > (d.repeatability or 0.0)


def parse_claim(text: str) -> Claim:
    """A claim from its text.

    Raises:
        UserError: The text is not a claim; the error says what is expected.
    """
    match = _CLAIM.fullmatch(text.strip())
    if not match:
        raise UserError(f"claim {text!r}: not a claim. Write {FORMS}.")
    measure, a, sign, b, word, amount = match.groups()
    is_equivalence = sign == "="
    if is_equivalence != (word == "within"):
        raise UserError(f"claim {text!r}: `by NUMBER` belongs to > and <, `within NUMBER` to =. Write {FORMS}.")
    try:
        value = float(amount or 0.0)
    except ValueError as error:
        raise UserError(f"claim {text!r}: {amount} is not a number. Write e.g. 0.25.") from error
    if not math.isfinite(value) or (is_equivalence and value <= 0):
        raise UserError(f"claim {text!r}: {amount}: expected a finite number, for = a positive one")
    if a == b:
        raise UserError(f"claim {text!r}: compares {a} with itself. Name two arms.")
    return Claim(text.strip(), measure, a, sign, b, value)


def untestable(claim: Claim, reason: str) -> ClaimResult:
    """The result of a claim without a test. It counts in Holm's correction with p = 1."""
    return ClaimResult(claim, None, reason=reason)


def claim_result(
    claim: Claim,
    a: pd.DataFrame,
    b: pd.DataFrame,
    trained: tuple[bool, bool] = (True, True),
    repeatability: float | None = None,
) -> ClaimResult:
    """The test of one claim; `correct` adds the corrected p values.

    Args:
        a, b: Scores of the two adapters (`video_table`).
        trained: Whether b and a are trained. The base is not.
        repeatability: How far two evaluations of one video differ by; None if unknown.
    """
    margin = None
    if claim.sign == "=":
        margin = claim.amount
    cells = paired_cells(b, a)
    compared = difference(claim.b, claim.a, claim.measure, cells, margin, trained, repeatability)
    if compared.n < 2:
        return replace(untestable(claim, "a test needs two scenes with a score of both"), difference=compared)
    if compared.low is None:
        p, opposite = _sign_tests(claim, float(compared.mean or 0.0), cells)
    else:
        p, opposite = _t_tests(claim, compared, contrast(cells, compared.recipe))
    return ClaimResult(claim, compared, p, opposite)


def _t_tests(claim: Claim, compared: Difference, result: Estimate) -> tuple[float, float]:
    """p values of the claim and of its opposite."""
    above, below = float(result.p_above(claim.bound)), float(result.p_below(claim.bound))
    if claim.sign == ">":
        return above, below
    if claim.sign == "<":
        return below, above
    assert compared.p_equivalent is not None  # `=` has a margin
    return compared.p_equivalent, min(1.0, 2 * min(above, float(result.p_below(-claim.amount))))


def _sign_tests(claim: Claim, mean: float, cells: PairedCells) -> tuple[float, float]:
    """The exact sign tests where all scenes differ by the same amount. Equivalence is never shown by them."""
    scenes, rounding = len(cells.first), NO_SPREAD * largest(cells)
    if claim.sign == "=":
        return 1.0, sign_p(max(abs(mean) - claim.amount, 0.0), scenes, rounding)
    excess = mean - claim.bound
    if claim.sign == "<":
        excess = -excess
    if abs(excess) <= rounding:
        return 1.0, 1.0
    p, opposite = 2.0**-scenes, 1.0
    if excess < 0:
        p, opposite = opposite, p
    return p, opposite


def correct(results: Sequence[ClaimResult]) -> list[ClaimResult]:
    """The results with corrected p values (Holm 1979) over these claims."""
    corrected = []
    corrected_p, opposite = holm_values([r.p for r in results]), holm_values([r.p_opposite for r in results])
    for result, p, p_opposite in zip(results, corrected_p, opposite, strict=True):
        corrected.append(replace(result, p_holm=float(p or 0.0), p_opposite_holm=float(p_opposite or 0.0)))
    return corrected
