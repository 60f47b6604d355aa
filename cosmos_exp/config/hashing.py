"""Which configurations are the same: the hash of each stage, and the differences in words."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from cosmos_exp.config.schema import Config
from cosmos_exp.errors import UserError
from cosmos_exp.files import JsonObject, json_sha256
from cosmos_exp.run_folder import RunFolder

_TRAIN_GROUPS = ("adapter", "model", "data", "training", "seed", "hardware", "approximate")
_STAGE_GROUPS = {
    "train": _TRAIN_GROUPS,
    "generate": (*_TRAIN_GROUPS, "generation"),
    "evaluate": (*_TRAIN_GROUPS, "generation", "sampson", "measures", "judge"),
}
_HARDWARE_KEYS = {"device", "mixed_precision"}  # the only ones that change the rounding
_NOT_IN_TRAINING = ("checkpoint_every_steps", "keep_checkpoints")  # they do not change the adapter


def stage_hash(config: Config, stage: str = "evaluate") -> str:
    """12 hex digits over all keys that can change what `stage` (train, generate, evaluate) produces."""
    content: JsonObject = config.model_dump(include=set(_STAGE_GROUPS[stage]))
    content["hardware"] = config.hardware.model_dump(include=_HARDWARE_KEYS)
    if stage == "train":
        for key in _NOT_IN_TRAINING:
            content["training"].pop(key)
        for key in ("swaps", "kept_prompts", "kept_pairs"):  # they only add test videos
            content["data"].pop(key)
    return json_sha256(content)[:12]


def differences(old: Mapping[str, object], new: Mapping[str, object], where: str = "") -> list[str]:
    """`key: old -> new` for each key in which two plain dictionaries differ."""
    lines = []
    for name in sorted(set(old) | set(new), key=str):
        a, b = old.get(name), new.get(name)
        if isinstance(a, Mapping) and isinstance(b, Mapping):
            lines += differences(a, b, f"{where}{name}.")
        elif a != b:
            lines.append(f"{where}{name}: {a} -> {b}")
    return lines


def check_same_training(old: Config, new: Config, folder: Path, fix: str, named: Sequence[str] = ()) -> None:
    """Refuse to mix two trainings in one run folder. A folder without work refuses none.

    Args:
        old: the folder's own configuration.
        fix: what the user can do about it.
        named: keys of the command line, which the error names first.

    Raises:
        UserError: it names the keys that differ.
    """
    if stage_hash(old, "train") == stage_hash(new, "train") or not RunFolder(folder).is_taken():
        return
    changed = differences(old.model_dump(), new.model_dump())
    changed = [c for c in changed if re.split(r"[.:]", c)[0] in _TRAIN_GROUPS]
    changed.sort(key=lambda line: line.partition(":")[0] not in named)
    if named:
        fix += " The command line must name all of that run's keys: those that it leaves out have their defaults."
    raise UserError(f"{folder} holds a run of another configuration ({'; '.join(changed[:4])}).\n{fix}")
