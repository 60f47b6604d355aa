"""Faults of the picture and of time, in grades, that can be planted in any clip.

    faulty = FAULTS["frame jitter"].plant(footage, 2.0, fault_rng(0, "clip", "frame jitter"))

The first frame is never changed, as a generated video begins with a given frame; the exception is `reversed time`. The
doses of one fault in one clip share their random draws, so that they differ in size only. Lengths are pixels of the clip.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import cv2
import numpy as np

from benchmarks.certificate.clips import Footage
from benchmarks.certificate.patches import duplicated_patch, first_changed, teleporting_patch, vanishing_patch
from cosmos_exp.data.video import read_video, write_video

# Each fault below takes (footage, dose, rng) and returns the faulty frames, uint8 (T, H, W, 3).
Plant = Callable[[Footage, float, np.random.RandomState], np.ndarray]

WAVES = 6  # sine waves per component of the smooth warp


@dataclass(frozen=True)
class Fault:
    """A fault in grades.

    Attributes:
        unit: of the doses.
        doses: ascending: a higher dose is a worse fault. A fault without grades has the single dose 1.
        plant: (footage, dose, random numbers) -> the faulty clip, uint8 and of the shape of `footage.frames`.
    """

    name: str
    unit: str
    doses: tuple[float, ...]
    plant: Plant


def fault_rng(seed: int, clip: str, fault: str) -> np.random.RandomState:
    """The random numbers of a fault in a clip, the same for each dose and on each machine."""
    words = (seed, zlib.crc32(clip.encode()), zlib.crc32(fault.encode()))
    return np.random.RandomState(np.random.MT19937(np.random.SeedSequence(words)))


def frame_jitter(footage, dose, rng):
    """Each frame shifted by `dose` pixels in a random direction."""
    angles = rng.uniform(0, 2 * np.pi, len(footage.frames))
    return _with_first(footage, np.stack([shift(f, dose, a) for f, a in zip(footage.frames, angles, strict=True)]))


def camera_jump(footage, dose, rng):
    """All frames from a third of the clip on shifted by the same `dose` pixels in one random direction."""
    angle, frames = rng.uniform(0, 2 * np.pi), footage.frames.copy()
    for t in range(first_changed(len(frames)), len(frames)):
        frames[t] = shift(frames[t], dose, angle)
    return frames


def shift(frame: np.ndarray, distance: float, angle: float) -> np.ndarray:
    """A frame (H, W, 3) moved by `distance` pixels, to the right at angle 0 (Lanczos; the border is mirrored)."""
    matrix = np.array([[1, 0, distance * np.cos(angle)], [0, 1, distance * np.sin(angle)]])
    size = frame.shape[1::-1]
    return cv2.warpAffine(frame, matrix, size, flags=cv2.INTER_LANCZOS4, borderMode=cv2.BORDER_REFLECT_101)


def warp(footage, dose, rng):
    """A smooth non-rigid deformation that changes over time: displacement with a root mean square of `dose` pixels."""
    return _with_first(footage, displaced(footage.frames, dose * warp_field(footage.frames.shape[:3], rng)))


def warp_field(shape: tuple[int, ...], rng: np.random.RandomState) -> np.ndarray:
    """Random displacements, float32 (T, H, W, 2), with an expected root mean square length of 1.

    Each component is a sum of WAVES plane waves of amplitude 1 / sqrt(WAVES), whose mean square is 1/2. Wavelengths are
    a third to the whole of the shorter side, periods 4 to 10 frames.
    """
    frames, height, width = shape
    t, y, x = np.meshgrid(*(np.arange(n, dtype=np.float32) for n in shape), indexing="ij", sparse=True)
    field = np.zeros((frames, height, width, 2), np.float32)
    for component in range(2):
        for _ in range(WAVES):
            waves, angle = rng.uniform(1, 3) / min(height, width), rng.uniform(0, 2 * np.pi)
            rate, phase = rng.choice([-1, 1]) * rng.uniform(1 / 10, 1 / 4), rng.uniform(0, 1)
            turns = waves * (np.cos(angle) * x + np.sin(angle) * y) + rate * t + phase
            field[..., component] += np.sin(2 * np.pi * turns)
    return field / np.float32(np.sqrt(WAVES))


def displaced(frames: np.ndarray, field: np.ndarray) -> np.ndarray:
    """Frames (T, H, W, 3) sampled at each pixel plus `field` (T, H, W, 2), x before y."""
    y, x = np.mgrid[: frames.shape[1], : frames.shape[2]].astype(np.float32)
    moved = []
    for frame, at in zip(frames, field.astype(np.float32), strict=True):
        moved.append(
            cv2.remap(frame, x + at[..., 0], y + at[..., 1], cv2.INTER_CUBIC, borderMode=cv2.BORDER_REFLECT_101)
        )
    return np.stack(moved)


def melting(footage, dose, rng):
    """A region, a quarter of the shorter side wide, that sags: its centre by `dose` pixels at the end, 0 at the start."""
    count, height, width = footage.frames.shape[:3]
    sigma = min(height, width) / 8
    center = rng.uniform(0.25, 0.75) * width, rng.uniform(0.25, 0.75) * height
    y, x = np.mgrid[:height, :width].astype(np.float32)
    window = np.exp(-((x - center[0]) ** 2 + (y - center[1]) ** 2) / (2 * sigma**2))
    # Streaks of different speed: melting is not a rigid motion of the region.
    down = window * (1 + 0.5 * np.sin(2 * np.pi * (x / sigma + rng.uniform())))
    field = np.stack([np.zeros_like(down), -down], axis=-1)
    amounts = dose * np.arange(count) / (count - 1)
    return displaced(footage.frames, amounts[:, None, None, None] * field)


def shuffled_frames(footage, dose, rng):
    """A share `dose` of the frames after the first in another order; each of them changes its place."""
    chosen = _chosen(footage, dose, rng, least=2)
    frames = footage.frames.copy()
    frames[chosen] = footage.frames[np.roll(chosen, 1)]
    return frames


def dropped_frames(footage, dose, rng):
    """A share `dose` of the frames after the first taken out; the clip is filled up with the frames that follow it.

    Where the recording ends, its last frame is held.
    """
    kept = np.delete(footage.frames, _chosen(footage, dose, rng), axis=0)
    joined = np.concatenate([kept, footage.after])
    return joined[np.minimum(np.arange(len(footage.frames)), len(joined) - 1)]


def frozen_frames(footage, dose, rng):
    """The last share `dose` of the frames after the first replaced by the frame before them; 1: the first frame held."""
    last = len(footage.frames) - 1
    return footage.frames[np.minimum(np.arange(last + 1), last - round(dose * last))]


def blur(footage, dose, rng):
    """Gaussian blur with a standard deviation of `dose` pixels."""
    return _with_first(footage, np.stack([cv2.GaussianBlur(f, (0, 0), dose) for f in footage.frames]))


def noise(footage, dose, rng):
    """White noise with a standard deviation of `dose` grey levels."""
    grain = rng.standard_normal(footage.frames.shape).astype(np.float32)
    return _with_first(footage, np.clip(footage.frames + dose * grain, 0, 255).round().astype(np.uint8))


def compression(footage, dose, rng):
    """The clip encoded as H.264 with the constant rate factor `dose`, and decoded."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "compressed.mp4"
        write_video(path, footage.frames, footage.fps, crf=round(dose))
        return _with_first(footage, read_video(path))


