"""Checkpoints of a training: adapter, optimizer, average, step. A folder gets its name only when it is complete."""

from __future__ import annotations

import os
import shutil
import warnings
from pathlib import Path
from typing import Any

import torch

from cosmos_exp.files import atomic_folder
from cosmos_exp.run_folder.records import damaged

State = dict[str, Any]  # Any: tensors, AdamW's state, numbers
KEYS = {"step", "summary", "adapter", "optimizer", "ema"}


class Checkpoints:
    """checkpoints/step_<k> of a run folder; the newest `keep` are kept."""

    def __init__(self, folder: Path, keep: int):
        self.folder, self.keep = folder, keep
        self.read_from = folder  # the file that load_newest has read

    def save(self, step: int, state: State) -> Path:
        """Write the state after `step` optimizer steps, then remove older checkpoints.

        Raises:
            DiskError: the disk is full, or the folder cannot be written. Older checkpoints are kept.
        """
        target = self.folder / f"step_{step:08d}"
        with atomic_folder(target) as work:
            with open(work / "state.pt", "wb") as file:
                torch.save(state | {"step": step}, file)
                file.flush()
                os.fsync(file.fileno())
            shutil.rmtree(target, ignore_errors=True)
        for old in self._all()[: -self.keep]:
            shutil.rmtree(old, ignore_errors=True)
        return target

    def load_newest(self) -> State | None:
        """The newest readable checkpoint, or None.

        Raises:
            DamagedError: it can be read, and holds something else than a checkpoint of this package.
        """
        for path in reversed(self._all()):
            try:
                state = torch.load(path / "state.pt", map_location="cpu", weights_only=True)
            except Exception as error:
                warnings.warn(f"{path}: cannot be read ({error}). The checkpoint before it is used.", stacklevel=2)
                continue
            self.read_from = path / "state.pt"
            missing = KEYS - set(state) if isinstance(state, dict) else KEYS
            if missing:
                raise damaged(self.read_from, f"it is no checkpoint: {', '.join(sorted(missing))} is missing")
            return dict(state)
        return None

    def _all(self) -> list[Path]:
        return sorted(p for p in self.folder.glob("step_*") if p.is_dir())
