"""The typed schema of conf/: what every key is, may be, and means. Imports nothing heavy.

Hydra checks names and types against these dataclasses while it composes; `check` adds what a type cannot say
(choices, ranges, sums) and what keys say about each other. Both together take well under two seconds."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any


def conf_dir() -> Path:
    """conf/ beside the package in a checkout, inside it in an installed wheel."""
    return _shipped("conf")


def sweeps_dir() -> Path:
    """sweeps/, likewise."""
    return _shipped("sweeps")


def _shipped(name: str) -> Path:
    package = Path(__file__).parents[1]
    return package / name if (package / name).is_dir() else package.parent / name


def cache_root(config: Any) -> Path:
    """data and latents shared by runs: `cache_dir`, else COSMOS_EXP_CACHE, else ~/.cache/cosmos_exp."""
    return Path(config.cache_dir or os.environ.get("COSMOS_EXP_CACHE") or "~/.cache/cosmos_exp").expanduser()
