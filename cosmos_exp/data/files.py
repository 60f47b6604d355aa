"""What is known of a video file: header, frame times, the hash of its content. A file is read once, and recorded in the cache.

The record knows a file by path, size and time of change. It is a file of JSON lines per data set, to which each process
appends; a later line counts.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

from cosmos_exp.data.video import VideoInfo, check_whole, decode, first_frame, probe
from cosmos_exp.errors import RunError, UserError
from cosmos_exp.files import JsonObject, append_json_line, cut_half_line, file_sha256, json_sha256, read_json_lines
from cosmos_exp.provenance import available_cores

Progress = Callable[[Iterable[Any], int], Iterable[Any]]  # shows how far the items, of which it gets the number, are


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
    turned, interlaced = first_frame(path)
    notes = (*info.notes, "it is interlaced; both fields are one picture") if interlaced else info.notes
    info, sha256 = replace(info, rotation=turned, notes=notes), file_sha256(path)
    if info.rotation:
        sha256 = hashlib.sha256(f"turned {info.rotation}\0{sha256}".encode()).hexdigest()
    if info.pixel_aspect != 1:
        sha256 = hashlib.sha256(f"widened {info.pixel_aspect}\0{sha256}".encode()).hexdigest()
    if whole:
        check_whole(path, info)
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
    unknown: dict[Path, list[object]] = {}
    for path in dict.fromkeys(paths):
        try:
            state = path.stat()
            key: list[object] = [str(path.absolute()), state.st_size, state.st_mtime_ns]
        except OSError as error:
            results[path] = error
            continue
        file = known.get(tuple(key))
        if file and (file.whole or not whole):
            results[path] = file
        else:
            unknown[path] = key
    if record and unknown:
        record.parent.mkdir(parents=True, exist_ok=True)
        cut_half_line(record)
    for path, result in progress(_examined(list(unknown), whole), len(unknown)):
        results[path] = result
        if record and isinstance(result, VideoFile):
            append_json_line(record, {"file": unknown[path], **_as_json(result)})
    return results


def _examined(paths: Sequence[Path], whole: bool) -> Iterator[tuple[Path, VideoFile | Exception]]:
    """Decoding and hashing leave Python's lock to other threads."""

    def attempt(path: Path) -> tuple[Path, VideoFile | Exception]:
        try:
            return path, examine(path, whole)
        except (RunError, OSError) as error:
            return path, error

    with ThreadPoolExecutor(available_cores()) as pool:
        yield from pool.map(attempt, paths)


# --- the record ---


def record_of(folder: Path, cache: Path) -> Path:
    """The record of a data set's files."""
    return cache / "videos" / f"{json_sha256(str(folder.resolve()))[:16]}.jsonl"


def _as_json(file: VideoFile) -> JsonObject:
    content: JsonObject = {"sha256": file.sha256, "whole": file.whole}
    for field in fields(VideoInfo):
        value = getattr(file.info, field.name)
        content[field.name] = str(value) if isinstance(value, Fraction) else value
    if isinstance(file.info.pts, range):
        content["pts"] = {"start": file.info.pts.start, "stop": file.info.pts.stop, "step": file.info.pts.step}
    return content


def _read_record(record: Path) -> dict[tuple[object, ...], VideoFile]:
    """The recorded files by path, size and time. A damaged record is none."""
    known: dict[tuple[object, ...], VideoFile] = {}
    try:
        for row in read_json_lines(record):
            key, sha256, whole, pts = tuple(row.pop("file")), row.pop("sha256"), row.pop("whole"), row["pts"]
            row["pts"] = range(pts["start"], pts["stop"], pts["step"]) if isinstance(pts, dict) else tuple(pts)
            row |= {"time_base": Fraction(row["time_base"]), "pixel_aspect": Fraction(row["pixel_aspect"])}
            known[key] = VideoFile(VideoInfo(**row | {"notes": tuple(row["notes"])}), sha256, whole)
    except (UserError, OSError, KeyError, TypeError, ValueError):  # also one of another version
        record.unlink(missing_ok=True)
        return {}
    return known
