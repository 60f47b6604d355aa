"""The clips in which faults are planted: windows of the videos of a folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np

from cosmos_exp.data.readers.records import VIDEO_SUFFIXES
from cosmos_exp.data.video import decode, probe, resize
from cosmos_exp.errors import UserError

MIN_FRAMES = 5  # fewer frames cannot be shuffled, dropped and frozen in grades


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
    """A clip by name. It is loaded when its turn comes.

    Attributes:
        name: unique among the clips.
        recording: clips of the same recording are one cluster in the statistics.
        prompt: the instruction; None: unknown.
        what: length, size and rate, in words.
        load: reads or renders it; can be pickled.
        clean_only: no fault is planted in it; it shows only how clean clips differ.
    """

    name: str
    recording: str
    prompt: str | None
    what: str
    load: Callable[[], Footage]
    clean_only: bool = False


def find_videos(places: Sequence[Path]) -> list[Path]:
    """The video files at or below the given files and folders, sorted; hidden folders are left out.

    Raises:
        UserError: a place does not exist, or there are no videos.
    """
    found: set[Path] = set()
    for place in places:
        if not place.exists():
            raise UserError(f"--data {place}: does not exist. Pass a folder with videos, or video files.")
        files = [place] if place.is_file() else sorted(place.rglob("*"))
        found |= {f for f in files if f.suffix.lower() in VIDEO_SUFFIXES and not _hidden(f, place)}
    if not found:
        names = ", ".join(map(str, places))
        raise UserError(f"--data {names}: no videos ({', '.join(VIDEO_SUFFIXES)}). Pass a folder with videos.")
    return sorted(found)


def _hidden(file: Path, root: Path) -> bool:
    return file != root and any(part.startswith(".") for part in file.relative_to(root).parts)


def cut_clips(
    paths: Sequence[Path], count: int, num_frames: int, size: tuple[int, int] | None, fps: float | None = None
) -> list[Clip]:
    """About `count` windows, the same number from each video, evenly spaced and overlapping only where they must.

    The recording of a clip is the part of the file's name before `__`: views and seeds of one sample are one cluster.

    Args:
        num_frames: frames of a window.
        size: height and width of a clip: scaled to cover, then the centre cropped; None: that of the first video.
        fps: frames per second, at most the videos' own, by nearest frames; None: every frame.

    Raises:
        UserError: `num_frames` is too small, or a video is too short.
        RunError: a video cannot be read.
    """
    if num_frames < MIN_FRAMES:
        raise UserError(f"--frames {num_frames}: faults in time need at least {MIN_FRAMES} frames")
    if count < 2:
        raise UserError(f"--clips {count}: at least 2 are needed to know how clean clips differ")
    infos = [probe(p) for p in paths]
    height, width = size or (infos[0].height, infos[0].width)
    per_video = -(-count // len(paths))
    clips = []
    for path, info in zip(paths, infos, strict=True):
        step = max(info.fps / fps, 1.0) if fps else 1.0
        needed = int(np.floor((num_frames - 1) * step + 0.5)) + 1
        if info.num_frames < needed:
            raise UserError(
                f"{path}: has {info.num_frames} frames, a clip of {num_frames} needs {needed}. "
                f"Set --frames to at most {int((info.num_frames - 1) / step) + 1}, or leave the video out."
            )
        room = info.num_frames - needed
        windows = min(per_video, room + 1)
        for start in np.unique(np.linspace(0, room, windows + 2)[1:-1].round().astype(int)):
            load = partial(read_window, path, int(start), step, num_frames, (height, width))
            what = describe(num_frames, (height, width), info.fps / step)
            clips.append(Clip(f"{path.parent.name}-{path.stem}@{start}", path.stem.split("__")[0], None, what, load))
    if len({c.name for c in clips}) < len(clips):
        raise UserError("--data: two videos have the same name in folders of the same name; rename a folder")
    return clips


def with_faults_in(clips: Sequence[Clip], count: int) -> list[Clip]:
    """The clips, of which `count`, evenly chosen, get faults and the others are clean only."""
    faulty = {i * len(clips) // count for i in range(count)}
    return [replace(c, clean_only=i not in faulty) for i, c in enumerate(clips)]


def describe(num_frames: int, size: tuple[int, int], fps: float) -> str:
    """Length, height, width and rate of a clip in words."""
    return f"{num_frames} frames of {size[0]}x{size[1]} at {fps:g} fps"


def read_window(path: Path, start: int, step: float, num_frames: int, size: tuple[int, int]) -> Footage:
    """The window that begins at frame `start` of a video, every `step`-th frame, and half as many frames after it.

    Raises:
        RunError: the video does not decode.
    """
    info = probe(path)
    wanted = [start + int(np.floor(k * step + 0.5)) for k in range(num_frames + num_frames // 2)]
    frames = decode(path, [i for i in wanted if i < info.num_frames], info)
    frames = resize(frames, *size, "crop")
    return Footage(frames[:num_frames], frames[num_frames:], info.fps / step)
