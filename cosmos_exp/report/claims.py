"""The claims of a sweep: what claims.json froze before the first run, and the test of each, apart from all other comparisons.

`cosmos_exp.sweep.frozen_claims` writes the file. Its hash covers all of its content.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path

import pandas as pd

from cosmos_exp.config.hashing import stage_hash
from cosmos_exp.config.schema import Adapter, Config, Training
from cosmos_exp.errors import UserError
from cosmos_exp.files import JsonObject, json_sha256
from cosmos_exp.report.comparisons import also_different, arm_tables, repeatability
from cosmos_exp.report.runs import Run
from cosmos_exp.statistics.claims import (
    CONFIRMED,
    NOT_SHOWN,
    REFUTED,
    Claim,
    ClaimResult,
    claim_result,
    correct,
    parse_claim,
    untestable,
)
from cosmos_exp.text import plain_json

CLAIMS_FILE = "claims.json"
SYMBOLS = {CONFIRMED: "✓", REFUTED: "✗", NOT_SHOWN: "·"}
_KEYS = {"claims": list, "margins": dict, "measures": dict, "generation_seeds": list, "arms": dict}
_SHORT = dict.fromkeys(("rank", "adapter.rank"), ("adapter.rank", "adapter.alpha")) | {"alpha": ("adapter.alpha",)}


@dataclass(frozen=True)
class FrozenClaims:
    """The content of claims.json.

    Attributes:
        content: claims, margins, prompts (name: text; None if the data decide them later), scenes (of each prompt),
            generation_seeds, arms (name: training_seeds, config_hash), measures, and tuning (how each arm's own values are chosen).
        frozen: When this content was written, UTC.
        commit: The git commit of the code then; empty if it is unknown.
        after_scores: Whether a test run already had a score then.
        history: The earlier versions, oldest first, each with content, frozen and after_scores.
        sha256: The hash as the file gives it.
        intact: Whether the hash fits the content.
    """

    content: JsonObject
    frozen: str
    commit: str
    after_scores: bool
    history: list[JsonObject]
    sha256: str
    intact: bool

    @property
    def claims(self) -> list[str]:
        return list(self.content["claims"])

    @property
    def versions(self) -> list[JsonObject]:
        """All versions, oldest first, each with content, frozen and after_scores."""
        now = {"content": self.content, "frozen": self.frozen, "after_scores": self.after_scores}
        return [*self.history, now]

    @property
    def changed_after_scores(self) -> list[JsonObject]:
        """The versions that were written after the first score."""
        return [version for version in self.versions if version["after_scores"]]

    @property
    def heading(self) -> str:
        """When the claims were frozen, and what speaks against them."""
        if not self.intact:
            return f"Claims of a {CLAIMS_FILE} that was changed by hand"
        changed = self.changed_after_scores
        if changed:
            return f"Claims changed after the first score, on {minute(changed[-1]['frozen'])}"
        return f"Claims, frozen before the first score on {minute(self.frozen)}"


def minute(time: str) -> str:
    """A recorded time as text: 2026-11-24 14:03 UTC."""
    return f"{time[:10]} {time[11:16]} UTC"


def read_claims(folder: Path) -> FrozenClaims | None:
    """The claims of a sweep's folder; None if none were frozen.

    Raises:
        UserError: claims.json is not such a record.
    """
    file = folder / CLAIMS_FILE
    if not file.is_file():
        return None
    try:
        record = json.loads(file.read_text(encoding="utf-8"))
        digest = str(record.pop("sha256"))
        intact = digest == json_sha256(record)
        record = plain_json(record)
        found = FrozenClaims(
            content=record["content"],
            frozen=str(record["frozen"]),
            commit=str(record.get("commit") or ""),
            after_scores=bool(record["after_scores"]),
            history=record["history"],
            sha256=digest,
            intact=intact,
        )
        for version in found.versions:
            for key, kind in _KEYS.items():
                if not isinstance(version["content"][key], kind):
                    raise TypeError(f"{key} is no {kind.__name__}")
        return found
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{file}: not a record of claims ({error}). Restore it; if you remove it, the claims count as made at the next start "
            "of the sweep."
        ) from error


def arm_hash(config: Config, tuned: Sequence[str] = ()) -> str:
    """12 hex digits over what decides an arm's results: its configuration but for the training seed and the tuned keys.

    The base does not depend on adapter and training keys.

    Args:
        tuned: Dotted keys whose values are chosen for each arm by the sweep, e.g. training.learning_rate.
    """
    own = config.updated({"seed": 0, "adapter.truncate_from": None})  # a run to cut is of one training seed
    if own.adapter.kind == "none":
        own = own.updated({"adapter": Adapter(kind="none"), "training": Training()})
    for tuned_key in tuned:
        for key in _SHORT.get(tuned_key, (tuned_key,)):
            own = own.updated({key: attrgetter(key)(Config())})
    return stage_hash(own)


# --- tests ---
@dataclass(frozen=True)
class ClaimRow:
    """A claim that was frozen before the runs, with its verdict.

    Attributes:
        text: As it was written, e.g. `instruction: lora-r32 > base`.
        verdict: confirmed, refuted, or not shown.
        difference, low, high: arm - reference with its 95 % interval; None if it cannot be tested.
        p: One-sided test of the claim (for `=` two one-sided tests), after Holm's correction over all claims; None if it cannot
            be tested.
        p_opposite: The same of the opposite of the claim.
        about_recipe: Whether the verdict is about new trainings, not about these trained adapters only.
        note: Why it is not shown, or under which condition the verdict holds; empty if there is nothing to say.
    """

    text: str
    verdict: str
    measure: str
    arm: str
    reference: str
    difference: float | None
    low: float | None
    high: float | None
    p: float | None
    p_opposite: float | None
    about_recipe: bool
    note: str = ""

    @property
    def symbol(self) -> str:
        """✓ confirmed, ✗ refuted, · not shown."""
        return SYMBOLS[self.verdict]


def tested_claims(
    record: FrozenClaims, scores: pd.DataFrame, arms: pd.DataFrame, first_runs: Mapping[str, Run], not_compared: str
) -> list[ClaimRow]:
    """The frozen claims, tested on the frozen prompts and seeds: what was added later is exploratory.

    Args:
        scores, arms: Of the study's test runs.
        first_runs: The first run of each arm.
        not_compared: Why the runs are not comparable; empty if they are.
    """
    bases = list(arms.index[arms["is_base"]])
    planned = _planned(record, scores, bases)
    results = []
    for text in record.claims:
        try:
            claim = parse_claim(text)
        except UserError as error:
            results.append(untestable(Claim(text, "", "", "?", "", 0.0), str(error)))
            continue
        results.append(_tested(claim, planned, arms, bases, not_compared))
    return [_row(result, first_runs) for result in correct(results)]


def _planned(record: FrozenClaims, scores: pd.DataFrame, bases: Sequence[str]) -> pd.DataFrame:
    """The scores of the frozen prompts and seeds. The base has no training, so its training seed does not matter."""
    content, prompts = record.content, record.content.get("prompts")
    keep = scores["noise"].isin(content["generation_seeds"])
    if prompts is not None:
        keep &= scores["prompt"].isin(list(prompts))
    for arm in set(scores["arm"]) - set(bases):
        seeds = content["arms"].get(arm, {}).get("training_seeds", [])
        keep &= (scores["arm"] != arm) | scores["seed"].isin(seeds)
    return scores[keep]


def _tested(
    claim: Claim, scores: pd.DataFrame, arms: pd.DataFrame, bases: Sequence[str], not_compared: str
) -> ClaimResult:
    """The test of one claim, or why it cannot be tested."""
    done = arms.index[arms["done"] > 0]
    missing = [name for name in (claim.a, claim.b) if name not in done]
    if missing:
        return untestable(claim, f"no finished run of {' and '.join(missing)}")
    if not_compared:
        return untestable(claim, not_compared)
    own = scores[(scores["measure"] == claim.measure) & scores["arm"].isin([claim.a, claim.b])]
    tables = arm_tables(own.dropna(subset="value"), bases)
    for name in (claim.a, claim.b):
        if name not in tables:
            return untestable(claim, f"{name} has no {claim.measure}")
    trained = claim.a not in bases, claim.b not in bases
    return claim_result(
        claim, tables[claim.a], tables[claim.b], trained, repeatability(own, claim.measure, (claim.a, claim.b))
    )


def _row(result: ClaimResult, first_runs: Mapping[str, Run]) -> ClaimRow:
    claim, d = result.claim, result.difference
    numbers: tuple[float | None, float | None, float | None] = (None, None, None)
    notes = []
    if result.reason:
        notes.append(f"cannot be tested: {result.reason}. It counts with p = 1 in Holm's correction")
    elif result.verdict == NOT_SHOWN:
        notes.append(result.obstacle)
    if d is not None:
        numbers = d.mean, d.ci_low, d.ci_high
        if result.verdict != NOT_SHOWN and d.few_runs:
            notes.append(f"holds if no training run fails ({d.few_runs} runs)")
        if not d.recipe:
            notes.append("about these trained adapters only")
        if different := "; ".join(also_different(first_runs[claim.b], first_runs[claim.a])):
            notes.append(f"the arms also differ in {different}, which was not tuned")
    p, p_opposite = (None, None) if result.reason else (result.p_holm, result.p_opposite_holm)
    note = "; ".join(filter(None, notes))
    names = claim.text, result.verdict, claim.measure, claim.a, claim.b
    return ClaimRow(*names, *numbers, p, p_opposite, result.is_about_recipe, note)


# --- what limits them ---
def claim_warnings(
    record: FrozenClaims, arms: pd.DataFrame, runs: pd.DataFrame, margins: Mapping[str, float]
) -> list[str]:
    """Changes after the first score, margins that are not the frozen ones, planned runs that are missing, and unplanned ones."""
    found = list(_changes(record))
    frozen = record.content["margins"]
    for measure in record.content["measures"]:
        if measure in margins and margins[measure] != frozen.get(measure):
            found.append(f"The margin of {measure} is {margins[measure]:g} here, but {frozen.get(measure)} was frozen.")
    done = runs[(runs["state"] == "done") & (runs["copy_of"] == "")]
    for arm, planned in record.content["arms"].items():
        seeds = set(done.loc[done["arm"] == arm, "seed"])
        wanted = set(planned["training_seeds"])
        if arm in arms.index and arms.loc[arm, "is_base"] and seeds:
            continue
        if missing := sorted(wanted - seeds):
            found.append(
                f"Planned but not done: {arm}, training seeds {_listed(missing)}. The verdicts are preliminary."
            )
        if added := sorted(seeds - wanted):
            found.append(f"Not planned: {arm}, training seeds {_listed(added)}. The claims are tested without them.")
    return found


def _listed(numbers: Sequence[int]) -> str:
    return ", ".join(map(str, numbers))


def _changes(record: FrozenClaims) -> Iterator[str]:
    """One sentence per version that was written after the first score."""
    before: JsonObject = {}
    for version in record.versions:
        content, old = version["content"], before.get("claims", [])
        words = [f"`{claim}` removed" for claim in old if claim not in content["claims"]]
        words += [f"`{claim}` added" for claim in content["claims"] if claim not in old]
        for key in ("margins", "prompts", "scenes", "generation_seeds", "arms", "tuning"):
            if before and before.get(key) != content.get(key):
                words.append(f"other {key.replace('_', ' ')}")
        if version["after_scores"]:
            yield f"Claims changed on {minute(version['frozen'])}, after the first score: {'; '.join(words)}."
        before = content
