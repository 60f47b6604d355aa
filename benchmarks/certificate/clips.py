"""The clips in which faults are planted: windows of the videos of a folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from cosmos_exp.data.video import decode, probe, resize
from cosmos_exp.errors import UserError


@dataclass(frozen=True)
class Footage:
    """The content of a clip.

    Attributes:
        frames: uint8 (T, H, W, 3), RGB.
        after: uint8 (S, H, W, 3), the frames that follow in the recording; S may be 0. Dropped frames are filled from it.
        fps: frames per second.
        scene: what rendered the clip, for faults that need it; None for recordings.
    """

    frames: np.ndarray
    after: np.ndarray
    fps: float
    scene: object = None


@dataclass(frozen=True)
class Clip:
    """A clip by its unique name. `load` reads or renders it.

    Clips of the same `recording` are one cluster in the statistics. `prompt` is None if the instruction is unknown.
    """

    name: str
    recording: str
    prompt: str | None
    load: Callable[[], Footage]


def cut_clips(folder: Path, count: int, num_frames: int, size: tuple[int, int] | None, fps: float | None) -> list[Clip]:
    """About `count` windows, the same number from each video below a folder, evenly spaced.

    The recording of a clip is the part of the file's name before `__`: views and seeds of one sample are one cluster.

    Args:
        num_frames: frames of a window.
        size: height and width of a clip: scaled to cover, then the centre cropped; None: that of the first video.
        fps: frames per second, at most the videos' own, by nearest frames; None: every frame.

    Raises:
        UserError: there are no videos, or one is too short.
        RunError: a video cannot be read.
    """
    paths = sorted(folder.rglob("*.mp4"))
    if not paths:
        raise UserError(f"--data {folder}: no *.mp4 files. Pass a folder with videos.")
    first = probe(paths[0])
    clips = []
    for path in paths:
        info = probe(path)
        step = max(info.fps / fps, 1.0) if fps else 1.0
        room = info.num_frames - int(np.floor((num_frames - 1) * step + 0.5)) - 1
        if room < 0:
            raise UserError(
                f"{path}: has {info.num_frames} frames, too few for a clip of {num_frames}. Set --frames lower."
            )
        windows = min(-(-count // len(paths)), room + 1)
        for start in np.unique(np.linspace(0, room, windows + 2)[1:-1].round().astype(int)):
            load = partial(read_window, path, int(start), step, num_frames, size or (first.height, first.width))
            clips.append(Clip(f"{path.parent.name}-{path.stem}@{start}", path.stem.split("__")[0], None, load))
    return clips


def read_window(path: Path, start: int, step: float, num_frames: int, size: tuple[int, int]) -> Footage:
    """The window that begins at frame `start` of a video, every `step`-th frame, and half as many frames after it."""
    info = probe(path)
    wanted = np.floor(start + np.arange(num_frames + num_frames // 2) * step + 0.5).astype(int)
    frames = decode(path, wanted[wanted < info.num_frames].tolist(), info)
    frames = resize(frames, *size, "crop")
    return Footage(frames[:num_frames], frames[num_frames:], info.fps / step)
