"""The inverse dynamics model of the embedded world: frames of a clip to the positions and openings of both hands.

`weights/idm/tabletop.pt` is a TorchScript file, which `cosmos-exp trajectories --actions idm:tabletop` runs as it runs a user's own.
benchmarks/idm trains it on rendered clips, whose hand positions are known; figures are in weights/idm/README.md.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import torch

from cosmos_exp.tabletop.build import WEIGHTS
from cosmos_exp.tabletop.scene import Scene
from cosmos_exp.tabletop.world import HANDS

IDM_FILE = WEIGHTS / "idm" / "tabletop.pt"
# World axes of the cameras: x right, y away from the viewer, z up; metres. Opening: 1 open, 0 closed.
PARTS = ("x", "y", "z", "opening")
ACTIONS = tuple(f"{hand}_{part}" for hand in HANDS for part in PARTS)
POSITIONS = (0, 1, 2, 4, 5, 6)  # columns of ACTIONS that are no opening


def true_actions(scene: Scene) -> np.ndarray:
    """The actions of a scene's clip, float32 (T, 8), in the order of ACTIONS."""
    rows = []
    for index in range(scene.num_frames):
        hands = scene.state(index).hands
        for hand in HANDS:
            tip, opening = hands[hand]
            rows.append((*tip, opening))
    return np.array(rows, np.float32).reshape(scene.num_frames, -1)


def mirrored(actions: np.ndarray) -> np.ndarray:
    """The actions (..., 8) of the mirrored clip: the hands change places and x changes its sign."""
    out = actions.reshape(*actions.shape[:-1], len(HANDS), len(PARTS))[..., ::-1, :].copy()
    out[..., 0] *= -1
    return out.reshape(actions.shape)


@cache
def load_idm() -> torch.jit.ScriptModule:
    """The model of IDM_FILE."""
    return torch.jit.load(str(IDM_FILE), map_location="cpu").eval()


@torch.no_grad()
def read_actions(frames: np.ndarray) -> np.ndarray:
    """The actions that the model reads from frames uint8 (T, H, W, 3): float32 (T, 8), in the order of ACTIONS."""
    video = torch.from_numpy(np.ascontiguousarray(frames)).permute(0, 3, 1, 2)[None].float() / 255
    return load_idm()(video)[0].numpy()
