"""The finished runs that the videos come from: their adapters, and the settings that they share."""

from __future__ import annotations

import copy
import dataclasses
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cosmos_exp.config.checks import check
from cosmos_exp.config.composing import compose_config
from cosmos_exp.config.hashing import differences, own_keys
from cosmos_exp.config.layers import adapter_label
from cosmos_exp.config.record import load_config
from cosmos_exp.config.schema import Config
from cosmos_exp.errors import UserError
from cosmos_exp.files import JsonObject, file_sha256
from cosmos_exp.run_folder import SWEEP_FILE, RunFolder

# What --set may change: how videos are made and scored here. The rest describes the run and its adapter.
SETTABLE = ("hardware", "judge", "measures", "sampson", "generation")
SETTABLE_KEYS = ("cache_dir", "data.path", "data.test_path", "model.source", "model.revision", "model.guardrail")
NOT_SETTABLE = {
    "generation.seeds": "Give the seeds with --seeds.",
    "generation.split": "Give other prompts with --prompts.",
    "generation.max_prompts": "Give other prompts with --prompts.",
}
# Keys of the data that decide what a video looks like.
PICTURE_KEYS = ("height", "width", "num_frames", "fps", "resize", "views", "cameras", "tiling")
NO_ADAPTER = "base"  # in place of an adapter's hash


@dataclass(frozen=True)
class SourceRun:
    """A finished run.

    Attributes:
        name: of its folder.
        label: of its adapter, e.g. lora-r32.
        adapter: the adapter file; None: the base model.
        sha256: of the adapter file; NO_ADAPTER without one.
        fingerprint: of its data.
    """

    name: str
    label: str
    adapter: Path | None
    sha256: str
    fingerprint: str


def read_sources(paths: Sequence[str], words: Sequence[str]) -> tuple[Config, list[SourceRun]]:
    """The configuration under which all runs generate and are scored, and the runs.

    Args:
        words: overrides from --set.

    Raises:
        UserError: a folder is no finished run, two have one name, or they do not make and score videos alike.
    """
    found = [_read(Path(p).expanduser()) for p in paths]
    names = [source.name for _, _, source in found]
    twice = next((n for n in names if names.count(n) > 1), None)
    if twice:
        raise UserError(_named_twice(twice, [p for p, n in zip(paths, names, strict=True) if n == twice]))
    configs = [with_settings(config, words) for config, _, _ in found]
    _, manifest, first = found[0]
    for config, (_, other, source) in zip(configs[1:], found[1:], strict=True):
        changed = differences(_shared(configs[0], manifest), _shared(config, other))
        changed = [c for c in changed if not re.match(r"model.fingerprints: (None ->|.*-> None$)", c)]  # of an old run
        if changed:
            raise UserError(
                f"RUN {source.name} does not make and score videos as {first.name} does ({'; '.join(changed[:3])}). "
                "Write a data set for each with its own --out."
            )
    return configs[0], [source for _, _, source in found]


def _named_twice(name: str, paths: Sequence[str]) -> str:
    """What to say of runs whose folders have one name: episodes are marked by it."""
    first, second = paths[:2]
    if Path(first).expanduser().resolve() == Path(second).expanduser().resolve():
        return f"RUN {first}: two runs are named {name}, and they are one folder. Name it once."
    other = Path(second).parent.name or "other"
    return (
        f"RUN {first} and {second}: two runs are named {name}, and episodes are marked by that name. Rename one folder, e.g. "
        f"mv {second} {Path(second).with_name(f'{name}-{other}')}"
    )


def _read(path: Path) -> tuple[Config, JsonObject, SourceRun]:
    """A run's configuration, its manifest, and what is used of it.

    Raises:
        UserError: it is no finished run, or its adapter is missing.
    """
    folder = RunFolder(path)
    if not folder.config.is_file():
        runs = sorted(p.parent.name for p in folder.path.glob("*/config.yaml"))
        if runs:
            kind = "sweep" if (folder.path / SWEEP_FILE).is_file() else "folder of runs"
            raise UserError(f"RUN {path}: is a {kind}. Name its runs: {', '.join(f'{path}/{r}' for r in runs[:4])} …")
        raise UserError(f"RUN {path}: no config.yaml. Give the folder of a finished run.")
    config = load_config(folder.config)
    state = folder.status.get("state", "not started")
    if state != "done":
        raise UserError(f"RUN {path}: is not finished ({state}). Finish it with `cosmos-exp run run_dir={path}`.")
    adapter = None if config.adapter.kind == "none" else folder.adapter_file
    if adapter and not adapter.is_file():
        raise UserError(f"RUN {path}: its adapter {adapter} is missing. Copy it here, or run it again.")
    manifest = folder.manifest
    digest = file_sha256(adapter) if adapter else NO_ADAPTER
    fingerprint = str(manifest.get("data_fingerprint", ""))
    return config, manifest, SourceRun(folder.path.name, adapter_label(config.adapter), adapter, digest, fingerprint)


def _shared(config: Config, manifest: JsonObject) -> JsonObject:
    """What has to be the same in all runs of one data set."""
    generation = {k: v for k, v in own_keys(config.generation).items() if f"generation.{k}" not in NOT_SETTABLE}
    return {
        "model": {"name": config.model.name, "fingerprints": manifest.get("model", {}).get("fingerprints")},
        "data": {k: getattr(config.data, k) for k in PICTURE_KEYS},
        "generation": generation,
        "training": {"condition_timestep": config.training.condition_timestep},
        "sampson": own_keys(config.sampson),
        "measures": own_keys(config.measures) | {"references": None},
        "judge": own_keys(config.judge),
    }


def with_settings(config: Config, words: Sequence[str]) -> Config:
    """A copy of a run's configuration with the overrides of --set.

    Raises:
        UserError: an unknown key or value, or a key that belongs to the run.
    """
    changed = copy.deepcopy(config)
    keys = [_settable(word) for word in words]
    if words:
        composed = compose_config(list(words))
        for key in keys:
            owner, _, name = key.rpartition(".")
            value = _get(composed, key)
            setattr(_get(changed, owner) if owner else changed, name, value)
        check(changed)
    changed.run_dir = None
    return changed


def _settable(word: str) -> str:
    """The key or group of an override.

    Raises:
        UserError: it is none, or --set may not change it.
    """
    key, sign, _ = word.partition("=")
    if not sign or key.startswith(("+", "~")):
        raise UserError(f"--set {word}: write KEY=VALUE, e.g. --set hardware.num_threads=1")
    if key in NOT_SETTABLE:
        raise UserError(f"--set {word}: {NOT_SETTABLE[key]}")
    if key.split(".")[0] not in SETTABLE and key not in SETTABLE_KEYS:
        allowed = ", ".join([*(f"{g}.*" for g in SETTABLE), *SETTABLE_KEYS])
        raise UserError(f"--set {word}: belongs to the run and its adapter. Keys that can be set: {allowed}.")
    return key


def _get(owner: object, key: str) -> object:
    for name in key.split("."):
        owner = getattr(owner, name)
    return owner


def settings_of(config: Config) -> JsonObject:
    """The settings that decide what a video looks like, besides prompt, first frame, seed, adapter and model."""
    return {
        "generation": {k: v for k, v in own_keys(config.generation).items() if f"generation.{k}" not in NOT_SETTABLE},
        "data": {k: getattr(config.data, k) for k in PICTURE_KEYS},
        "condition_timestep": config.training.condition_timestep,
        "hardware": [config.hardware.device, config.hardware.mixed_precision, config.hardware.guidance],
        "approximate": dataclasses.asdict(config.approximate),
    }
