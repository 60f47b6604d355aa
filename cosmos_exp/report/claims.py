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
from cosmos_exp.statistics.claims import NOT_SHOWN, Claim, ClaimResult, claim_result, correct, parse_claim, untestable
from cosmos_exp.text import plain_json

CLAIMS_FILE = "claims.json"
_KEYS = {"claims": list, "margins": dict, "measures": dict, "generation_seeds": list, "arms": dict}
_SHORT = dict.fromkeys(("rank", "adapter.rank"), ("adapter.rank", "adapter.alpha")) | {"alpha": ("adapter.alpha",)}


@dataclass(frozen=True)
class FrozenClaims:
    """The content of claims.json.

    Attributes:
        content: claims, margins, prompts (name: text; None if the data decide them later), scenes (of each prompt),
            generation_seeds, arms (name: training_seeds, config_hash), measures, and tuning (how each arm's own values are chosen).
        frozen: When this content was written, UTC.
        versions: All versions, oldest first, each with content, frozen and after_scores (whether a test run already had a score).
        intact: Whether the file's hash fits its content.
    """

    content: JsonObject
    frozen: str
    versions: list[JsonObject]
    intact: bool

    @property
    def changed_after_scores(self) -> list[JsonObject]:
        """The versions that were written after the first score."""
        return [version for version in self.versions if version["after_scores"]]

    @property
    def heading(self) -> str:
        """When the claims were frozen, and what speaks against them."""
        if not self.intact:
            return f"Claims of a {CLAIMS_FILE} that was changed by hand"
        if changed := self.changed_after_scores:
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
        intact = record.pop("sha256") == json_sha256(record)
        record = plain_json(record)
        now = {key: record[key] for key in ("content", "frozen", "after_scores")}
        versions = [*record["history"], now]
        for version in versions:
            for key, kind in _KEYS.items():
                if not isinstance(version["content"][key], kind):
                    raise TypeError(f"{key} is no {kind.__name__}")
        return FrozenClaims(record["content"], str(record["frozen"]), versions, intact)
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
    compared = config.updated({"seed": 0, "adapter.truncate_from": None})  # a run to cut is of one training seed
    if compared.adapter.kind == "none":
        compared = compared.updated({"adapter": Adapter(kind="none"), "training": Training()})
    for tuned_key in tuned:
        for key in _SHORT.get(tuned_key, (tuned_key,)):
            compared = compared.updated({key: attrgetter(key)(Config())})
    return stage_hash(compared)


# --- tests ---
CLAIM_COLUMNS = [
    "text",
    "verdict",
    "measure",
    "arm",
    "reference",
    "difference",
    "low",
    "high",
    "p",
    "p_opposite",
    "about_recipe",
    "note",
]


def tested_claims(
    record: FrozenClaims, scores: pd.DataFrame, arms: pd.DataFrame, first_runs: Mapping[str, Run], not_compared: str
) -> pd.DataFrame:
    """The frame `Study.claims`: the frozen claims, tested on the frozen prompts and seeds; what was added later is exploratory.

    Args:
        scores, arms: Of the study's test runs.
        first_runs: The first run of each arm.
        not_compared: Why the runs are not comparable; empty if they are.
    """
    bases = list(arms.index[arms["is_base"]])
    planned = _planned(record, scores, bases)
    results = []
    for text in record.content["claims"]:
        try:
            results.append(_tested(parse_claim(text), planned, arms, bases, not_compared))
        except UserError as error:
            results.append(untestable(Claim(text, "", "", "?", "", 0.0), str(error)))
    return pd.DataFrame([_row(result, first_runs) for result in correct(results)], columns=CLAIM_COLUMNS)


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
    scores = scores[scores["measure"] == claim.measure].dropna(subset="value")
    tables, names = arm_tables(scores, bases), (claim.a, claim.b)
    done = arms.index[arms["done"] > 0]
    for name in names:
        if name not in done:
            return untestable(claim, f"no finished run of {name}")
        if not not_compared and name not in tables:
            return untestable(claim, f"{name} has no {claim.measure}")
    if not_compared:
        return untestable(claim, not_compared)
    trained = claim.b not in bases, claim.a not in bases
    noise = repeatability(scores, claim.measure, names)
    return claim_result(claim, tables[claim.a], tables[claim.b], trained, noise)


def _row(result: ClaimResult, first_runs: Mapping[str, Run]) -> JsonObject:
    claim, d = result.claim, result.difference
    row: JsonObject = {
        "text": claim.text,
        "verdict": result.verdict,
        "measure": claim.measure,
        "arm": claim.a,
        "reference": claim.b,
    }
    row |= {"p": result.p_holm, "p_opposite": result.p_opposite_holm, "about_recipe": False}
    notes = []
    if result.reason:
        row |= {"p": None, "p_opposite": None}
        notes.append(f"cannot be tested: {result.reason}. It counts with p = 1 in Holm's correction")
    elif result.verdict == NOT_SHOWN:
        notes.append(result.obstacle)
    if d is not None:
        row |= {"difference": d.mean, "low": d.low, "high": d.high, "about_recipe": d.recipe}
        if result.verdict != NOT_SHOWN and d.few_runs:
            notes.append(f"holds if no training run fails ({d.few_runs} runs)")
        if not d.recipe:
            notes.append("about these trained adapters only")
        if different := also_different(first_runs[claim.b], first_runs[claim.a]):
            notes.append(f"the arms also differ in {different}, which was not tuned")
    return row | {"note": "; ".join(filter(None, notes))}


# --- what limits them ---
def claim_warnings(
    record: FrozenClaims, arms: pd.DataFrame, runs: pd.DataFrame, margins: Mapping[str, float]
) -> Iterator[str]:
    """Margins that are not the frozen ones, planned runs that are missing, and unplanned ones."""
    frozen = record.content["margins"]
    for measure in record.content["measures"]:
        if measure in margins and margins[measure] != frozen.get(measure):
            yield f"The margin of {measure} is {margins[measure]:g} here, but {frozen.get(measure)} was frozen."
    bases = arms.index[arms["is_base"] & (arms["done"] > 0)]
    for arm, planned in record.content["arms"].items():
        seeds = set(runs.loc[(runs["state"] == "done") & (runs["arm"] == arm), "seed"])
        missing, added = set(planned["training_seeds"]) - seeds, seeds - set(planned["training_seeds"])
        if arm in bases:  # it has no training
            continue
        if missing:
            listed = ", ".join(map(str, sorted(missing)))
            yield f"Planned but not done: {arm}, training seeds {listed}. The verdicts are preliminary."
        if added:
            listed = ", ".join(map(str, sorted(added)))
            yield f"Not planned: {arm}, training seeds {listed}. The claims are tested without them."
