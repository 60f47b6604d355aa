"""An inspected clip and its windows: the range of its frames in the file, the proof that it decodes, its training samples.

Several cameras are one clip: frames are matched by time, and each camera's picture is resized into its tile of the frame.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from cosmos_exp.config.schema import Data
from cosmos_exp.config.tiling import tile_size, tiling_of
from cosmos_exp.data.hashes import check_hash, hash_of
from cosmos_exp.data.readers.records import Clip, Footage
from cosmos_exp.data.video import VideoInfo, check_whole, decode, probe, resize, rotation
from cosmos_exp.errors import RunError
from cosmos_exp.rng import generator

IRREGULAR = 0.02  # share of irregular frame gaps above which a file has no frame rate that could be converted
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


class TooShortError(RunError):
    """A sound clip that is shorter than a window. `length`: its frames, and its header."""

    def __init__(self, message: str, length: tuple[int, VideoInfo]):
        super().__init__(message)
        self.length = length


# --- inspection ---


def probe_clip(clip: Clip, data: Data, whole: bool = False, recorded: Mapping[Path, str] | None = None) -> CheckedClip:
    """Read a clip's frame times, decode its first and last frame, and hash its file; the same for each further camera.

    Args:
        whole: decode whole files. A run decodes as strictly, but only the windows that it reads.
        recorded: known hashes by path.

    Raises:
        RunError: what is wrong with the file and how to fix it; cameras that are not synchronous.
    """
    probed, notes, counts = [], list[str](), []
    footage = [Footage(clip.path, clip.seconds), *clip.others]
    for file in footage:
        check_hash(file.path, (recorded or {}).get(file.path))
    for file in footage:
        camera = _probe_footage(file, clip.name, whole)
        probed.append(camera)
        counts.append(camera.stop - camera.start)
    for camera in probed:
        notes += _rate_notes(camera, clip.name, data)
    first, frames = probed[0], min(counts)
    if max(counts) - frames > 1:
        listed = ", ".join(f"{p.path} {count} frames" for p, count in zip(probed, counts, strict=True))
        raise RunError(
            f"{clip.path}: {clip.name}: the cameras differ in length ({listed}); 1 frame may differ. "
            "Leave out the episode with data.episodes or the camera in data.cameras"
        )
    if clip.length is not None and clip.length > frames + 1:
        raise RunError(
            f"{clip.path}: {clip.name} has {frames} frames, its metadata says {clip.length}; copy the video again, or "
            "correct `length` in meta/episodes"
        )
    needed = frames_needed(data, first.info)
    if frames < needed:
        raise TooShortError(
            f"{clip.path}: {clip.name} has {frames} frames, {needed} are needed "
            f"(data.num_frames={data.num_frames}, data.fps={data.fps}); shorten the window or remove the clip",
            (frames, first.info),
        )
    others = []
    for camera in probed[1:]:
        others.append(CheckedFile(camera.path, camera.info, _simultaneous(first, camera, frames, clip.name)))
    for index in (first.start, first.start + frames - 1):
        decode(first.path, [index], first.info)
    for other in others:
        decode(other.path, [other.frames[0]], other.info)
        decode(other.path, [other.frames[-1]], other.info)
    if len(set(counts)) > 1:
        notes.append(f"{clip.name}: the cameras differ in length by 1 frame; the {frames} common frames are used")
    sha256 = _content_hash(first, others, data)
    return CheckedClip(clip, first.info, first.start, first.start + frames, sha256, tuple(others), "; ".join(notes))


@dataclass(frozen=True)
class _Probed:
    """A file and the frames of one episode in it, stop excluded."""

    path: Path
    info: VideoInfo
    start: int
    stop: int


def _probe_footage(footage: Footage, name: str, whole: bool) -> _Probed:
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
        start, stop = _episode_range(footage, info, name)
    if info.width % 2 or info.height % 2:
        raise RunError(f"{path}: odd size {info.width}x{info.height}; re-encode it with even width and height")
    if whole:
        _check_whole_once(path, stat.st_size, stat.st_mtime_ns)
    return _Probed(path, info, start, stop)


def _episode_range(footage: Footage, info: VideoInfo, name: str) -> tuple[int, int]:
    """The frames of an episode in a file that holds several."""
    begin, end = footage.seconds or (0.0, 0.0)
    start, stop = info.frame_at(begin), min(info.frame_at(end - 1 / info.fps) + 1, info.num_frames)
    length = float(info.seconds[-1]) + 1 / info.fps
    if end > length + 1.5 / info.fps or start < 0:
        raise RunError(
            f"{footage.path}: {name} is at {begin:g} to {end:g} s, the file has {length:g} s; copy the video again, or "
            "correct from_timestamp and to_timestamp in meta/episodes"
        )
    return start, stop


def _rate_notes(probed: _Probed, name: str, data: Data) -> list[str]:
    """A note on a variable frame rate and on a rotation.

    Raises:
        RunError: the frame rate varies and is to be converted, which takes a constant one.
    """
    info, notes = probed.info, []
    count, low, high = info.irregular_gaps
    gaps = f"variable frame rate, {low * 1000:.0f} to {high * 1000:.0f} ms between frames"
    if count > IRREGULAR * info.num_frames and data.fps is not None:
        raise RunError(
            f"{probed.path}: {gaps}: it cannot be converted to data.fps={data.fps:g}. Re-encode it at a constant rate, "
            f"ffmpeg -i IN.mp4 -fps_mode cfr -r {info.fps:.0f} OUT.mp4, or set data.fps=null to take the frames in order"
        )
    if count:
        notes.append(f"{name}: {gaps} ({count} irregular); frames are taken in order, as if the rate were constant")
    if info.rotation:
        width, height = info.shown_size
        notes.append(f"{name}: turned by {info.rotation} degrees to {width}x{height}, as its container asks")
    return notes


# A LeRobot v3 file holds many episodes: it is read and decoded once, not once per episode and camera.
@lru_cache(maxsize=32)
def _probe_once(path: Path, size: int, modified: int) -> VideoInfo:
    return replace(probe(path), rotation=rotation(path))


@lru_cache(maxsize=32)
def _check_whole_once(path: Path, size: int, modified: int) -> None:
    check_whole(path, _probe_once(path, size, modified))


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
    return tuple((other.start + pick).tolist())


def _episode_times(probed: _Probed) -> np.ndarray:
    """Seconds of each frame of the episode since its first one, float64 (frames,)."""
    pts = np.array(probed.info.pts[probed.start : probed.stop], dtype=np.int64)
    return (pts - pts[0]) * float(probed.info.time_base)


def _content_hash(first: _Probed, others: list[CheckedFile], data: Data) -> str:
    """The file's hash; with several tiles a hash over all files, the frames used of each, and the tiling.

    One camera in one tile keeps the hash of its file, and with it the cache entries and the data fingerprint.
    """
    tiling = tiling_of(data)
    sha256 = _turned_hash(first.path, first.info)
    if not data.cameras or tiling.tiles == 1:
        return sha256
    digest = hashlib.sha256(f"tiled {tiling}\0{sha256}".encode())
    for other in others:
        digest.update(f"\0{_turned_hash(other.path, other.info)}\0{other.frames}".encode())
    return digest.hexdigest()


def _turned_hash(path: Path, info: VideoInfo) -> str:
    sha256 = hash_of(path)
    if info.rotation:
        return hashlib.sha256(f"turned {info.rotation}\0{sha256}".encode()).hexdigest()
    return sha256


# --- windows: data.num_frames frames at data.fps, which are one training sample ---


def frames_needed(data: Data, info: VideoInfo) -> int:
    """Number of source frames that a window of data.num_frames at data.fps spans."""
    if data.fps is None:
        return data.num_frames
    return int(np.floor((data.num_frames - 1) * info.fps / data.fps + 0.5)) + 1


def window_indices(checked: CheckedClip, data: Data, start: int) -> list[int]:
    """Source frame numbers of the window that starts `start` frames into the clip (nearest frame at data.fps)."""
    step = 1.0 if data.fps is None else checked.info.fps / data.fps
    offsets = np.floor(np.arange(data.num_frames) * step + 0.5).astype(int)
    return (checked.start + start + offsets).tolist()


def window_starts(checked: CheckedClip, data: Data, seed: int) -> list[int]:
    """Start frames of a clip's cached windows: distinct, ascending, drawn from the seed and the clip's content."""
    room = checked.stop - checked.start - frames_needed(data, checked.info) + 1
    count = min(data.windows_per_video, room)
    rng = generator(seed, "windows", int(checked.sha256[:12], 16) + checked.start)
    return sorted(rng.choice(room, size=count, replace=False).tolist())


def load_window(checked: CheckedClip, data: Data, start: int) -> np.ndarray:
    """Decode one window, all cameras of it: uint8 (num_frames, height, width, 3), RGB."""
    indices = window_indices(checked, data, start)
    cameras = [decode(checked.clip.path, indices, checked.info)]
    if not data.cameras:
        return resize(cameras[0], data.height, data.width, data.resize)
    for other in checked.others:
        cameras.append(decode(other.path, [other.frames[i - checked.start] for i in indices], other.info))
    return tile_frames(cameras, data)


def tile_frames(cameras: Sequence[np.ndarray], data: Data) -> np.ndarray:
    """The frames of several cameras as one, row by row. Tiles without a camera are black.

    Args:
        cameras: each uint8 (T, H, W, 3) RGB; T is common, sizes may differ. In the order of data.cameras.

    Returns:
        uint8 (T, data.height, data.width, 3).
    """
    tiling, (height, width) = tiling_of(data), tile_size(data)
    frame = np.zeros((len(cameras[0]), data.height, data.width, 3), np.uint8)
    for index, pictures in enumerate(cameras):
        row, column = divmod(index, tiling.columns)
        rows = slice(row * height, (row + 1) * height)
        columns = slice(column * width, (column + 1) * width)
        frame[:, rows, columns] = resize(pictures, height, width, data.resize)
    return frame
