"""Checks of what meta/info.json and the list of episodes of a LeRobot data set say. Each problem names the file and the fix."""

from __future__ import annotations

import math
import string
import sys
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

from cosmos_exp.data.readers.records import caption_fault
from cosmos_exp.errors import UserError
from cosmos_exp.files import JsonObject

_PATH_FIELDS = ("episode_chunk", "episode_index", "video_key", "chunk_index", "file_index")
_ANEW = "Correct it, or convert or download the data set again."
Row = tuple[str, object]  # where a record is, for messages; the record


def is_count(value: object, lowest: int = 0) -> bool:
    """Whether a value is a whole number of at least `lowest`; True and 1.0 are not."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= lowest


def is_positive(value: object) -> bool:
    """Whether a value is a number above 0 that a float can hold."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value <= sys.float_info.max


def check_info(path: Path, info: JsonObject) -> None:
    """Check the entries of meta/info.json that are read.

    Raises:
        UserError: it names every entry of a wrong type or value.
    """
    problems = [*_feature_problems(info.get("features", "missing")), *_video_path_problems(info.get("video_path"))]
    if "fps" in info and not is_positive(info["fps"]):
        problems.append(f"fps is {info['fps']!r}, expected a number above 0")
    if "chunks_size" in info and not is_count(info["chunks_size"], 1):
        problems.append(f"chunks_size is {info['chunks_size']!r}, expected a whole number of at least 1")
    if "total_episodes" in info and not is_count(info["total_episodes"]):
        problems.append(f"total_episodes is {info['total_episodes']!r}, expected a whole number")
    if problems:
        raise UserError(f"{path}: {'; '.join(problems)}. {_ANEW}")


def _feature_problems(features: object) -> Iterator[str]:
    if not isinstance(features, dict):
        yield f"features is {_short(features)}, expected an object that declares the cameras"
        return
    for name, feature in features.items():
        if not isinstance(feature, dict):
            yield f"features.{name} is {_short(feature)}, expected an object with dtype and shape"
        elif feature.get("dtype") == "video":
            shape = feature.get("shape")
            if shape is not None and not (isinstance(shape, list) and all(is_count(s, 1) for s in shape)):
                yield f"features.{name}.shape is {_short(shape)}, expected whole numbers above 0, e.g. [480, 640, 3]"
            names = feature.get("names")
            if names is not None and not (isinstance(names, list) and all(isinstance(n, str) for n in names)):
                yield f"features.{name}.names is {_short(feature['names'])}, expected [height, width, channels]"


def _video_path_problems(template: object) -> Iterator[str]:
    if template is None:
        return
    try:
        fields = [f for _, f, _, _ in string.Formatter().parse(str(template)) if f is not None]
        unknown = sorted(set(fields) - set(_PATH_FIELDS))
    except ValueError as error:
        yield f"video_path is {_short(template)} ({error})"
        return
    if not isinstance(template, str) or not template.strip():
        yield f"video_path is {_short(template)}, expected a text"
    elif unknown:
        yield f"video_path has the fields {', '.join(unknown)}; known: {', '.join(_PATH_FIELDS)}"


def good_episodes(rows: Iterable[Row], problems: list[str]) -> list[JsonObject]:
    """The records that can be used, each with `episode_index` and a list `tasks`; the others go to `problems`."""
    found: dict[int, JsonObject] = {}
    places: dict[int, str] = {}
    for where, row in rows:
        wrong = list(_episode_problems(row))
        if wrong:
            problems.append(f"{where}: {'; '.join(wrong)}. {_ANEW}")
            continue
        assert isinstance(row, dict)
        index = row["episode_index"]
        if index in found:
            problems.append(
                f"{where}: episode {index} is listed twice, first in {places[index]}; it would be counted twice and could be "
                "in training and validation. Remove one."
            )
            continue
        found[index], places[index] = row, where
    return [found[i] for i in found]


def _episode_problems(row: object) -> Iterator[str]:
    if not isinstance(row, dict):
        yield f"expected an object with episode_index and tasks, found {_short(row)}"
        return
    if "episode_index" not in row:
        yield "episode_index is missing"
    elif not is_count(row["episode_index"]):
        yield f"episode_index is {_short(row['episode_index'])}, expected a whole number from 0"
    tasks = row.get("tasks", "missing")
    if not isinstance(tasks, list) or not all(isinstance(t, str) for t in tasks):
        example = f", e.g. [{_short(tasks)}]" if isinstance(tasks, str) and "tasks" in row else ""
        yield f"tasks is {_short(tasks)}, expected a list of texts{example}"
    elif faults := [fault for t in tasks if (fault := caption_fault(t))]:
        yield f"tasks is {_short(tasks)}: {faults[0]}"
    if row.get("length") is not None and not is_count(row["length"], 1):
        yield f"length is {_short(row['length'])}, expected a whole number of frames above 0"
    yield from _place_problems(row)


def _place_problems(row: JsonObject) -> Iterator[str]:
    """The columns videos/CAMERA/… of v3: which file, and from when to when."""
    for column, value in row.items():
        if not str(column).startswith("videos/") or value is None:
            continue
        camera, key = str(column).rsplit("/", 1)
        if key == "file_index":
            absent = [k for k in ("chunk_index", "from_timestamp", "to_timestamp") if row.get(f"{camera}/{k}") is None]
            if absent:
                yield f"{camera}: {', '.join(absent)} is missing"
        if key in ("chunk_index", "file_index") and not is_count(value):
            yield f"{column} is {_short(value)}, expected a whole number from 0"
        if key == "from_timestamp" and not (value == 0 or is_positive(value)):
            yield f"{column} is {_short(value)}, expected seconds from 0"
        if key == "to_timestamp":
            start = row.get(str(column).replace("to_timestamp", "from_timestamp"))
            if not is_positive(value) or not (isinstance(start, (int, float)) and start < value):
                yield f"{column} is {_short(value)}, expected seconds after from_timestamp ({_short(start)})"


def overlaps(episodes: Iterable[tuple[str, Path, tuple[float, float] | None]]) -> list[str]:
    """Episodes that show the same frames of one file.

    Args:
        episodes: name, file, start and end in seconds (None: the whole file).
    """
    by_file: dict[Path, list[tuple[float, float, str]]] = {}
    for name, path, seconds in episodes:
        by_file.setdefault(path, []).append((*(seconds or (0.0, math.inf)), name))
    problems = []
    for path, spans in by_file.items():
        spans.sort()
        for (_, end, a), (start, _, b) in pairwise(spans):
            if start < end - 0.02:  # timestamps are rounded; a frame lasts longer
                problems.append(
                    f"{path}: {a} and {b} share frames ({start:g} s is before {end:g} s); they could be in training and "
                    "validation at once. Correct their timestamps or video_path in meta/, or leave one out with data.episodes"
                )
    return problems


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "…"