def reversed_time(footage, dose, rng):
    """The whole clip backwards."""
    return footage.frames[::-1].copy()


def colour_swap(footage, dose, rng):
    """Red and blue exchanged from a third of the clip on; `dose` is the weight of the exchanged picture."""
    frames, start = footage.frames.copy(), first_changed(len(footage.frames))
    swapped = frames[start:, ..., ::-1].astype(np.float32)
    frames[start:] = ((1 - dose) * frames[start:] + dose * swapped).round().astype(np.uint8)
    return frames


def _with_first(footage: Footage, frames: np.ndarray) -> np.ndarray:
    frames[0] = footage.frames[0]
    return frames


def _chosen(footage: Footage, share: float, rng: np.random.RandomState, least: int = 1) -> np.ndarray:
    """Numbers of a share of the frames after the first. Those of a smaller share are among those of a larger one."""
    order = 1 + rng.permutation(len(footage.frames) - 1)
    return order[: max(least, round(share * len(order)))]


PIXELS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0)
FAULTS = {
    fault.name: fault
    for fault in (
        Fault("frame jitter", "px", PIXELS, frame_jitter),
        Fault("warp", "px", PIXELS, warp),
        Fault("melting", "px", (1.5, 4.0, 10.0, 20.0, 40.0), melting),
        Fault("camera jump", "px", (2.0, 4.0, 8.0, 16.0), camera_jump),
        Fault("shuffled frames", "share", (0.125, 0.25, 0.5, 1.0), shuffled_frames),
        Fault("dropped frames", "share", (0.125, 0.25, 0.5), dropped_frames),
        Fault("frozen frames", "share", (0.125, 0.25, 0.5, 1.0), frozen_frames),
        Fault("reversed time", "whole", (1.0,), reversed_time),
        Fault("blur", "px", (0.5, 1.0, 2.0, 4.0), blur),
        Fault("noise", "levels", (2.0, 5.0, 10.0, 25.0), noise),
        Fault("compression", "crf", (20.0, 28.0, 36.0, 45.0), compression),
        Fault("colour swap", "weight", (0.1, 0.25, 0.5, 1.0), colour_swap),
        Fault("vanishing patch", "side", (0.1, 0.2, 0.4), vanishing_patch),
        Fault("duplicated patch", "side", (0.1, 0.2, 0.4), duplicated_patch),
        Fault("teleporting patch", "distance", (0.1, 0.2, 0.4), teleporting_patch),
    )
}
