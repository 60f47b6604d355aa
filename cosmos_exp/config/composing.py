"""The typed schema of conf/: what every key is, may be, and means. Imports nothing heavy.

Hydra checks names and types against these dataclasses while it composes; `check` adds what a type cannot say
(choices, ranges, sums) and what keys say about each other. Both together take well under two seconds."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from cosmos_exp.config.checks import check
from cosmos_exp.config.explain import ANY_OTHER, explain
from cosmos_exp.config.paths import conf_dir
from cosmos_exp.config.schema import Config
from cosmos_exp.errors import UserError


def register() -> None:
    """Put the schema into Hydra's store under the name that conf/config.yaml begins with."""
    from hydra.core.config_store import ConfigStore

    ConfigStore.instance().store(name="schema", node=Config)


def quote_choices(words: list[str]) -> list[str]:
    """`rank=8` -> `rank='8'`, `rank=8,16` -> `rank='8','16'`: Hydra takes a bare number for no choice of a group."""

    def quote(word: str) -> str:
        group, sign, value = word.partition("=")
        if not sign or group not in ANY_OTHER:
            return word
        return group + "=" + ",".join(f"'{v}'" if re.fullmatch(r"[-+.\w]+", v) else v for v in value.split(","))

    return [quote(w) for w in words]


def compose_config(overrides: list[str], config_name: str = "config", config_dirs: tuple[str, ...] = ()) -> Config:
    """Compose conf/ with `overrides` and check it.

    Args:
        config_dirs: further folders of groups or primary configs, searched before conf/.

    Raises:
        UserError: an unknown key, group or choice, a wrong type, or a value that cannot be.
    """
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    register()
    try:
        return to_config(_composed(quote_choices(overrides), config_name, config_dirs))
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise UserError(explain(error)) from error


def _composed(overrides: list[str], config_name: str, config_dirs: tuple[str, ...]) -> Any:
    # hydra.compose finds a primary config only in conf/; this is what hydra.main does for --config-dir.
    from hydra._internal.hydra import Hydra
    from hydra._internal.utils import create_config_search_path
    from hydra.core.config_search_path import SearchPathQuery
    from hydra.core.global_hydra import GlobalHydra
    from hydra.types import RunMode
    from omegaconf import open_dict

    search_path = create_config_search_path(str(conf_dir()))
    for folder in config_dirs:
        search_path.append(
            "command-line", "file://" + str(Path(folder).absolute()), anchor=SearchPathQuery(provider="main")
        )
    GlobalHydra.instance().clear()
    try:
        hydra = Hydra.create_main_hydra2("cosmos-exp", search_path)
        composed = hydra.compose_config(config_name, overrides, run_mode=RunMode.RUN, from_shell=False)
    finally:
        GlobalHydra.instance().clear()
    with open_dict(composed):
        composed.pop("hydra", None)
    return composed


def to_config(composed: Any) -> Config:
    """The typed, checked Config of a composed DictConfig."""
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        config = OmegaConf.to_object(composed)
    except OmegaConfBaseException as error:
        raise UserError(explain(error)) from error
    assert isinstance(config, Config)
    for where, name in ((config.data, "path"), (config.data, "test_path"), (config, "run_dir"), (config, "cache_dir")):
        if getattr(where, name):
            setattr(where, name, str(Path(getattr(where, name)).expanduser().absolute()))
    check(config)
    return config
