"""A run's configuration on disk: config.yaml in the run folder."""

from __future__ import annotations

from pathlib import Path
from typing import cast

from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cosmos_exp.config.composing import to_config
from cosmos_exp.config.explain import explain
from cosmos_exp.config.schema import Config
from cosmos_exp.errors import UserError
from cosmos_exp.files import atomic_path


def load_config(path: Path) -> Config:
    """The configuration that a run folder's config.yaml holds.

    Raises:
        UserError: the file is missing or invalid.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such file. Is this a run folder?")
    try:
        return to_config(cast(DictConfig, OmegaConf.merge(OmegaConf.structured(Config), OmegaConf.load(path))))
    except OmegaConfBaseException as error:
        raise UserError(f"{path}: {explain(error)}") from error


def save_config(config: Config, path: Path) -> None:
    """Write the resolved configuration. `load_config` reads it back."""
    with atomic_path(path) as temporary:
        OmegaConf.save(OmegaConf.structured(config), temporary, resolve=True)
