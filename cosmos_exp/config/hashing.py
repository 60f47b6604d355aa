"""Which configurations are the same: the hash of each stage, and the differences in words."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from cosmos_exp.config.schema import Config
from cosmos_exp.errors import UserError
from cosmos_exp.files import JsonObject
from cosmos_exp.run_folder import RunFolder

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

_TRAIN_GROUPS = ("adapter", "model", "data", "training", "seed", "hardware", "approximate")
_STAGE_GROUPS = {
    "train": _TRAIN_GROUPS,
    "generate": (*_TRAIN_GROUPS, "generation"),
    "evaluate": (*_TRAIN_GROUPS, "generation", "sampson", "measures", "judge"),
}
_HARDWARE_KEYS = ("device", "mixed_precision")  # the only ones that change the rounding
_NOT_IN_TRAINING = ("checkpoint_every_steps", "keep_checkpoints")  # they do not change the adapter


def stage_hash(config: Config, stage: str = "evaluate") -> str:
    """12 hex digits over all keys that can change what `stage` (train, generate, evaluate) produces."""
    content: JsonObject = {}
    for group in _STAGE_GROUPS[stage]:
        value = getattr(config, group)
        content[group] = value if isinstance(value, int) else own_keys(value)
    content["hardware"] = {k: content["hardware"][k] for k in _HARDWARE_KEYS}
    if stage == "train":
        for key in _NOT_IN_TRAINING:
            content["training"].pop(key)
        content["data"].pop("swaps", None)  # they only add test videos
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:12]


def own_keys(group: DataclassInstance) -> JsonObject:
    """A group's keys and values, without keys that came after the first version and have their default."""
    added = {f.name for f in dataclasses.fields(group) if f.metadata.get("added")}
    default = type(group)()
    values = dataclasses.asdict(group)
    return {k: v for k, v in values.items() if k not in added or v != getattr(default, k)}


def with_added_keys(name: str, group: Mapping[str, object]) -> JsonObject:
    """A group of a recorded configuration with the keys that came after the record was written, at their defaults.

    Args:
        name: of the group, e.g. generation.
    """
    added: JsonObject = json.loads(_added_keys(name))  # a copy: values may be lists
    return added | dict(group)


@cache
def _added_keys(name: str) -> str:
    """The keys of a group that came after the first version, with their defaults, as JSON."""
    default = getattr(Config(), name)
    added = {f.name: getattr(default, f.name) for f in dataclasses.fields(default) if f.metadata.get("added")}
    return json.dumps(added)


def differences(old: Mapping[str, object], new: Mapping[str, object], where: str = "") -> list[str]:
    """`key: old -> new` for each key in which two plain dictionaries differ."""
    found = []
    for name in sorted(set(old) | set(new), key=str):
        a, b = old.get(name), new.get(name)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            found += differences(a, b, f"{where}{name}.")
        elif a != b:
            found.append(f"{where}{name}: {a} -> {b}")
    return found


def check_same_training(old: Config, new: Config, folder: Path, fix: str) -> None:
    """Refuse to mix two trainings in one run folder. A folder without work refuses none.

    Args:
        old: the folder's own configuration.
        fix: what the user can do about it.

    Raises:
        UserError: it names the keys that differ.
    """
    if stage_hash(old, "train") == stage_hash(new, "train") or not RunFolder(folder).is_taken():
        return
    changed = differences(dataclasses.asdict(old), dataclasses.asdict(new))
    changed = [c for c in changed if re.split(r"[.:]", c)[0] in _TRAIN_GROUPS]
    raise UserError(f"{folder} holds a run of another configuration ({'; '.join(changed[:4])}).\n{fix}")
