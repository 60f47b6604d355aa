"""Clips with one planted fault each, to calibrate judges: the fault is known.

`plant(scene, fault)` returns the frames and the prompt by which they are judged. `RUBRIC` names the rubric that must
detect each fault.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import cv2
import numpy as np

from cosmos_exp.tabletop.motion import PHASES, State
from cosmos_exp.tabletop.scene import Scene
from cosmos_exp.tabletop.vocabulary import APPEARANCES, TABLE_TONE, other_hand

# Names as in recorded benchmark results.
RUBRIC = {
    "wrong hand": "instruction",
    "wrong object": "instruction",
    "dropped": "instruction",
    "frozen": "instruction",
    "reversed": "instruction",
    "vanishing object": "physics",
    "teleport": "physics",
    "hand of the other look": "physics",
    "fading object": "physics",
    "noise": "physics",
    "blur": "physics",
}
DROP = 0.6 * PHASES[1] + 0.4 * PHASES[2]  # fraction of the clip: 40 % of the carry, before the container is reached


@dataclass(frozen=True)
class FaultyScene(Scene):
    """A scene in which `fault` happens."""

    fault: str = ""

    def state(self, index: int) -> State:
        """As `Scene.state`, with the fault."""
        state, fraction = super().state(index), index / max(self.num_frames - 1, 1)
        name, place, goal = self.objects[0].name, self.objects[0].place, self.containers[0].place
        if self.fault == "dropped" and fraction > DROP:
            x, y, z = super().state(round(DROP * (self.num_frames - 1))).spots[name]
            state.spots[name] = (x, y, max(z - 0.08 * (fraction - DROP) * (self.num_frames - 1), 0.0))
        elif self.fault == "vanishing object" and fraction > DROP:
            state.spots[name] = (0.0, 0.0, -5.0)
        elif self.fault == "teleport":
            state.spots[name] = (*place, 0.0) if index < 2 else (*goal, 0.012)
        elif self.fault == "hand of the other look" and fraction > PHASES[0] / 2:
            state.appearance = APPEARANCES[1 - APPEARANCES.index(self.appearance)]
        return state


def plant(scene: Scene, fault: str) -> tuple[np.ndarray, str]:
    """Render a scene with a fault.

    Returns:
        Frames, uint8 (T, H, W, 3), and the prompt that the clip should have followed.

    Raises:
        KeyError: a fault that does not exist.
    """
    if fault not in RUBRIC:
        raise KeyError(fault)
    prompt = scene.prompt
    if fault == "wrong hand":
        scene = scene.with_hand(other_hand(scene.hand))
    elif fault == "wrong object":
        scene = replace(scene, objects=(scene.objects[1], scene.objects[0], *scene.objects[2:]))
    elif fault in ("dropped", "vanishing object", "teleport", "hand of the other look"):
        scene = FaultyScene(**{f.name: getattr(scene, f.name) for f in fields(scene)}, fault=fault)
    if fault == "fading object":
        return fade(scene), prompt
    return spoil(scene.clip().frames, fault, scene.seed), prompt


def fade(scene: Scene, amount: float = 0.6) -> np.ndarray:
    """Render a scene in which the colour of the moved object drifts towards the wood's over the first half.

    Args:
        amount: fraction of the wood's colour at the end of the drift, 0 to 1.

    Returns:
        uint8 (T, H, W, 3).
    """
    clip = scene.clip()
    frames, wood = clip.frames.astype(np.float32), np.array(TABLE_TONE, np.float32)
    thing = clip.labels == scene.objects[0].label
    for t, frame in enumerate(frames):
        part = amount * min(2 * t / max(len(frames) - 1, 1), 1.0)
        frame[thing[t]] = (1 - part) * frame[thing[t]] + part * wood
    return frames.round().astype(np.uint8)


def spoil(frames: np.ndarray, fault: str, seed: int) -> np.ndarray:
    """Apply a fault of the picture to uint8 (T, H, W, 3).

    The faults are frozen, reversed, noise (standard deviation 25 grey levels) and blur (2 pixels). Frames are returned
    unchanged for any other fault.
    """
    if fault == "frozen":
        return np.repeat(frames[:1], len(frames), axis=0)
    if fault == "reversed":
        return frames[::-1].copy()
    if fault == "noise":
        noise = np.random.RandomState(seed % 2**32).standard_normal(frames.shape) * 25
        return np.clip(frames + noise, 0, 255).astype(np.uint8)
    if fault == "blur":
        return np.stack([cv2.GaussianBlur(f, (0, 0), 2.0) for f in frames])
    return frames
