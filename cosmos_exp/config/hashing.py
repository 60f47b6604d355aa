"""Which configurations are the same: the hash of each stage, and the differences in words."""

from __future__ import annotations

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
_NOT_IN_TRAINING = {  # these do not change the adapter; the keys of the data only add test videos
    "training": {"checkpoint_every_steps", "keep_checkpoints"},
    "data": {"swaps", "kept_prompts", "kept_pairs"},
}


def _content(config: Config, stage: str) -> JsonObject:
    """All keys that can change what `stage` (train, generate, evaluate) produces."""
    exclude = _NOT_IN_TRAINING if stage == "train" else None
    content = config.model_dump(include=set(_STAGE_GROUPS[stage]), exclude=exclude)
    return content | {"hardware": config.hardware.model_dump(include=_HARDWARE_KEYS)}


def stage_hash(config: Config, stage: str = "evaluate") -> str:
    """12 hex digits over all keys that can change what `stage` (train, generate, evaluate) produces."""
    return json_sha256(_content(config, stage))[:12]


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
    changed = differences(_content(old, "train"), _content(new, "train"))
    if not changed or not RunFolder(folder).is_taken():
        return
    changed.sort(key=lambda line: line.partition(":")[0] not in named)
    if named:
        fix += " The command line must name all of that run's keys: those that it leaves out have their defaults."
    raise UserError(f"{folder} holds a run of another configuration ({'; '.join(changed[:4])}).\n{fix}")
