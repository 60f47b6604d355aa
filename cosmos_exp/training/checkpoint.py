"""Checkpoints: adapter, optimizer, average, position. A folder takes its name only when it is whole."""

from __future__ import annotations

import os
import shutil
import tempfile
import warnings
from pathlib import Path
from typing import Any

import torch


def save(folder: Path, step: int, state: dict[str, Any], keep: int) -> Path:
    """Write checkpoints/step_<step> and drop all but the newest `keep`."""
    folder.mkdir(parents=True, exist_ok=True)
    target = folder / f"step_{step:08d}"
    work = Path(tempfile.mkdtemp(dir=folder, prefix=".tmp-"))
    try:
        with open(work / "state.pt", "wb") as file:
            torch.save(state | {"step": step}, file)
            file.flush()
            os.fsync(file.fileno())
        if target.exists():
            shutil.rmtree(target)
        os.replace(work, target)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    for old in _all(folder)[:-keep]:
        shutil.rmtree(old, ignore_errors=True)
    return target


def load_newest(folder: Path) -> dict[str, Any] | None:
    """The newest checkpoint that can be read, or None. Leftovers of a killed run are removed."""
    for leftover in folder.glob(".tmp-*"):
        shutil.rmtree(leftover, ignore_errors=True)
    for path in reversed(_all(folder)):
        try:
            return torch.load(path / "state.pt", map_location="cpu", weights_only=True)
        except Exception as error:
            warnings.warn(f"{path}: cannot be read ({error}); going back to the one before", stacklevel=2)
    return None


def _all(folder: Path) -> list[Path]:
    return sorted(p for p in folder.glob("step_*") if p.is_dir())
