"""The metadata of a LeRobot data set: meta/info.json, the list of episodes, and where each camera's video of one is."""

from __future__ import annotations

import json
import re
import reprlib
import string
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    NonNegativeFloat,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    ValidationError,
    field_validator,
    model_validator,
)

from cosmos_exp.data.readers.records import caption_fault
from cosmos_exp.errors import UserError
from cosmos_exp.files import JsonObject, inside_by_name

# v2.0 and v2.1: one file per episode and camera. v3.0 and v3.1: several episodes in one file, listed in parquet tables.
# v2.1 adds statistics per episode and v3.1 language columns to data/, neither of which is read here.
VERSIONS = ("v2.0", "v2.1", "v3.0", "v3.1")
PATH_FIELDS = ("episode_chunk", "episode_index", "video_key", "chunk_index", "file_index")

# Where meta/info.json has no video_path.
V2_VIDEO_PATH = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
V3_VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"

FAULTS = 3  # faults of one record that are named
_ANEW = "Correct it, or convert or download the data set again."

Row = tuple[str, object]  # where a record is, for messages; the record


def _usable(task: str) -> str:
    fault = caption_fault(task)
    if fault:
        raise ValueError(fault)
    return task


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, allow_inf_nan=False)


class Camera(_Strict):
    """A feature of type video: sizes and what they mean, e.g. [480, 640, 3] and [height, width, channels]."""

    shape: list[PositiveInt] | None = None
    names: list[str] | None = None


class Info(_Strict):
    """What is read of meta/info.json. features: names of all features with their entries."""

    features: dict[str, JsonObject]
    fps: PositiveFloat | None = None
    chunks_size: PositiveInt = 1000
    total_episodes: NonNegativeInt | None = None
    video_path: str | None = None

    @field_validator("features")
    @classmethod
    def _check_cameras(cls, features: dict[str, JsonObject]) -> dict[str, JsonObject]:
        for name, feature in features.items():
            if feature.get("dtype") == "video":
                try:
                    Camera.model_validate(feature)
                except ValidationError as error:
                    raise ValueError(f"{name}.{faults_of(error)}") from error
        return features

    @field_validator("video_path")
    @classmethod
    def _check_fields(cls, template: str | None) -> str | None:
        for _, name, _, _ in string.Formatter().parse(template or ""):
            if name is not None and name not in PATH_FIELDS:
                raise ValueError(f"has the field {name}; known: {', '.join(PATH_FIELDS)}")
        return template


class Place(_Strict):
    """Where an episode is in a file of several episodes: which file, and from when to when in seconds."""

    chunk_index: NonNegativeInt
    file_index: NonNegativeInt
    from_timestamp: NonNegativeFloat
    to_timestamp: PositiveFloat

    @model_validator(mode="after")
    def _check_order(self) -> Place:
        if self.to_timestamp <= self.from_timestamp:
            raise ValueError(f"to_timestamp={self.to_timestamp:g} is not after from_timestamp={self.from_timestamp:g}")
        return self


class Episode(_Strict):
    """A record of the list of episodes. videos: the place in each camera's file (v3); empty for v2."""

    episode_index: NonNegativeInt
    tasks: list[Annotated[str, AfterValidator(_usable)]]
    length: PositiveInt | None = None
    videos: dict[str, Place] = {}

    @model_validator(mode="before")
    @classmethod
    def _gather_places(cls, row: Any) -> Any:  # Any: whatever the file holds
        """Columns videos/CAMERA/KEY as `videos`."""
        if not isinstance(row, dict):
            return row
        videos: dict[str, JsonObject] = {}
        for column, value in row.items():
            folder, _, rest = str(column).partition("/")
            camera, _, key = rest.rpartition("/")
            if folder == "videos" and key in Place.model_fields and value is not None:
                videos.setdefault(camera, {})[key] = value
        return {**row, "videos": videos}

    @property
    def name(self) -> str:
        """episode_<number>"""
        return f"episode_{self.episode_index:06d}"


def faults_of(error: ValidationError) -> str:
    """The first faults of a record in one line: each with its key and what was found."""
    words = []
    for fault in error.errors(include_url=False)[:FAULTS]:
        key = ".".join(map(str, fault["loc"])) or "record"
        found = ""
        if fault["type"] not in ("missing", "value_error"):
            found = f", found {reprlib.repr(fault['input'])}"
        words.append(f"{key}: {fault['msg'].removeprefix('Value error, ')}{found}")
    return "; ".join(words)


