"""Faults of the picture: pixels of a rendered clip change in a way that no camera and no light explains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import cv2
import numpy as np

from cosmos_exp.tabletop.room import make_room
from cosmos_exp.tabletop.scene import Scene
from cosmos_exp.tabletop.scene_faults import FaultyScene, rise
from cosmos_exp.tabletop.vocabulary import LABELS, TABLE_TONE


def _times(scene: Scene) -> list[float]:
    """Each frame's time as a fraction of the clip."""
    return [t / max(scene.num_frames - 1, 1) for t in range(scene.num_frames)]


def frozen(scene: Scene, dose: float) -> np.ndarray:
    """The first frame, held."""
    return np.repeat(scene.clip().frames[:1], scene.num_frames, axis=0)


def reversed_time(scene: Scene, dose: float) -> np.ndarray:
    """The clip played backwards."""
    return scene.clip().frames[::-1].copy()


def noise(scene: Scene, dose: float) -> np.ndarray:
    """Gaussian noise with a standard deviation of `dose` grey levels."""
    frames = scene.clip().frames
    grain = np.random.RandomState(scene.seed % 2**32).standard_normal(frames.shape) * dose
    return np.clip(frames + grain, 0, 255).astype(np.uint8)


def blur(scene: Scene, dose: float) -> np.ndarray:
    """Gaussian blur with a standard deviation of `dose` pixels."""
    return np.stack([cv2.GaussianBlur(f, (0, 0), dose) for f in scene.clip().frames])


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


def melting(scene: Scene, dose: float) -> np.ndarray:
    """A region of 40 pixels about a thing flows: a smooth random displacement grows to `dose` pixels at its maximum.

    The region is about the resting object or about the container in alternation of seeds. It moves with the picture.
    """
    clip = scene.clip()
    height, width = scene.size
    thing = scene.objects[1] if (scene.seed // 2) % 2 else scene.containers[0]
    field = np.random.RandomState(scene.seed % 2**32).standard_normal((2, height, width)).astype(np.float32)
    field = np.stack([cv2.GaussianBlur(f, (0, 0), 5.0) for f in field])
    y, x = np.mgrid[:height, :width].astype(np.float32)
    out = []
    for frame, center, time in zip(clip.frames, clip.tracks[thing.name], _times(scene), strict=True):
        near = np.clip(1.5 - np.hypot(x - center[0], y - center[1]) / 20, 0, 1).astype(np.float32)
        shift = field * near
        shift *= np.float32(dose * rise(time, 0.1, 0.8) / max(float(np.hypot(*shift).max()), 1e-6))
        out.append(cv2.remap(frame, x + shift[0], y + shift[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))
    return np.stack(out)


def background_change(scene: Scene, dose: float) -> np.ndarray:
    """The table's wood turns into another one, by a share of `dose`."""
    clip = scene.clip()
    other = replace(scene, room=make_room(scene.texture_seed + 1)).clip().frames.astype(np.float32)
    share = np.array([dose * rise(t, 0.3, 0.7) for t in _times(scene)], np.float32)[:, None, None, None]
    mixed = (1 - share) * clip.frames + share * other
    table = (clip.labels == LABELS["table"])[..., None]
    return np.where(table, mixed, clip.frames).round().astype(np.uint8)


def growing_stain(scene: Scene, dose: float) -> np.ndarray:
    """A dark stain on the free table grows to a radius of `dose` pixels. Things and hands cover it."""
    clip = scene.clip()
    height, width = scene.size
    table = np.all(clip.labels == LABELS["table"], axis=0).astype(np.uint8)
    table[[0, -1]], table[:, [0, -1]] = 0, 0
    spot = np.unravel_index(int(cv2.distanceTransform(table, cv2.DIST_L2, 5).argmax()), table.shape)
    y, x = np.mgrid[:height, :width]
    frames = clip.frames.astype(np.float32)
    for t, time in enumerate(_times(scene)):
        radius = dose * rise(time, 0.2, 0.7)
        if radius == 0:
            continue
        cover = np.clip(radius - np.hypot(x - spot[1], y - spot[0]) + 0.5, 0, 1) * (clip.labels[t] == LABELS["table"])
        frames[t] *= 1 - 0.5 * cover[..., None].astype(np.float32)
    return frames.round().astype(np.uint8)


def flicker(scene: Scene, dose: float) -> np.ndarray:
    """Every other frame brighter by the share `dose`, the others darker by it; the first frame as it is."""
    gains = np.array([1.0] + [1 + dose * (-1) ** t for t in range(1, scene.num_frames)])
    return np.clip(scene.clip().frames * gains[:, None, None, None], 0, 255).round().astype(np.uint8)


def see_through(scene: Scene, dose: float) -> np.ndarray:
    """The acting arm becomes transparent by the share `dose` while it works."""
    without = FaultyScene.of(scene, "absent arm", 1.0).clip().frames.astype(np.float32)
    share = np.array([dose * rise(t, 0.1, 0.35) for t in _times(scene)], np.float32)[:, None, None, None]
    return ((1 - share) * scene.clip().frames + share * without).round().astype(np.uint8)


def trails(scene: Scene, dose: float) -> np.ndarray:
    """Each frame keeps the share `dose` of the frame shown before it, so that what moves leaves a trail."""
    out = [scene.clip().frames[0].astype(np.float32)]
    for frame in scene.clip().frames[1:]:
        out.append(dose * out[-1] + (1 - dose) * frame)
    return np.stack(out).round().astype(np.uint8)


PICTURE_FAULTS: dict[str, Callable[[Scene, float], np.ndarray]] = {
    "frozen": frozen,
    "reversed": reversed_time,
    "noise": noise,
    "blur": blur,
    "fading object": fade,
    "melting": melting,
    "background change": background_change,
    "growing stain": growing_stain,
    "brightness flicker": flicker,
    "see-through arm": see_through,
    "trails": trails,
}
