"""A clip after inspection: the range of its frames in the file, and the proof that it decodes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cosmos_exp.config.schema import Data
from cosmos_exp.data.readers.records import Clip
from cosmos_exp.data.video import VideoInfo, decode, probe
from cosmos_exp.errors import RunError
from cosmos_exp.files import file_sha256


@dataclass(frozen=True)
class CheckedClip:
    """An inspected clip.

    start, stop: its frames in the file, stop excluded.
    sha256: hash of the file's content.
    """

    clip: Clip
    info: VideoInfo
    start: int
    stop: int
    sha256: str


def frames_needed(data: Data, info: VideoInfo) -> int:
    """Number of source frames that a window of data.num_frames at data.fps spans."""
    if data.fps is None:
        return data.num_frames
    return int(np.floor((data.num_frames - 1) * info.fps / data.fps + 0.5)) + 1


def probe_clip(clip: Clip, data: Data) -> CheckedClip:
    """Read a clip's frame times, decode its first and last frame, and hash its file.

    Raises:
        RunError: what is wrong with the file and how to fix it.
    """
    if clip.path.stat().st_size == 0:
        raise RunError(f"{clip.path}: is empty (0 bytes); copy it again")
    info = probe(clip.path)
    if info.declared_frames and info.num_frames < info.declared_frames:
        raise RunError(
            f"{clip.path}: is truncated, it has {info.num_frames} of {info.declared_frames} frames; copy it again"
        )
    start, stop = 0, info.num_frames
    if clip.seconds is not None:
        start, stop = info.frame_at(clip.seconds[0]), min(info.frame_at(clip.seconds[1] - 1 / info.fps) + 1, stop)
    if info.width % 2 or info.height % 2:
        raise RunError(f"{clip.path}: odd size {info.width}x{info.height}; re-encode it with even width and height")
    needed = frames_needed(data, info)
    if stop - start < needed:
        raise RunError(
            f"{clip.path}: {clip.name} has {stop - start} frames, {needed} are needed "
            f"(data.num_frames={data.num_frames}, data.fps={data.fps}); shorten the window or remove the clip"
        )
    decode(clip.path, [start], info)
    decode(clip.path, [stop - 1], info)
    return CheckedClip(clip, info, start, stop, file_sha256(clip.path))