@dataclass(frozen=True)
class LeRobot:
    """A LeRobot folder.

    version: one of VERSIONS. problems: records of episodes that cannot be used.
    """

    folder: Path
    info: Info
    version: str
    episodes: list[Episode]
    problems: list[str]

    @property
    def cameras(self) -> list[str]:
        """Features of type video."""
        return [name for name, feature in self.info.features.items() if feature.get("dtype") == "video"]

    def declared_size(self, camera: str) -> tuple[int, int] | None:
        """Height and width that meta/info.json states for a camera; None: it states none."""
        feature = self.info.features[camera]
        sizes = dict(zip(feature.get("names") or (), feature.get("shape") or (), strict=False))
        if "height" in sizes and "width" in sizes:
            return sizes["height"], sizes["width"]
        return None

    def declared_video(self, episode: Episode, camera: str) -> Path:
        """Where meta/info.json says that the episode's video is."""
        index, place = episode.episode_index, episode.videos.get(camera)
        values: dict[str, int | str] = {"episode_chunk": index // self.info.chunks_size, "episode_index": index}
        template = V2_VIDEO_PATH
        if place:
            template, values = V3_VIDEO_PATH, {"chunk_index": place.chunk_index, "file_index": place.file_index}
        elif self.version.startswith("v3"):
            return self.folder / "videos" / camera / f"{episode.name} (not in meta/episodes)"
        try:
            return inside_by_name(self.folder, (self.info.video_path or template).format(video_key=camera, **values))
        except (ValueError, KeyError) as error:
            raise UserError(
                f"{self.folder / 'meta' / 'info.json'}: video_path: {type(error).__name__}: {error}; correct it"
            ) from error

    def video(self, episode: Episode, camera: str) -> Path:
        """The episode's video file; it may not exist."""
        path = self.declared_video(episode, camera)
        if path.is_file() or camera in episode.videos:
            return path
        # Real data sets declare one layout and use another; the file name under the camera's folder is unique.
        elsewhere = sorted(self.folder.glob(f"videos/*/{camera}/{episode.name}.mp4"))
        return elsewhere[0] if len(elsewhere) == 1 else path


def open_lerobot(folder: Path) -> LeRobot:
    """Read meta/info.json and the list of episodes.

    Raises:
        UserError: one of them is missing or cannot be read, or the codebase_version is not one of VERSIONS.
    """
    path = folder / "meta" / "info.json"
    if not path.is_file():
        raise UserError(f"{folder}: no meta/info.json; is it a LeRobot data set ({', '.join(VERSIONS)})?")
    try:
        content = dict(json.loads(path.read_text(encoding="utf-8-sig")))
    except (ValueError, TypeError, RecursionError) as error:
        raise UserError(f"{path}: not a JSON object ({error}); copy it again") from error
    version = _check_version(path, content)
    try:
        info = Info.model_validate(content)
    except ValidationError as error:
        raise UserError(f"{path}: {faults_of(error)}. {_ANEW}") from error
    problems: list[str] = []
    read = {"v2": _read_v2_episodes, "v3": _read_v3_episodes}[version[:2]]
    episodes = _good_episodes(read(folder), problems)
    if version.startswith("v3"):  # the files of a table may be in any order
        episodes.sort(key=attrgetter("episode_index"))
    return LeRobot(folder, info, version, episodes, problems)


def _check_version(path: Path, info: JsonObject) -> str:
    """`v3.0` of `v3.0`, `3.0` or `v3.0.0`."""
    text = str(info.get("codebase_version", "missing"))
    version = re.sub(r"v?(\d+\.\d+)(\.\d+)?", r"v\1", text.strip())
    if version not in VERSIONS:
        raise UserError(
            f"{path}: codebase_version is {text}; {', '.join(VERSIONS)} are supported; convert it to one of these with the "
            "lerobot library, or correct the entry if it is wrong"
        )
    return version


def _good_episodes(rows: Iterable[Row], problems: list[str]) -> list[Episode]:
    """The records that can be used; the others go to `problems`."""
    episodes: dict[int, Episode] = {}
    places: dict[int, str] = {}
    for where, row in rows:
        try:
            episode = Episode.model_validate(row)
        except ValidationError as error:
            problems.append(f"{where}: {faults_of(error)}. {_ANEW}")
            continue
        index = episode.episode_index
        if index in episodes:
            problems.append(
                f"{where}: episode {index} is listed twice, first in {places[index]}; it would be counted twice and could be "
                "in training and validation. Remove one."
            )
            continue
        episodes[index], places[index] = episode, where
    return list(episodes.values())


def _read_v2_episodes(folder: Path) -> Iterator[Row]:
    path = folder / "meta" / "episodes.jsonl"
    if not path.is_file():
        raise UserError(f"{path}: missing; a LeRobot v2 data set lists its episodes there")
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text (byte {error.start}); copy it again") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            yield f"{path}, line {number}", json.loads(line)
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path}, line {number}: not JSON ({error}); copy the file again") from error


def _read_v3_episodes(folder: Path) -> list[Row]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    files = sorted((folder / "meta" / "episodes").rglob("*.parquet"))
    if not files:
        raise UserError(
            f"{folder / 'meta' / 'episodes'}: no parquet files; a LeRobot v3 data set lists its episodes there"
        )
    rows: list[Row] = []
    for file in files:
        try:
            table = pq.read_table(file).to_pylist()
        except (OSError, pa.ArrowException, ValueError, OverflowError) as error:  # not UTF-8, dates beyond 9999
            raise UserError(f"{file}: cannot be read as parquet ({str(error)[:80]}); copy it again") from error
        for number, row in enumerate(table):
            rows.append((f"{file}, row {number}", row))
    return rows
