"""claims.json in the folder of a sweep: what was claimed, with margins, prompts, seeds and measures, and every change of it.

`cosmos_exp.sweep.frozen_claims` writes it when the first run of a sweep starts. The hash in it covers all of its content.
"""

from __future__ import annotations

import copy
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NotRequired

# pydantic reads typing.TypedDict from Python 3.12 on
from typing_extensions import TypedDict

from cosmos_exp.config.hashing import stage_hash
from cosmos_exp.config.schema import Adapter, Config, Training
from cosmos_exp.errors import UserError
from cosmos_exp.files import JsonObject, json_sha256
from cosmos_exp.report.formatting import minute
from cosmos_exp.text import one_line

if TYPE_CHECKING:
    from pydantic import TypeAdapter

CLAIMS_FILE = "claims.json"
_NAMES = {"margins": "margins", "measures": "measures", "prompts": "prompts", "scenes": "scenes"}
_NAMES |= {"generation_seeds": "generation seeds"}
_NAMES |= {"arms": "arms or training seeds", "tuning": "tuning"}
_SHORT = dict.fromkeys(("rank", "adapter.rank"), ("adapter.rank", "adapter.alpha")) | {"alpha": ("adapter.alpha",)}


class _Arm(TypedDict):
    training_seeds: list[int]


class _Content(TypedDict):
    claims: list[str]
    margins: dict[str, float]
    measures: dict[str, JsonObject]
    prompts: dict[str, str] | None
    generation_seeds: list[int]
    arms: dict[str, _Arm]
    tuning: NotRequired[JsonObject | None]


class _Version(TypedDict):
    """What every version of the claims holds. Further keys are free."""

    content: _Content
    frozen: str
    after_scores: bool


@dataclass(frozen=True)
class FrozenClaims:
    """The content of claims.json.

    Attributes:
        content: claims, margins, measures, prompts (name: text; None if the data decide them later), scenes
            (of each prompt; missing in older records), generation_seeds, arms
            (name: training_seeds, config_hash) and tuning (how each arm's own values are chosen; empty without).
        frozen: When this content was written, UTC.
        after_scores: Whether a test run already had a score then.
        history: The earlier versions, oldest first, each with content, frozen and after_scores.
        sha256: The hash as the file gives it.
        intact: Whether the hash fits the content: the file was not changed by hand.
    """

    content: JsonObject
    frozen: str
    after_scores: bool
    history: list[JsonObject]
    sha256: str
    intact: bool

    @property
    def claims(self) -> list[str]:
        return [one_line(c) for c in self.content["claims"]]

    @property
    def tuned(self) -> list[str]:
        """The keys whose values are chosen for each arm."""
        return list((self.content.get("tuning") or {}).get("grid") or {})

    @property
    def versions(self) -> list[JsonObject]:
        """All versions, oldest first, each with content, frozen and after_scores."""
        now = {"content": self.content, "frozen": self.frozen, "after_scores": self.after_scores}
        return [*self.history, now]

    @property
    def changed_after_scores(self) -> JsonObject | None:
        """The last version that was written after the first score; None if there is none."""
        return next((v for v in reversed(self.versions) if v["after_scores"]), None)

    def since(self, claim: str) -> JsonObject:
        """The version from which on a claim has always been there."""
        found = self.versions[-1]
        for version in reversed(self.versions):
            if claim not in version["content"]["claims"]:
                break
            found = version
        return found


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
        found = FrozenClaims(
            content=dict(record["content"]),
            frozen=str(record["frozen"]),
            after_scores=bool(record["after_scores"]),
            history=[dict(v) for v in record["history"]],
            sha256=one_line(digest),
            intact=digest == record_hash(record),
        )
        for version in found.versions:
            _check_version(version)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(
            f"{file}: not a record of claims ({type(error).__name__}: {' '.join(str(error).split())[:200]}). It was changed by hand or cut off: restore "
            "it from a backup or from git. Without it, the claims count as made after the scores."
        ) from error
    return found


@cache
def _version_adapter() -> TypeAdapter[_Version]:
    from pydantic import TypeAdapter

    return TypeAdapter(_Version)


def _check_version(version: JsonObject) -> None:
    """Raise ValueError if a version lacks a key, or if one has another type."""
    _version_adapter().validate_python(version, strict=True)


def record_hash(record: JsonObject) -> str:
    """SHA-256 of a record as canonical JSON, without its own hash."""
    return json_sha256({k: v for k, v in record.items() if k != "sha256"})


def arm_hash(config: Config, tuned: Sequence[str] = ()) -> str:
    """12 hex digits over what decides an arm's results: its configuration but for the training seed and the tuned keys.

    The base does not depend on adapter and training keys.

    Args:
        tuned: Dotted keys whose values are chosen for each arm by the sweep, e.g. training.learning_rate.
    """
    own = copy.deepcopy(config)
    own.seed = 0
    if own.adapter.kind == "none":
        own.adapter, own.training = Adapter(kind="none"), Training()
    own.adapter.truncate_from = None  # it names one run, of one training seed
    for key in (name for k in tuned for name in _SHORT.get(k, (k,))):
        *groups, name = key.split(".")
        group: Any = own
        for part in groups:
            group = getattr(group, part)
        setattr(group, name, getattr(type(group)(), name))
    return stage_hash(own)


def date_of(version: JsonObject) -> str:
    """When a version was frozen: 2026-11-24 14:03 UTC."""
    return minute(one_line(version["frozen"]))


def changes(record: FrozenClaims) -> list[str]:
    """One sentence per change of the claims, oldest first: when, what, and whether scores existed."""
    found = []
    first = record.versions[0]
    if first["after_scores"]:
        found.append(f"The claims were first written on {date_of(first)}, after the first score.")
    for old, new in zip(record.versions, record.versions[1:], strict=False):
        when = "after" if new["after_scores"] else "before"
        found.append(f"Changed on {date_of(new)}, {when} the first score: {_change(old['content'], new['content'])}.")
    return found


def _change(old: JsonObject, new: JsonObject) -> str:
    """What differs between two versions."""
    parts = [f"`{one_line(c)}` removed" for c in old["claims"] if c not in new["claims"]]
    parts += [f"`{one_line(c)}` added" for c in new["claims"] if c not in old["claims"]]
    same = {"measures"} if parts else set()  # they follow from the claims
    parts += [f"other {words}" for key, words in _NAMES.items() if key not in same and old.get(key) != new.get(key)]
    return "; ".join(parts) or "another order"
