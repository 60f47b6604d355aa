"""Where the shipped configuration and the cache are."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs

from cosmos_exp.config.schema import Config


def conf_dir() -> Path:
    """conf/ beside the package in a checkout, inside the package in an installed wheel."""
    return _shipped("conf")


def sweeps_dir() -> Path:
    """sweeps/, in the same two places."""
    return _shipped("sweeps")


def _shipped(name: str) -> Path:
    package = Path(__file__).parents[1]
    return package / name if (package / name).is_dir() else package.parent / name


def cache_root(config: Config) -> Path:
    """The folder of data and latents shared by runs: `cache_dir`, else COSMOS_EXP_CACHE, else the user's cache folder."""
    chosen = config.cache_dir or os.environ.get("COSMOS_EXP_CACHE")
    return Path(chosen).expanduser() if chosen else platformdirs.user_cache_path("cosmos_exp", appauthor=False)
