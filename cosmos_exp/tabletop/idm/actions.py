"""The actions of a clip: where the grasp point of each hand is in every frame, and how far the hand is open."""

from __future__ import annotations

import numpy as np

from cosmos_exp.tabletop.scene import Scene
from cosmos_exp.tabletop.vocabulary import HANDS

# World axes of cosmos_exp.tabletop.camera: x right, y away from the viewer, z up; metres. Opening: 1 open, 0 closed.
PARTS = ("x", "y", "z", "opening")
ACTIONS = tuple(f"{hand}_{part}" for hand in HANDS for part in PARTS)
POSITIONS = tuple(i for i, name in enumerate(ACTIONS) if not name.endswith("opening"))
OPENINGS = tuple(i for i, name in enumerate(ACTIONS) if name.endswith("opening"))


def true_actions(scene: Scene) -> np.ndarray:
    """The actions of a scene's clip, float32 (T, 8), in the order of ACTIONS."""
    rows = []
    for index in range(scene.num_frames):
        hands = scene.state(index).hands
        rows.append([value for hand in HANDS for value in (*hands[hand][0], hands[hand][1])])
    return np.array(rows, np.float32)


def mirrored(actions: np.ndarray) -> np.ndarray:
    """The actions (..., 8) of the mirrored clip: the hands change places and x changes its sign."""
    out = actions.reshape(*actions.shape[:-1], len(HANDS), len(PARTS))[..., ::-1, :].copy()
    out[..., 0] *= -1
    return out.reshape(actions.shape)
