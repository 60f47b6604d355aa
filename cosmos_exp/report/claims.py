"""The claims of a sweep in its report: tested first, apart from all other comparisons."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cosmos_exp.errors import UserError
from cosmos_exp.files import JsonObject
from cosmos_exp.report.conclusions import few_runs_note, untuned_note
from cosmos_exp.report.formatting import interval, number
from cosmos_exp.report.frozen_claims import CLAIMS_FILE, FrozenClaims, changes, date_of, read_claims
from cosmos_exp.report.pairs import repeatability, values_of, why_not_comparable
from cosmos_exp.report.untuned import also_different
from cosmos_exp.report.variants import Variant, scenes_of
from cosmos_exp.statistics.cells import Scores
from cosmos_exp.statistics.claims import (
    CONFIRMED,
    NOT_SHOWN,
    REFUTED,
    UNTESTABLE,
    Claim,
    ClaimResult,
    claim_result,
    correct,
    parse_claim,
    untestable,
)
from cosmos_exp.statistics.intervals import MIN_RUNS

EXPLORATORY = "Exploratory: all other comparisons"
ALL_EXPLORATORY = "No claim was frozen before the runs, so all comparisons are exploratory."
_EXPLANATION = (
    "`>` and `<` are about the number, not about better. p: one-sided test of the claim (for `=` two one-sided tests). "
    "Confirmed: p < 0.05. Refuted: the test of the opposite is significant, and the interval lies outside the claim. "
    "Not shown: neither."
)
_BRACKETS = (
    f"In brackets: fewer than {MIN_RUNS} training runs, so the verdict is about these trained adapters, not about another "
    "training of the same recipe."
)


@dataclass(frozen=True)
class ClaimsReport:
    """The frozen claims of a sweep with their tests.

    Attributes:
        results: One per claim, in the order of the file.
        warnings: What limits them: changes after the first score, a hand edit, planned runs that are missing.
        untuned: In what else the arms of a claim differ, without having been tuned, by the claim's text.
    """

    record: FrozenClaims
    results: list[ClaimResult]
    warnings: list[str] = field(default_factory=list)
    untuned: dict[str, str] = field(default_factory=dict)

    @property
    def heading(self) -> str:
        """`Confirmatory: …`, or that and when the claims were changed after the first score."""
        record = self.record
        if not record.intact:
            return f"Claims of a {CLAIMS_FILE} that was changed by hand"
        changed = record.changed_after_scores
        if changed and record.versions[0]["after_scores"]:
            return f"Claims written on {date_of(changed)}, after the first score"
        if changed:
            return f"Claims frozen on {date_of(record.versions[0])} and changed on {date_of(changed)}, after the first score"
        return f"Confirmatory: claims frozen on {date_of(record.versions[-1])}"

    @property
    def introduction(self) -> str:
        """What was frozen, and how the claims are tested."""
        count = len(self.results)
        frozen = "Claims, margins, prompts, seeds and measures are frozen" if self.record.intact else "Recorded"
        return (
            f"{frozen} in {CLAIMS_FILE} (sha256 {self.record.sha256[:12]}). Holm's correction over {_claims(count)} alone. "
            f"{_EXPLANATION}"
        )

    @property
    def pairs(self) -> set[tuple[str, frozenset[str]]]:
        """Measure and adapters of each claim."""
        return {(r.claim.measure, frozenset((r.claim.a, r.claim.b))) for r in self.results}

    def table(self) -> tuple[list[str], list[list[str]]]:
        """Header and rows. The column `frozen` is only there if the claims have changed."""
        changed = len(self.record.versions) > 1 or self.record.after_scores
        head = ["claim", "first − second [95 %]", f"p (Holm over {_claims(len(self.results))})", "verdict"]
        rows = []
        for r in self.results:
            d, tested = r.difference, r.reason is None
            row = [r.claim.text, interval(d.mean, d.ci_low, d.ci_high) if d else "-"]
            row += [number(r.p_holm) if tested else "-", verdict_text(r)]
            if changed:
                since = self.record.since(r.claim.text)
                row.append(date_of(since) + (", after scores" if since["after_scores"] else ""))
            rows.append(row)
        return head + (["frozen"] if changed else []), rows

    def remarks(self) -> list[str]:
        """Why claims are not shown or cannot be tested, and what brackets mean."""
        found = []
        for r in self.results:
            if r.verdict == UNTESTABLE:
                found.append(f"{r.claim.text}: {UNTESTABLE}: {r.reason}. It counts with p = 1 in Holm's correction.")
            elif r.verdict == NOT_SHOWN and r.obstacle:
                found.append(f"{r.claim.text}: {r.obstacle}.")
            if r.claim.text in self.untuned:
                found.append(f"{r.claim.text}: {untuned_note(self.untuned[r.claim.text])}")
        if any(r.verdict != UNTESTABLE and not r.is_about_recipe for r in self.results):
            found.append(_BRACKETS)
        runs = [r.few_runs for r in self.results if r.few_runs and r.verdict in (CONFIRMED, REFUTED)]
        return [*found, few_runs_note(min(runs))] if runs else found

    def as_json(self) -> JsonObject:
        """All numbers, for report.json."""
        changed = self.record.changed_after_scores
        return {
            "frozen": self.record.frozen,
            "sha256": self.record.sha256,
            "intact": self.record.intact,
            "changed_after_scores": changed["frozen"] if changed else None,
            "results": [_numbers(r) for r in self.results],
        }


def _claims(count: int) -> str:
    return f"{count} claim{'s' if count != 1 else ''}"


def verdict_text(result: ClaimResult) -> str:
    """The verdict, in brackets if it is about the trained adapters only; with its condition if it rests on few runs."""
    if result.verdict in (CONFIRMED, REFUTED) and result.few_runs:
        return f"{result.verdict} if no run fails"
    plain = result.verdict == UNTESTABLE or result.is_about_recipe
    return result.verdict if plain else f"({result.verdict})"


def _numbers(r: ClaimResult) -> JsonObject:
    d = r.difference
    found: JsonObject = {"claim": r.claim.text, "verdict": r.verdict, "about_recipe": r.is_about_recipe}
    found |= {k: getattr(d, k, None) for k in ("mean", "ci_low", "ci_high", "n", "pairs", "left_out", "repeatability")}
    found["if_no_run_fails"] = r.few_runs is not None
    found |= {k: getattr(r, k) for k in ("p", "p_holm", "p_opposite", "p_opposite_holm", "reason")}
    return found


def claims_report(
    folder: Path, variants: Sequence[Variant], margins: Mapping[str, float] | None = None
) -> ClaimsReport | None:
    """The claims that were frozen in a folder, tested; None if there are none.

    Only the frozen prompts, generation seeds and training seeds count: what was added later is exploratory.

    Args:
        margins: Those of the report; None: unknown.

    Raises:
        UserError: claims.json cannot be read.
    """
    record = read_claims(folder)
    if record is None:
        return None
    results = correct([_tested(text, record, variants) for text in record.claims])
    warnings = [] if record.intact else [f"{CLAIMS_FILE} was changed by hand: its hash does not fit its content."]
    warnings += [*changes(record), *_other_margins(record, margins or {}), *_incomplete(record, variants)]
    return ClaimsReport(record, results, warnings, _untuned(results, variants))


def _other_margins(record: FrozenClaims, margins: Mapping[str, float]) -> list[str]:
    """Margins of the report that are not the frozen ones."""
    frozen, when = record.content["margins"], date_of(record.versions[-1])
    return [
        f"The margin of {m} is {number(x)} in this report, but {number(frozen.get(m))} was frozen on {when}."
        for m, x in margins.items()
        if m in record.content["measures"] and x != frozen.get(m)
    ]


def _untuned(results: Sequence[ClaimResult], variants: Sequence[Variant]) -> dict[str, str]:
    by_name = {v.name: v for v in variants}
    claims = [r.claim for r in results if r.claim.a in by_name and r.claim.b in by_name]
    found = {c.text: "; ".join(also_different(by_name[c.b], by_name[c.a])) for c in claims}
    return {text: words for text, words in found.items() if words}


def _tested(text: str, record: FrozenClaims, variants: Sequence[Variant]) -> ClaimResult:
    try:
        claim = parse_claim(text)
    except UserError as error:
        return untestable(Claim(text, "", "", "?", "", 0.0), str(error))
    by_name = {v.name: v for v in variants if v.done}
    missing = [name for name in (claim.a, claim.b) if name not in by_name]
    if missing:
        return untestable(claim, f"no finished run of {' and '.join(missing)}")
    a, b = by_name[claim.a], by_name[claim.b]
    if why := why_not_comparable(a, b):
        return untestable(claim, why)
    first, second = (_planned(record, v, claim.measure) for v in (a, b))
    for scores, v in ((first, a), (second, b)):
        if not any(value is not None for value in scores.values()):
            return untestable(claim, f"{v.name} has no {claim.measure}")
    own = not a.is_base, not b.is_base
    return claim_result(claim, first, second, scenes_of([a, b]), own, repeatability(a, b, claim.measure))


def _planned(record: FrozenClaims, variant: Variant, measure: str) -> Scores:
    """The values of the frozen prompts and seeds. The base has no training, so its training seed does not matter."""
    content = record.content
    noises, prompts = set(content["generation_seeds"]), content["prompts"]
    seeds = set(content["arms"].get(variant.name, {}).get("training_seeds", []))
    return {
        (sample, (noise, run)): value
        for (sample, (noise, run)), value in values_of(variant, measure).items()
        if noise in noises and (prompts is None or sample in prompts) and (variant.is_base or run in seeds)
    }


def _incomplete(record: FrozenClaims, variants: Sequence[Variant]) -> list[str]:
    """Planned training runs that are missing or not done, and runs that were not planned."""
    by_name = {v.name: v for v in variants}
    found = []
    for name, arm in record.content["arms"].items():
        planned = set(arm["training_seeds"])
        runs = by_name[name].runs if name in by_name else []
        if runs and by_name[name].is_base:
            planned = {r.seed for r in runs} if by_name[name].done else planned
        done = {r.seed for r in by_name[name].done} if runs else set()
        missing = planned - done
        if missing:
            words = ", ".join(map(str, sorted(missing)))
            found.append(f"Planned but not done: {name}, training seeds {words}. The verdicts are preliminary.")
        added = done - planned
        if added:
            words = ", ".join(map(str, sorted(added)))
            found.append(f"Not planned: {name}, training seeds {words}. The claims are tested without them.")
    return found
