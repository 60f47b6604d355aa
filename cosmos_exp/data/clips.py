"""An inspected clip and its windows: the range of its frames in the file, the proof that it decodes, its training samples.

Several cameras are one clip: frames are matched by time, and each camera's picture is resized into its tile of the frame.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from cosmos_exp.config.schema import Data
from cosmos_exp.config.tiling import tile_size, tiling_of
from cosmos_exp.data.files import VideoFile, examine
from cosmos_exp.data.readers.records import Clip, Footage
from cosmos_exp.data.video import VideoInfo, as_range, decode, resize
from cosmos_exp.errors import RunError
from cosmos_exp.rng import generator

Files = Mapping[Path, VideoFile | Exception]  # what is known of each file, or what is wrong with it
IRREGULAR = 0.02  # share of irregular frame gaps above which a file has no frame rate that could be converted


@dataclass(frozen=True)
class CheckedFile:
    """An inspected file of one camera.

    sha256: hash of its content, and of how it is turned.
    frames: for each frame of the clip, the frame of this file that was taken at the same time.
    """

    path: Path
    info: VideoInfo
    sha256: str
    frames: Sequence[int]


@dataclass(frozen=True)
class CheckedClip:
    """An inspected clip.

    start, stop: its frames in the file, stop excluded.
    sha256: hash of the file's content; with several tiles, of all files, their frames and the tiling.
    others: the further cameras, in the order of data.cameras.
    notes: what is worth reporting and no fault.
    """

    clip: Clip
    info: VideoInfo
    start: int
    stop: int
    sha256: str
    others: tuple[CheckedFile, ...] = ()
    notes: tuple[str, ...] = ()


# --- inspection ---


def probe_clip(clip: Clip, data: Data, files: Files | None = None) -> CheckedClip:
    """The clip with its frames in its file, and in those of further cameras. It decodes nothing of an examined file.

    Args:
        files: of `examine_files`; the clip's files are examined if it lacks them.

    Raises:
        RunError: what is wrong with the file and how to fix it; cameras that are not synchronous.
        OSError: a file cannot be read.
    """
    own, notes = [], list[str]()
    for footage in clip.footage:
        own.append(_probe_footage(footage, clip.name, files or {}, notes))
        notes += [f"{clip.name}: {note}" for note in own[-1].info.notes]
        notes += _time_notes(own[-1], clip.name, data)
    first, counts = own[0], [len(file.frames) for file in own]
    frames = min(counts)
    if max(counts) - frames > 1:
        listed = ", ".join(f"{file.path} {len(file.frames)} frames" for file in own)
        raise RunError(
            f"{clip.path}: {clip.name}: the cameras differ in length ({listed}); 1 frame may differ. "
            "Leave out the episode with data.episodes or the camera in data.cameras"
        )
    if max(counts) > frames:
        notes.append(f"{clip.name}: the cameras differ in length by 1 frame; the {frames} common frames are used")
    stated = clip.length or frames
    if stated > frames + 1:
        raise RunError(
            f"{clip.path}: {clip.name} has {frames} frames, its metadata says {stated}; copy the video again, or "
            "correct `length` in meta/episodes"
        )
    if frames > stated + 1:
        notes.append(
            f"{clip.name}: its video has {frames} frames, its metadata says {stated}: the first {stated} are used"
        )
        frames = stated
    fps = clip.fps or first.info.fps
    if abs(fps - first.info.fps) > 0.01 * fps:
        notes.append(f"{clip.name}: the video's header says {first.info.fps:g} fps, the data {fps:g}: the data counts")
        first = replace(first, info=replace(first.info, fps=fps))
    if data.fps is not None and data.fps > 1.01 * first.info.fps:
        repeats = data.fps / first.info.fps
        notes.append(
            f"{clip.name}: {first.info.fps:g} fps at data.fps={data.fps:g}: each frame is shown {repeats:.1f} times"
        )
    check_length(clip.path, clip.name, frames, first.info, data)
    first = replace(first, frames=first.frames[:frames])
    others = [_simultaneous(first, file, clip.name) for file in own[1:]]
    start, sha256 = first.frames[0], _content_hash(first, others, data)
    return CheckedClip(clip, first.info, start, start + frames, sha256, tuple(others), tuple(notes))


def check_length(path: Path, name: str, frames: int, info: VideoInfo, data: Data) -> None:
    """Refuse a video that is shorter than a window.

    Raises:
        RunError: it also says which data.num_frames fits.
    """
    needed = frames_needed(data, info)
    if frames < needed:
        shown = frames if data.fps is None else int((frames - 1) * data.fps / info.fps) + 1
        raise RunError(
            f"{path}: {name} has {frames} frames, {needed} are needed (data.num_frames={data.num_frames}, data.fps={data.fps}); "
            f"data.num_frames={max(1, (shown - 1) // 4 * 4 + 1)} fits. Or remove it"
        )


def _probe_footage(footage: Footage, name: str, files: Files, notes: list[str]) -> CheckedFile:
    """A file and the frames of one episode in it. What is noteworthy is appended to `notes`."""
    path = footage.path
    file = files.get(path) or examine(path)
    if isinstance(file, Exception):
        raise file
    info = file.info
    start, stop = 0, info.num_frames
    if footage.seconds is not None:
        begin, end = footage.seconds
        start, stop = info.frame_at(begin), info.frame_at(end - 1 / info.fps) + 1
        length = info.second(-1) + 1 / info.fps
        if end > length + 1.5 / info.fps or start < 0:
            raise RunError(
                f"{path}: {name} is at {begin:g} to {end:g} s, the file has {length:g} s; copy the video again, or "
                "correct from_timestamp and to_timestamp in meta/episodes"
            )
        *counted, total = footage.counted or (start, stop, 0)
        if total == info.num_frames and [start, stop] != counted:
            notes.append(f"{name}: its timestamps are not those of its frames in the file; the episodes' lengths count")
            start, stop = counted
    return CheckedFile(path, info, file.sha256, range(start, stop))


def _time_notes(file: CheckedFile, name: str, data: Data) -> list[str]:
    """A note on a variable frame rate.

    Raises:
        RunError: the frame rate varies and is to be converted, which takes a constant one.
    """
    info, (irregular, least, most) = file.info, file.info.gaps
    if not irregular:
        return []
    text = f"variable frame rate, {least * 1000:.0f} to {most * 1000:.0f} ms between frames"
    if irregular > IRREGULAR * info.num_frames and data.fps is not None:
        raise RunError(
            f"{file.path}: {text}: it cannot be converted to data.fps={data.fps:g}. Re-encode it at a constant rate, "
            f"ffmpeg -i IN.mp4 -fps_mode cfr -r {info.fps:.0f} OUT.mp4, or set data.fps=null to take the frames in order"
        )
    return [f"{name}: {text} ({irregular} irregular); frames are taken in order, as if the rate were constant"]


def _simultaneous(first: CheckedFile, other: CheckedFile, name: str) -> CheckedFile:
    """The other camera with its frame for each frame of the first: the nearest in time.

    Raises:
        RunError: a frame has no partner within half a frame's time.
    """
    wanted, offered = _times(first), _times(other)
    pick = np.searchsorted((offered[:-1] + offered[1:]) / 2, wanted)  # between two midpoints lies the nearest
    gap = np.abs(offered[pick] - wanted)
    worst = int(gap.argmax())
    if gap[worst] > 0.5 / first.info.fps + 1e-6:
        raise RunError(
            f"{other.path}: {name}: {first.path} and {other.path} are not synchronous: no picture within half a "
            f"frame of frame {worst} (nearest {gap[worst] * 1000:.0f} ms away). Leave out the episode with data.episodes, or the "
            "camera in data.cameras"
        )
    return replace(other, frames=as_range((other.frames[0] + pick).tolist()))


def _times(file: CheckedFile) -> np.ndarray:
    """Seconds of each frame of the episode since its first one, float64 (frames,)."""
    pts = np.array(file.info.pts[file.frames[0] : file.frames[-1] + 1], dtype=np.int64)
    return (pts - pts[0]) * float(file.info.time_base)


def _content_hash(first: CheckedFile, others: list[CheckedFile], data: Data) -> str:
    """The file's hash; with several tiles a hash over all files, the frames used of each, and the tiling.

    One camera in one tile keeps the hash of its file, and with it the cache entries and the data fingerprint.
    """
    tiling = tiling_of(data)
    if not data.cameras or len(tiling.names) == 1:
        return first.sha256
    digest = hashlib.sha256(f"tiled {tiling}\0{first.sha256}".encode())
    for other in others:
        digest.update(f"\0{other.sha256}\0{tuple(other.frames)}".encode())
    return digest.hexdigest()


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
    """Decode one window, all cameras of it: uint8 (num_frames, height, width, 3), RGB.

    Several cameras are tiled row by row, in the order of data.cameras; tiles without a camera are black.
    """
    indices = window_indices(checked, data, start)
    pictures = decode(checked.clip.path, indices, checked.info)
    if not data.cameras:
        return resize(pictures, data.height, data.width, data.resize)
    tiling, (height, width) = tiling_of(data), tile_size(data)
    window = np.zeros((len(indices), data.height, data.width, 3), np.uint8)
    for number in range(len(data.cameras)):
        if number:
            other = checked.others[number - 1]
            pictures = decode(other.path, [other.frames[i - checked.start] for i in indices], other.info)
        row, column = divmod(number, tiling.columns)
        top, left = row * height, column * width
        window[:, top : top + height, left : left + width] = resize(pictures, height, width, data.resize)
    return window
