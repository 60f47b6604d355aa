"""The run folder: the one thing that the stages of a run share. Paths, atomic writes, status, manifest, scores."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from typing import Any

from cosmos_exp.config.schema import Config


def differences(old: Any, new: Any, where: str = "") -> list[str]:
    """`key: old -> new` for each key in which two plain dictionaries differ."""
    found = []
    for name in sorted(set(old) | set(new), key=str):
        a, b = old.get(name), new.get(name)
        if isinstance(a, dict) and isinstance(b, dict):
            found += differences(a, b, f"{where}{name}.")
        elif a != b:
            found.append(f"{where}{name}: {a} -> {b}")
    return found


_HARDWARE_ROUNDS = ("device", "mixed_precision")

_STAGE_GROUPS = {
    "train": ("adapter", "model", "data", "training", "seed", "hardware", "approximate"),
    "generate": ("adapter", "model", "data", "training", "seed", "hardware", "approximate", "generation"),
    "evaluate": (
        "adapter",
        "model",
        "data",
        "training",
        "seed",
        "hardware",
        "approximate",
        "generation",
        "sampson",
        "judge",
    ),
}


def stage_hash(config: Config, stage: str = "evaluate") -> str:
    """12 hex digits over all keys that can change what `stage` (train, generate, evaluate) produces."""
    content: dict[str, Any] = {}
    for group in _STAGE_GROUPS[stage]:
        value = getattr(config, group)
        content[group] = value if isinstance(value, int) else dataclasses.asdict(value)
    content["hardware"] = {k: content["hardware"][k] for k in _HARDWARE_ROUNDS}
    if stage == "train":  # looking more often does not change the adapter
        content["training"].pop("checkpoint_every_steps"), content["training"].pop("keep_checkpoints")
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:12]
