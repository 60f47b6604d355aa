"""Clips with one planted fault each, to calibrate judges: what happens is known to be wrong, and how.

`plant(scene, fault)` gives the frames and the prompt that they are to be judged by. `RUBRIC` says which rubric must
notice.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

import cv2
import numpy as np

from cosmos_exp.tabletop.scene import HANDS, LOOKS, PHASES, TABLE_TONE, Scene

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
DROP = 0.6 * PHASES[1] + 0.4 * PHASES[2]  # a third of the way, short of any container


@dataclass(frozen=True)
class FaultyScene(Scene):
    """A scene in which `fault` happens."""

    fault: str = ""

    def state(self, index: int) -> dict:
        """As `Scene.state`, gone wrong."""
        state, share = super().state(index), index / max(self.num_frames - 1, 1)
        name, place, goal = self.objects[0].name, self.objects[0].place, self.containers[0].place
        if self.fault == "dropped" and share > DROP:
            x, y, z = super().state(round(DROP * (self.num_frames - 1)))["spots"][name]
            state["spots"][name] = (x, y, max(z - 0.08 * (share - DROP) * (self.num_frames - 1), 0.0))
        elif self.fault == "vanishing object" and share > DROP:
            state["spots"][name] = (0.0, 0.0, -5.0)
        elif self.fault == "teleport":
            state["spots"][name] = (*place, 0.0) if index < 2 else (*goal, 0.012)
        elif self.fault == "hand of the other look" and share > PHASES[0] / 2:
            state["look"] = LOOKS[1 - LOOKS.index(self.look)]
        return state


def plant(scene: Scene, fault: str) -> tuple[np.ndarray, str]:
    """uint8 (T, H, W, 3) in which `fault` happens, and the prompt it should have followed.

    Raises:
        KeyError: a fault that does not exist.
    """
    if fault not in RUBRIC:
        raise KeyError(fault)
    prompt = scene.prompt
    if fault == "wrong hand":
        scene = scene.with_hand(HANDS[1 - HANDS.index(scene.hand)])
    elif fault == "wrong object":
        scene = replace(scene, objects=(scene.objects[1], scene.objects[0], *scene.objects[2:]))
    elif fault in ("dropped", "vanishing object", "teleport", "hand of the other look"):
        scene = FaultyScene(**{f.name: getattr(scene, f.name) for f in fields(scene)}, fault=fault)
    if fault == "fading object":
        return fade(scene), prompt
    return spoil(scene.clip().frames, fault, scene.seed), prompt


def fade(scene: Scene, share: float = 0.6) -> np.ndarray:
    """The scene's frames with the moved object's colour drifting, over the first half, to `share` of the wood's."""
    clip = scene.clip()
    frames, wood = clip.frames.astype(np.float32), np.array(TABLE_TONE, np.float32)
    thing = clip.labels == scene.objects[0].label
    for t, frame in enumerate(frames):
        part = share * min(2 * t / max(len(frames) - 1, 1), 1.0)
        frame[thing[t]] = (1 - part) * frame[thing[t]] + part * wood
    return frames.round().astype(np.uint8)


def spoil(frames: np.ndarray, fault: str, seed: int) -> np.ndarray:
    """The faults of the picture: frozen, reversed, noise (25 grey levels), blur (2 pixels); others change nothing."""
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
