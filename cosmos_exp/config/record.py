"""From overrides to a checked Config, with errors that name the key and what it may be. Imports nothing heavy."""

from __future__ import annotations

from pathlib import Path

from cosmos_exp.config.composing import to_config
from cosmos_exp.config.explain import explain
from cosmos_exp.config.schema import Config
from cosmos_exp.errors import UserError


def load_config(path: Path) -> Config:
    """The configuration that a run folder's config.yaml holds.

    Raises:
        UserError: the file is missing or was not written by this version.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    if not path.is_file():
        raise UserError(f"{path}: there is no such file; is this a run folder?")
    try:
        return to_config(OmegaConf.merge(OmegaConf.structured(Config), OmegaConf.load(path)))
    except OmegaConfBaseException as error:
        raise UserError(f"{path}: {explain(error)}") from error


def save_config(config: Config, path: Path) -> None:
    """Write the resolved configuration; `load_config` reads it back."""
    from omegaconf import OmegaConf

    from cosmos_exp.files import atomic_path

    with atomic_path(path) as temporary:
        OmegaConf.save(OmegaConf.structured(config), temporary, resolve=True)
