"""All uses of Hydra's private API but the base class in hydra_plugins/, so that a new version needs a change here alone.

Written against hydra-core 1.3; pyproject.toml sets the upper bound. The public API lacks three things: composing a
primary config that is not in conf/ (sweeps, `--config-dir`), parsing Hydra's own command line before Hydra runs (to
report a bad request without a traceback), and expanding a sweep into its runs without starting them.
"""

from __future__ import annotations

import argparse
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra._internal.hydra import Hydra
from hydra._internal.utils import create_config_search_path, get_args_parser
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from cosmos_exp.config.explain import explain, unknown_flag
from cosmos_exp.config.study_checks import check_file, check_hydra, check_overrides, is_of_hydra, shipped_launcher
from cosmos_exp.errors import UserError
from cosmos_exp.text import one_line


def compose(conf: Path, config_dirs: Sequence[str], config_name: str, overrides: list[str]) -> DictConfig:
    """The composed configuration without Hydra's own part, as `hydra.main` with `--config-dir` composes it.

    Args:
        conf: the folder of the shipped groups.
        config_dirs: further folders, searched before `conf`. They may come from someone else: see `study_checks`.

    Raises:
        UserError: `config_dirs` set something of Hydra that can run code.
    """
    if config_dirs:
        check_overrides(overrides)
        for folder in config_dirs:
            check_file(Path(folder) / f"{config_name}.yaml")
    composed = _compose(conf, config_dirs, config_name, overrides)
    if config_dirs:
        typed = [o for o in overrides if is_of_hydra(o)]
        launcher = shipped_launcher(composed.hydra.runtime.choices.get("hydra/launcher"), conf)
        if launcher and not any(o.startswith("hydra/launcher=") for o in typed):
            typed.append(f"hydra/launcher={launcher}")
        check_hydra(_plain_hydra(composed), _shipped_hydra(conf, tuple(typed)), f"{config_dirs[0]}/{config_name}.yaml")
    with open_dict(composed):
        composed.pop("hydra", None)
    return composed


@functools.cache
def _shipped_hydra(conf: Path, overrides: tuple[str, ...]) -> object:
    return _plain_hydra(_compose(conf, (), "config", list(overrides)))


def chosen_hydra(conf: Path, overrides: Sequence[str]) -> object:
    """Hydra's own part, as plain containers, with the launcher and sweeper of `overrides` and nothing else changed."""
    return _shipped_hydra(conf, tuple(o for o in overrides if o.startswith("hydra/")))


def chosen_launcher(conf: Path, folder: Path, name: str, overrides: list[str]) -> tuple[str, str | None]:
    """The launcher of folder/name.yaml with `overrides`: its name, and the address of its cluster if it has one."""
    hydra = _compose(conf, (str(folder),), name, overrides).hydra
    address = OmegaConf.select(hydra, "launcher.ray.init.address")
    return str(hydra.runtime.choices.get("hydra/launcher")), address


def sweeper_keys(conf: Path, overrides: Sequence[str]) -> set[str]:
    """The keys of the chosen sweeper (hydra/sweeper=…)."""
    hydra = chosen_hydra(conf, overrides)
    return set(hydra["sweeper"]) if isinstance(hydra, dict) else set()


def _plain_hydra(composed: DictConfig) -> object:
    return OmegaConf.to_container(composed.hydra, resolve=False)


def _compose(conf: Path, config_dirs: Sequence[str], config_name: str, overrides: list[str]) -> DictConfig:
    search_path = create_config_search_path(str(conf))
    for folder in config_dirs:
        url = "file://" + str(Path(folder).absolute())
        search_path.append("command-line", url, anchor=SearchPathQuery(provider="main"))
    GlobalHydra.instance().clear()
    try:
        hydra = Hydra.create_main_hydra2("cosmos-exp", search_path)
        return hydra.compose_config(config_name, overrides, run_mode=RunMode.RUN, from_shell=False)
    except (HydraException, OmegaConfBaseException, ValueError, OverflowError):
        raise
    except Exception as error:  # Hydra expects more of a file's shape than it checks: AttributeError, TypeError …
        where = f"{config_dirs[0]}/{config_name}.yaml" if config_dirs else " ".join(overrides)
        reason = f"{type(error).__name__}: {one_line(error)[:160]}"
        raise UserError(f"{where}: cannot be composed ({reason}). Give each key a value of its own type.") from error
    finally:
        GlobalHydra.instance().clear()


def parse_command_line(words: list[str]) -> argparse.Namespace:
    """Hydra's flags and overrides in any order: `.overrides`, `.multirun`, `.config_name`, `.config_dir`, …

    Raises:
        UserError: a flag that does not exist.
    """
    parser = get_args_parser()
    parser.prog = "cosmos-exp run"
    known, unknown = parser.parse_known_intermixed_args(words)
    if unknown:
        raise UserError(unknown_flag(unknown[0]))
    return known


def overrides_last(words: list[str]) -> list[str]:
    """Hydra's flags, then the overrides: Hydra itself takes no override after a flag that follows an override."""
    overrides: list[str] = parse_command_line(words).overrides
    left = list(overrides)
    flags = [w for w in words if w not in left or left.remove(w)]  # type: ignore[func-returns-value]  # each one once
    return [*flags, *overrides]


def expand(overrides: Sequence[str]) -> list[list[str]]:
    """Hydra's product of all values: one list of overrides per run.

    Raises:
        UserError: one cannot be parsed.
    """
    parsed = [_parse(o) for o in overrides]
    batches: list[list[list[str]]] = BasicSweeper.split_arguments(parsed, None)
    return batches[0]


def value_of(override: str) -> Any:
    """The value that an override sets, as Python's types."""
    return _parse(override).value()


def is_sweep(override: str) -> bool:
    """Whether an override has several values."""
    return bool(_parse(override).is_sweep_override())


def _parse(override: str) -> Override:
    try:
        return OverridesParser.create().parse_override(override)
    except (HydraException, RecursionError) as error:
        raise UserError(explain(error)) from error
