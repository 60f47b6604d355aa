"""Where the shipped configuration and the cache are, and which choices conf/ offers."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import platformdirs

from cosmos_exp.config.schema import Config

# Keys whose value is a file or a folder.
PATH_KEYS = (
    "data.path",
    "data.test_path",
    "model.source",
    "judge.source",
    "sampson.calibration",
    "run_dir",
    "cache_dir",
    "adapter.truncate_from",
)


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


def group_choices(config_dirs: Iterable[str] = ()) -> dict[str, list[str]]:
    """The choices of each group: the names of the files in conf/ and in the user's folders."""
    choices: dict[str, set[str]] = {"hydra/launcher": {"basic", "ray", "slurm"}, "hydra/sweeper": {"basic", "optuna"}}
    for folder in (conf_dir(), *map(Path, config_dirs)):
        for file in folder.glob("*/**/*.yaml"):
            choices.setdefault(file.parent.relative_to(folder).as_posix(), set()).add(file.stem)
    return {group: sorted(names) for group, names in sorted(choices.items())}
