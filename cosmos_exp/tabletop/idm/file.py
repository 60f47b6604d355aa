"""The shipped file of the inverse dynamics model, and its use on a clip."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
import torch

from cosmos_exp.tabletop.build import WEIGHTS

IDM_FILE = WEIGHTS / "idm" / "tabletop.pt"


@cache
def load_idm(path: Path = IDM_FILE) -> torch.jit.ScriptModule:
    """The model of a TorchScript file."""
    return torch.jit.load(str(path), map_location="cpu").eval()


@torch.no_grad()
def read_actions(frames: np.ndarray, path: Path = IDM_FILE) -> np.ndarray:
    """The actions that the model reads from frames uint8 (T, H, W, 3): float32 (T, 8), see `actions.ACTIONS`."""
    video = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)[None].float() / 255
    return load_idm(path)(video)[0].numpy()
