"""A clip after inspection: the range of its frames in the file, and the proof that it decodes."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from cosmos_exp.config.schema import Data
from cosmos_exp.config.tiling import tiling_of
from cosmos_exp.data.readers.records import Clip, Footage
from cosmos_exp.data.video import VideoInfo, decode, probe
from cosmos_exp.errors import RunError
from cosmos_exp.files import file_sha256

SAME_RATE = 0.01  # cameras whose frame rates differ by less are matched by time


@dataclass(frozen=True)
class CheckedFile:
    """An inspected file of a further camera.

    frames: for each frame of the clip, the frame of this file that was taken at the same time.
    """

    path: Path
    info: VideoInfo
    frames: tuple[int, ...]


@dataclass(frozen=True)
class CheckedClip:
    """An inspected clip.

    start, stop: its frames in the file, stop excluded.
    sha256: hash of the file's content; with several tiles, of all files, their frames and the tiling.
    others: the further cameras, in the order of data.cameras.
    note: what is worth reporting and no fault; empty: nothing.
    """

    clip: Clip
    info: VideoInfo
    start: int
    stop: int
    sha256: str
    others: tuple[CheckedFile, ...] = ()
    note: str = ""


def frames_needed(data: Data, info: VideoInfo) -> int:
    """Number of source frames that a window of data.num_frames at data.fps spans."""
    if data.fps is None:
        return data.num_frames
    return int(np.floor((data.num_frames - 1) * info.fps / data.fps + 0.5)) + 1


def probe_clip(clip: Clip, data: Data) -> CheckedClip:
    """Read a clip's frame times, decode its first and last frame, and hash its file; the same for each further camera.

    Raises:
        RunError: what is wrong with the file and how to fix it; cameras that are not synchronous.
    """
    first = _probe_footage(Footage(clip.path, clip.seconds))
    others = [_probe_footage(f) for f in clip.others]
    counts = [first.stop - first.start, *(o.stop - o.start for o in others)]
    frames = min(counts)
    if max(counts) - frames > 1:
        listed = ", ".join(f"{f.path} {n} frames" for f, n in zip([first, *others], counts, strict=True))
        raise RunError(
            f"{clip.path}: {clip.name}: the cameras differ in length ({listed}); 1 frame may differ. "
            "Leave out the episode with data.episodes or the camera in data.cameras"
        )
    needed = frames_needed(data, first.info)
    if frames < needed:
        raise RunError(
            f"{clip.path}: {clip.name} has {frames} frames, {needed} are needed "
            f"(data.num_frames={data.num_frames}, data.fps={data.fps}); shorten the window or remove the clip"
        )
    checked = tuple(CheckedFile(o.path, o.info, _simultaneous(first, o, frames, clip.name)) for o in others)
    decode(first.path, [first.start], first.info)
    decode(first.path, [first.start + frames - 1], first.info)
    for c in checked:
        decode(c.path, [c.frames[0]], c.info)
        decode(c.path, [c.frames[-1]], c.info)
    unequal = f"{clip.name}: the cameras differ in length by 1 frame; the {frames} common frames are used"
    note = unequal if len(set(counts)) > 1 else ""
    sha256 = _content_hash(first.path, checked, data)
    return CheckedClip(clip, first.info, first.start, first.start + frames, sha256, checked, note)


@dataclass(frozen=True)
class _Probed:
    """A file and the frames of one episode in it, stop excluded."""

    path: Path
    info: VideoInfo
    start: int
    stop: int


def _probe_footage(footage: Footage) -> _Probed:
    path = footage.path
    stat = path.stat()
    if stat.st_size == 0:
        raise RunError(f"{path}: is empty (0 bytes); copy it again")
    info = _probe_once(path, stat.st_size, stat.st_mtime_ns)
    if info.declared_frames and info.num_frames < info.declared_frames:
        raise RunError(
            f"{path}: is truncated, it has {info.num_frames} of {info.declared_frames} frames; copy it again"
        )
    start, stop = 0, info.num_frames
    if footage.seconds is not None:
        begin, end = footage.seconds
        start, stop = info.frame_at(begin), min(info.frame_at(end - 1 / info.fps) + 1, stop)
    if info.width % 2 or info.height % 2:
        raise RunError(f"{path}: odd size {info.width}x{info.height}; re-encode it with even width and height")
    return _Probed(path, info, start, stop)


# A LeRobot v3 file holds many episodes: it is read and hashed once, not once per episode and camera.
@lru_cache(maxsize=32)
def _probe_once(path: Path, size: int, modified: int) -> VideoInfo:
    return probe(path)


@lru_cache(maxsize=32)
def _hash_once(path: Path, size: int, modified: int) -> str:
    return file_sha256(path)


def _file_hash(path: Path) -> str:
    stat = path.stat()
    return _hash_once(path, stat.st_size, stat.st_mtime_ns)


def _simultaneous(first: _Probed, other: _Probed, frames: int, name: str) -> tuple[int, ...]:
    """The other camera's frame for each of the first `frames` frames of an episode: the nearest in time.

    Raises:
        RunError: the frame rates differ, or a frame has no partner within half a frame's time.
    """
    files = f"{first.path} and {other.path}"
    if abs(first.info.fps - other.info.fps) > SAME_RATE * first.info.fps:
        raise RunError(
            f"{other.path}: {name}: {files} have {first.info.fps:g} and {other.info.fps:g} frames per second; "
            "re-encode one, or leave the camera out of data.cameras"
        )
    wanted, offered = _episode_times(first)[:frames], _episode_times(other)
    pick = np.searchsorted((offered[:-1] + offered[1:]) / 2, wanted)  # between two midpoints lies the nearest
    gap = np.abs(offered[pick] - wanted)
    worst = int(gap.argmax())
    if gap[worst] > 0.5 / first.info.fps + 1e-6:
        raise RunError(
            f"{other.path}: {name}: {files} are not synchronous: no picture within half a frame of frame {worst} "
            f"(nearest {gap[worst] * 1000:.0f} ms away). Leave out the episode with data.episodes"
        )
    return tuple(int(other.start + p) for p in pick)


def _episode_times(probed: _Probed) -> np.ndarray:
    """Seconds of each frame of the episode since its first one, float64 (frames,)."""
    pts = np.array(probed.info.pts[probed.start : probed.stop], dtype=np.int64)
    return (pts - pts[0]) * float(probed.info.time_base)


def _content_hash(path: Path, others: tuple[CheckedFile, ...], data: Data) -> str:
    """The file's hash; with several tiles a hash over all files, the frames used of each, and the tiling.

    One camera in one tile keeps the hash of its file, and with it the cache entries and the data fingerprint.
    """
    tiling = tiling_of(data)
    if not data.cameras or tiling.tiles == 1:
        return _file_hash(path)
    digest = hashlib.sha256(f"tiled {tiling}\0{_file_hash(path)}".encode())
    for other in others:
        digest.update(f"\0{_file_hash(other.path)}\0{other.frames}".encode())
    return digest.hexdigest()
