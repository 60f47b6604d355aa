"""What a study (a YAML file and the groups beside it) may set of Hydra: values to sweep, and one of our launchers by name.

A study may come from someone else. Hydra's own part of a configuration names classes to build (`_target_`), callbacks,
logging handlers, environment variables, modules to search and commands for a cluster, so it can run code. What a study
sets there is compared with what the shipped configuration sets; the command line may set anything.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from cosmos_exp.config.trust import was_typed
from cosmos_exp.errors import UserError

_FREE: tuple[str, ...] = ("hydra.mode", "hydra.sweeper.params", "hydra.overrides", "hydra.runtime", "hydra.job.name")
_FREE += ("hydra.job.override_dirname", "hydra.job.config_name", "hydra.job.id", "hydra.job.num")
# Keys of a launcher that are one word, which cannot hold a command.
_RESOURCES: tuple[str, ...] = (
    "partition",
    "account",
    "qos",
    "nodes",
    "gpus_per_node",
    "cpus_per_task",
    "mem_gb",
    "timeout_min",
)
_RESOURCES += ("tasks_per_node", "array_parallelism", "constraint")
_FIX = "A study may set hydra.sweeper.params, and a launcher of conf/hydra/launcher by name"


def is_of_hydra(override: str) -> bool:
    """Whether an override sets Hydra's own part."""
    return re.match(r"[+~]*hydra\b", override) is not None


def check_overrides(overrides: list[str]) -> None:
    """Refuse overrides of Hydra that were not typed: they come from the arms or parameters of a study.

    Raises:
        UserError: it names the override.
    """
    for word in overrides:
        if is_of_hydra(word) and not (was_typed(word) or was_typed(word.removeprefix("++"))):
            raise _refusal(word.partition("=")[0].lstrip("+~"), "in the arms or parameters of a study")


def check_file(path: Path) -> None:
    """Refuse a search path in a study: Hydra imports the packages in it while it composes. A study also needs `defaults`.

    Raises:
        UserError: the file has one, it is not YAML, or it does not begin with another configuration.
    """
    if not path.is_file():
        return
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise UserError(f"{path}: not valid YAML ({str(error).splitlines()[0]}). Fix the file.") from error
    if not isinstance(content, Mapping):
        raise UserError(f"{path}: holds no keys. A study has keys and values, such as `name: my_study`.")
    own = content.get("hydra")
    if isinstance(own, Mapping) and own.get("searchpath") is not None:
        raise _refusal("hydra.searchpath", str(path))
    for key in content:
        if str(key).startswith("hydra.searchpath"):
            raise _refusal("hydra.searchpath", str(path))
    params = own.get("sweeper") if isinstance(own, Mapping) else None
    values = params.get("params") if isinstance(params, Mapping) else None
    for key in values if isinstance(values, Mapping) else ():
        if is_of_hydra(str(key)):
            raise _refusal(str(key), f"{path}, hydra.sweeper.params")
    defaults = content.get("defaults")
    if not any(isinstance(d, str) and d != "_self_" for d in (defaults if isinstance(defaults, list) else ())):
        raise UserError(
            f"{path}: does not begin with the shipped configuration. Add this line at the top: defaults: [config, _self_]"
        )


def check_hydra(own: object, shipped: object, where: str) -> None:
    """Compare Hydra's part of a composed study with that of the shipped configuration.

    Args:
        own, shipped: plain containers, not resolved.
        where: the study, for the error.

    Raises:
        UserError: it names the first key that differs.
    """
    for key in _differing(own, shipped, "hydra"):
        raise _refusal(key, where)


def shipped_launcher(choice: object, conf: Path) -> str | None:
    """The name of a launcher if conf/hydra/launcher has it."""
    name = str(choice)
    return name if re.fullmatch(r"\w+", name) and (conf / "hydra" / "launcher" / f"{name}.yaml").is_file() else None


def _refusal(key: str, where: str) -> UserError:
    return UserError(
        f"{key}: refused, {where} sets it. It can run code or commands. {_FIX}. If you want it, give {key}=… on the command "
        "line."
    )


def _differing(own: Any, shipped: Any, where: str) -> Iterator[str]:  # Any: YAML of any type
    if where in _FREE:
        return
    if isinstance(own, Mapping) and isinstance(shipped, Mapping):
        for key in sorted({*own, *shipped}, key=str):
            yield from _differing(own.get(key), shipped.get(key), f"{where}.{key}")
    elif own != shipped and not _is_resource(where, own):
        yield where


def _is_resource(key: str, value: object) -> bool:
    named = key.startswith("hydra.launcher.") and key.removeprefix("hydra.launcher.") in _RESOURCES
    return named and re.fullmatch(r"[\w.:-]+", str(value)) is not None
