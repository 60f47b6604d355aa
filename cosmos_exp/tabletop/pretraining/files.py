"""Checkpoints of the stages."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from cosmos_exp.files import atomic_path


def save_state(path: Path, state: Mapping[str, object]) -> None:
    """Write a state with torch.save, atomically."""
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        torch.save(state, file)
