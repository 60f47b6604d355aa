"""From overrides to a checked Config. Errors name the key and its choices. Imports nothing heavy."""

from __future__ import annotations

import re
from pathlib import Path

from omegaconf import DictConfig

from cosmos_exp.config.checks import check
from cosmos_exp.config.explain import ANY_OTHER, explain
from cosmos_exp.config.paths import conf_dir
from cosmos_exp.config.schema import Config
from cosmos_exp.errors import UserError


def register() -> None:
    """Put the schema into Hydra's store under the name with which conf/config.yaml begins."""
    from hydra.core.config_store import ConfigStore

    ConfigStore.instance().store(name="schema", node=Config)


def quote_choices(words: list[str]) -> list[str]:
    """`rank=8` -> `rank='8'`, `rank=8,16` -> `rank='8','16'`: Hydra does not take a bare number as a group's choice."""

    def quote(word: str) -> str:
        group, sign, value = word.partition("=")
        if not sign or group not in ANY_OTHER:
            return word
        return group + "=" + ",".join(f"'{v}'" if re.fullmatch(r"[-+.\w]+", v) else v for v in value.split(","))

    return [quote(w) for w in words]


def compose_config(overrides: list[str], config_name: str = "config", config_dirs: tuple[str, ...] = ()) -> Config:
    """Compose conf/ with `overrides` and check the result.

    Args:
        config_dirs: further folders of groups or primary configs, searched before conf/.

    Raises:
        UserError: an unknown key, group or choice, a wrong type, or an invalid value.
    """
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from cosmos_exp.config.hydra_internals import compose

    register()
    try:
        return to_config(compose(conf_dir(), config_dirs, config_name, quote_choices(overrides)))
    except (HydraException, OmegaConfBaseException, ValueError) as error:
        raise UserError(explain(error)) from error


def to_config(composed: DictConfig) -> Config:
    """The typed, checked Config of a composed DictConfig, with absolute paths.

    Raises:
        UserError: a wrong type or an invalid value.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        config = OmegaConf.to_object(composed)
    except OmegaConfBaseException as error:
        raise UserError(explain(error)) from error
    assert isinstance(config, Config)
    for owner, name in ((config.data, "path"), (config.data, "test_path"), (config, "run_dir"), (config, "cache_dir")):
        if getattr(owner, name):
            setattr(owner, name, str(Path(getattr(owner, name)).expanduser().absolute()))
    check(config)
    return config
