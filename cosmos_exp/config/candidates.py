"""What may follow in an override that is being typed: groups, choices, keys and values, from conf/ and the schema alone.

Composes nothing and imports nothing heavy, because a shell asks at each press of the TAB key.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

from cosmos_exp.config.paths import conf_dir
from cosmos_exp.config.schema import Config

PATH_KEYS: tuple[str, ...] = ("data.path", "data.test_path", "model.source", "judge.source", "sampson.calibration")
PATH_KEYS += ("run_dir", "cache_dir", "adapter.truncate_from")
"""Keys whose value is a file or a folder."""
# Choices of Hydra itself and of its plugins, which only Hydra could list.
_OF_HYDRA = {
    "hydra/launcher": ("basic", "ray", "slurm", "submitit_local", "submitit_slurm"),
    "hydra/sweeper": ("basic", "optuna"),
}


def group_choices(config_dirs: Sequence[str] = ()) -> dict[str, list[str]]:
    """The choices of each group, by the names of the files in conf/ and in the user's folders of groups."""
    found: dict[str, set[str]] = {group: set(names) for group, names in _OF_HYDRA.items()}
    for folder in (conf_dir(), *map(Path, config_dirs)):
        for file in folder.glob("*/**/*.yaml"):
            found.setdefault(file.parent.relative_to(folder).as_posix(), set()).add(file.stem)
    return {group: sorted(names) for group, names in sorted(found.items())}


def key_fields(node: object = None, where: str = "") -> Iterator[tuple[str, dataclasses.Field[object]]]:
    """Each key of the schema that holds a value, dotted, with its field."""
    node = Config() if node is None else node
    for f in dataclasses.fields(node):  # type: ignore[arg-type]  # a dataclass of the schema
        value = getattr(node, f.name)
        if dataclasses.is_dataclass(value):
            yield from key_fields(value, f"{where}{f.name}.")
        else:
            yield where + f.name, f


def override_candidates(word: str, config_dirs: Sequence[str] = ()) -> dict[str, str]:
    """What an unfinished override may become, with the help of each key.

    Args:
        word: what was typed so far: `ada`, `training.le`, `rank=8,1`.
        config_dirs: the user's folders of groups (`--config-dir`).

    Returns:
        Full words. A name ends with `=`; one that has keys below it ends with `.`.
    """
    sign = word[: len(word) - len(word.lstrip("+"))]
    name, equals, value = word.removeprefix(sign).partition("=")
    if not equals:
        return {sign + k: help for k, help in _names(name, group_choices(config_dirs)).items()}
    before, _, last = value.rpartition(",")
    given = before.split(",") if before else []
    head = f"{sign}{name}=" + (f"{before}," if before else "")
    return {head + v: "" for v in _values(name, config_dirs) if v.startswith(last) and v not in given}


def _names(start: str, groups: dict[str, list[str]]) -> dict[str, str]:
    """Groups and keys that begin with `start`, one level of dots at a time."""
    keys = {key: str(f.metadata.get("help", "")) for key, f in key_fields()}
    found = {f"{g}=": f"one of {', '.join(names)}" for g, names in groups.items() if g.startswith(start)}
    while True:
        level = start.count(".") + 1
        below: dict[str, str] = {}
        for key, help in keys.items():
            if key.startswith(start):
                parts = key.split(".")
                below |= {f"{key}=": help} if len(parts) <= level else {".".join(parts[:level]) + ".": "keys below"}
        if found or len(below) != 1 or not next(iter(below)).endswith("."):
            return found | below
        start = next(iter(below))  # a shell would put a space behind the only candidate


def _values(name: str, config_dirs: Sequence[str]) -> list[str]:
    groups = group_choices(config_dirs)
    if name in groups:
        return groups[name]
    field = dict(key_fields()).get(name)
    if field is None:
        return []
    if field.type in ("bool", bool):
        return ["true", "false"]
    registry = field.metadata.get("registry")
    choices = registry.names if registry else [str(c) for c in field.metadata.get("choices", ())]
    return [*choices, "null"] if "None" in str(field.type) else choices
