"""What is known of a video file: header, frame times, the hash of its content. A file is read once, and recorded in the cache.

The record knows a file by path, size and time of change. It is a file of JSON lines per data set, to which each process
appends; a later line counts.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

from cosmos_exp.data.video import VideoInfo, check_whole, decode, probe, with_first_frame
from cosmos_exp.errors import RunError, UserError
from cosmos_exp.files import JsonObject, append_json_line, cut_half_line, file_sha256, json_sha256, read_json_lines
from cosmos_exp.provenance import available_cores

Progress = Callable[..., Iterable[Any]]  # (items, total=their number): the items, and shows how far they are


@dataclass(frozen=True)
class VideoFile:
    """An examined file.

    sha256: hash of its content, and of how it is turned.
    whole: all of it was decoded, not only its first and last frame.
    """

    info: VideoInfo
    sha256: str
    whole: bool = False


def without_progress(items: Iterable[Any], total: int) -> Iterable[Any]:
    """The items."""
    return items


def examine(path: Path, whole: bool = False) -> VideoFile:
    """Read a file's header and frame times, decode its first and last frame (all, if `whole`), and hash its content.

    Raises:
        RunError: what is wrong with the file, and how to fix it.
        OSError: it is not there or cannot be read.
    """
    if path.stat().st_size == 0:
        raise RunError(f"{path}: is empty (0 bytes); copy it again")
    info = probe(path)
    if info.num_frames < info.declared_frames:
        raise RunError(
            f"{path}: is truncated, it has {info.num_frames} of {info.declared_frames} frames; copy it again"
        )
    if info.width % 2 or info.height % 2:
        raise RunError(f"{path}: odd size {info.width}x{info.height}; re-encode it with even width and height")
    info, sha256 = with_first_frame(path, info), file_sha256(path)
    if info.rotation:
        sha256 = hashlib.sha256(f"turned {info.rotation}\0{sha256}".encode()).hexdigest()
    if info.pixel_aspect != 1:
        sha256 = hashlib.sha256(f"widened {info.pixel_aspect}\0{sha256}".encode()).hexdigest()
    if whole:
        check_whole(path, info)
    else:
        for index in (0, info.num_frames - 1):
            decode(path, [index], info)
    return VideoFile(info, sha256, whole)


def examine_files(
    paths: Iterable[Path], record: Path | None = None, whole: bool = False, progress: Progress = without_progress
) -> dict[Path, VideoFile | Exception]:
    """`examine` each of the files that the record lacks, on all cores, and record it. A bad file is not recorded.

    Args:
        record: None: none is read or written.

    Returns:
        For each file what it is, or the error that says what is wrong with it.
    """
    known = _read_record(record) if record else {}
    results: dict[Path, VideoFile | Exception] = {}
    unknown: dict[Path, tuple[object, ...]] = {}
    for path in dict.fromkeys(paths):
        key: tuple[object, ...] = ()
        with contextlib.suppress(OSError):  # which `examine` meets, too
            state = path.stat()
            key = (str(path.absolute()), state.st_size, state.st_mtime_ns)
        file = known.get(key)
        if file and (file.whole or not whole):
            results[path] = file
        else:
            unknown[path] = key
    if record and unknown:
        record.parent.mkdir(parents=True, exist_ok=True)
        cut_half_line(record)

    def attempt(path: Path) -> tuple[Path, VideoFile | Exception]:
        try:
            return path, examine(path, whole)
        except (RunError, OSError) as error:
            return path, error

    with ThreadPoolExecutor(available_cores()) as pool:  # decoding and hashing leave Python's lock to other threads
        for path, result in progress(pool.map(attempt, unknown), total=len(unknown)):
            results[path] = result
            if record and isinstance(result, VideoFile):
                append_json_line(record, {"file": unknown[path], **_as_json(result)})
    return results


# --- the record ---


def record_of(folder: Path, cache: Path) -> Path:
    """The record of a data set's files."""
    return cache / "videos" / f"{json_sha256(str(folder.resolve()))[:16]}.jsonl"


def _as_json(file: VideoFile) -> JsonObject:
    content = asdict(file.info) | {"sha256": file.sha256, "whole": file.whole}
    content |= {"time_base": str(file.info.time_base), "pixel_aspect": str(file.info.pixel_aspect)}
    if isinstance(file.info.pts, range):
        content["pts"] = {"range": [file.info.pts.start, file.info.pts.stop, file.info.pts.step]}
    return content


def _read_record(record: Path) -> dict[tuple[object, ...], VideoFile]:
    """The recorded files by path, size and time. A damaged record is none."""
    known: dict[tuple[object, ...], VideoFile] = {}
    try:
        for row in read_json_lines(record):
            key, sha256, whole, pts = tuple(row.pop("file")), row.pop("sha256"), row.pop("whole"), row["pts"]
            row["pts"] = range(*pts["range"]) if isinstance(pts, dict) else tuple(pts)
            row |= {"time_base": Fraction(row["time_base"]), "pixel_aspect": Fraction(row["pixel_aspect"])}
            known[key] = VideoFile(VideoInfo(**row | {"notes": tuple(row["notes"])}), sha256, whole)
    except (UserError, OSError, KeyError, TypeError, ValueError):  # also one of another version
        record.unlink(missing_ok=True)
        return {}
    return known
