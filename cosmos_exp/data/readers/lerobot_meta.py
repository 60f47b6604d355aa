"""The metadata of a LeRobot data set: meta/info.json, the list of episodes, and where each camera's video of one is."""

from __future__ import annotations

import reprlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    Strict,
    TypeAdapter,
    ValidationError,
)
from pydantic.dataclasses import dataclass as checked_dataclass

from cosmos_exp.data.readers.captions import caption_fault
from cosmos_exp.errors import RunError, UserError
from cosmos_exp.files import JsonObject, damage_fix, inside_by_name, parse_json, read_json

# Where meta/info.json has no video_path.
V2_VIDEO_PATH = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
V3_VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"

LEAST_FPS, MOST_FPS = 0.1, 1000.0
COLUMNS = ("episode_index", "tasks", "length")  # of the list of episodes, beside the places in the videos
ROWS_AT_ONCE = 5000
FAULTS = 3  # faults of one record that are named
_ANEW = "Correct it, or convert or download the data set again with the lerobot library."

Row = tuple[str, object]  # where a record is, for messages; the record


def _usable(task: str) -> str:
    fault = caption_fault(task)
    if fault:
        raise ValueError(fault)
    return task


class Info(BaseModel):
    """What is read of meta/info.json. features: names of all features with their entries.

    codebase_version: v2: one file per episode and camera. v3: several episodes in one file, listed in parquet tables. v2.1 adds
        statistics per episode and v3.1 language columns to data/, neither of which is read here.
    """

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    codebase_version: Literal["v2.0", "v2.1", "v3.0", "v3.1"]
    features: dict[str, JsonObject]
    chunks_size: PositiveInt = 1000
    fps: PositiveFloat = 30
    total_episodes: NonNegativeInt | None = None
    video_path: str | None = None


# Records of a list of 100,000 episodes: dataclasses with slots, a third of the memory of pydantic's models.
_Text = Annotated[str, Strict(), AfterValidator(_usable)]
_Count = Annotated[int, Strict(), Ge(0)]
_Seconds = Annotated[float, Strict(), Ge(0)]
_FINITE = ConfigDict(allow_inf_nan=False)


@checked_dataclass(slots=True, frozen=True, config=_FINITE)
class Place:
    """Where an episode is in a file of several episodes: which file, and from when to when in seconds."""

    chunk_index: _Count
    file_index: _Count
    from_timestamp: _Seconds
    to_timestamp: Annotated[float, Strict(), Gt(0)]

    def __post_init__(self) -> None:
        if self.to_timestamp <= self.from_timestamp:
            raise ValueError(f"to_timestamp={self.to_timestamp:g} is not after from_timestamp={self.from_timestamp:g}")


@checked_dataclass(slots=True, frozen=True, config=_FINITE)
class Episode:
    """A record of the list of episodes. videos: the place in each camera's file (v3); empty for v2."""

    episode_index: _Count
    tasks: Annotated[list[_Text], Strict()] | None = None  # None: only the frames have a task_index
    length: Annotated[int, Strict(), Gt(0)] | None = None
    videos: dict[str, Place] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """episode_<number>"""
        return f"episode_{self.episode_index:06d}"


def faults_of(error: ValidationError) -> str:
    """The first faults of a record in one line: each with its key and the wrong value."""
    words = []
    for fault in error.errors(include_url=False)[:FAULTS]:
        key = ".".join(map(str, fault["loc"])) or "record"
        words.append(f"{key}: {fault['msg']}, found {reprlib.repr(fault['input'])}")
    return f"{'; '.join(words)}. {_ANEW}"


@contextmanager
def _readable(path: Path, kind: str = "a LeRobot table") -> Iterator[None]:
    """Say which table cannot be read, and what to do.

    Args:
        kind: what it should be.

    Raises:
        UserError: the block raises what damaged or foreign tables raise.
    """
    import pyarrow as pa

    try:
        yield
    except (OSError, pa.ArrowException, ValueError, LookupError, TypeError, AttributeError, OverflowError) as error:
        # Also text that is not UTF-8, and dates beyond 9999.
        raise UserError(f"{path}: cannot be read as {kind} ({str(error)[:80]}); {damage_fix(path)}") from error


@dataclass(frozen=True)
class LeRobot:
    """A data set.

    problems: one line for each record that cannot be used.
    tables: the table with the frames of each episode.
    rates: frames per second of each episode by the timestamps of its frames, where it has two or more.
    """

    folder: Path
    info: Info
    episodes: list[Episode]
    problems: list[str]
    tables: dict[int, Path]
    rates: dict[int, float]

    @property
    def cameras(self) -> list[str]:
        """Names of the features that are videos or images, without depth maps."""
        names = []
        for name, feature in self.info.features.items():
            details = {**feature, **(feature.get("info") or {})}
            is_depth = details.get("video.is_depth_map") or details.get("is_depth_map")  # lerobot 0.4 and 0.6
            if feature.get("dtype") in ("video", "image") and not is_depth:
                names.append(name)
        return names

    def has_images(self, camera: str) -> bool:
        """Whether a camera's pictures are in the tables of frames."""
        return self.info.features[camera].get("dtype") == "image"

    def task_texts(self, episode: int) -> list[str]:
        """The tasks of an episode by the `task_index` of its frames and meta/tasks; empty if no table has it."""
        import pyarrow.parquet as pq

        path, texts = self.tables.get(episode), []
        if path is None or "task_index" not in pq.read_schema(path).names:
            return []
        with _readable(path):
            rows = pq.read_table(path, columns=["task_index"], filters=[("episode_index", "=", episode)])
        for number in rows.column(0).unique().to_pylist():
            if number not in self.tasks:
                raise RunError(
                    f"{self.folder / 'meta'}: tasks.parquet or tasks.jsonl has no text of task_index {number}; copy it again"
                )
            texts.append(self.tasks[number])
        return texts

    @cached_property
    def tasks(self) -> dict[int, str]:
        """The texts of meta/tasks.parquet (v3) or meta/tasks.jsonl (v2) by their number."""
        import pyarrow.parquet as pq

        path, rows, tasks = self.folder / "meta" / "tasks.parquet", list[Any](), {}  # Any: whatever the file holds
        with _readable(path):
            if path.is_file():
                rows = pq.read_table(path).to_pylist()
            elif path.with_suffix(".jsonl").is_file():
                rows = list(map(parse_json, path.with_suffix(".jsonl").read_bytes().splitlines()))
            for row in rows:  # v3 has the text as the table's index, which has no name
                tasks[int(row["task_index"])] = row.get("task", row.get("__index_level_0__")) or ""
        return tasks

    def video(self, episode: Episode, camera: str) -> Path:
        """The episode's video file, where meta/info.json says that it is; it may not exist.

        Raises:
            UserError: video_path is no template, or leaves the folder.
        """
        index, place = episode.episode_index, episode.videos.get(camera)
        values: dict[str, int | str] = {"episode_chunk": index // self.info.chunks_size, "episode_index": index}
        template = V2_VIDEO_PATH
        if place:
            template, values = V3_VIDEO_PATH, {"chunk_index": place.chunk_index, "file_index": place.file_index}
        elif self.info.codebase_version.startswith("v3"):
            return self.folder / "videos" / camera / f"{episode.name} (not in meta/episodes)"
        try:
            path = inside_by_name(self.folder, (self.info.video_path or template).format(video_key=camera, **values))
        except (ValueError, LookupError, AttributeError) as error:
            raise UserError(
                f"{self.folder / 'meta' / 'info.json'}: video_path: {type(error).__name__}: {error}; correct it"
            ) from error
        if path.is_file() or place:
            return path
        # Real data sets declare one layout and use another; the file name under the camera's folder is unique.
        elsewhere = sorted(self.folder.glob(f"videos/*/{camera}/{episode.name}.mp4"))
        return elsewhere[0] if len(elsewhere) == 1 else path


def open_lerobot(folder: Path) -> LeRobot:
    """Read meta/info.json and the list of episodes.

    Raises:
        UserError: one of them is missing or cannot be read, or the codebase_version is another.
    """
    path = folder / "meta" / "info.json"
    if not path.is_file():
        raise UserError(f"{folder}: no meta/info.json; is it a LeRobot data set?")
    try:
        info = Info.model_validate(read_json(path))
    except ValidationError as error:
        raise UserError(f"{path}: {faults_of(error)}") from error
    except ValueError as error:
        raise UserError(f"{path}: {error}; {damage_fix(path)}") from error
    problems: list[str] = []
    read = _read_v2_episodes if info.codebase_version.startswith("v2") else _read_v3_episodes
    episodes = _good_episodes(read(folder), problems)
    episodes.sort(key=attrgetter("episode_index"))  # the files of a table may be in any order
    return LeRobot(folder, info, episodes, problems, *_read_frames(folder))


def _good_episodes(rows: Iterable[Row], problems: list[str]) -> list[Episode]:
    """The records that can be used; the others go to `problems`."""
    episodes: dict[int, Episode] = {}
    checked = TypeAdapter(Episode)
    for where, row in rows:
        try:
            episode = checked.validate_python(row)
        except ValidationError as error:
            problems.append(f"{where}: {faults_of(error)}")
            continue
        if episodes.setdefault(episode.episode_index, episode) is not episode:
            problems.append(
                f"{where}: episode {episode.episode_index} is listed twice; it could be in training and validation. Remove one."
            )
    return list(episodes.values())


def _read_v2_episodes(folder: Path) -> Iterator[Row]:
    path = folder / "meta" / "episodes.jsonl"
    if not path.is_file():
        raise UserError(f"{path}: missing; a LeRobot v2 data set lists its episodes there")
    for number, line in enumerate(path.read_bytes().split(b"\n"), 1):
        if line.strip():
            where = f"{path}, line {number}"
            try:
                yield where, parse_json(line)
            except ValueError as error:
                raise UserError(f"{where}: {error}; {damage_fix(path)}") from error


def _read_v3_episodes(folder: Path) -> Iterator[Row]:
    files = sorted((folder / "meta" / "episodes").rglob("*.parquet"))
    if not files:
        raise UserError(
            f"{folder / 'meta' / 'episodes'}: no parquet files; a LeRobot v3 data set lists its episodes there"
        )
    for file in files:
        with _readable(file, "parquet"):
            for number, row in enumerate(_rows(file)):
                yield f"{file}, row {number}", row


def _read_frames(folder: Path) -> tuple[dict[int, Path], dict[int, float]]:
    """`LeRobot.tables` and `LeRobot.rates`.

    Raises:
        UserError: a table cannot be read, or its timestamps are no seconds.
    """
    import pyarrow.parquet as pq

    tables, rates = dict[int, Path](), dict[int, float]()
    for file in sorted(folder.glob("data/*/*.parquet")):
        with _readable(file):
            is_timed = "timestamp" in pq.read_schema(file).names
            columns = ["episode_index", "timestamp"] if is_timed else ["episode_index"]
            rows = pq.read_table(file, columns=columns).to_pandas().sort_values(columns)
        tables |= dict.fromkeys(rows["episode_index"].tolist(), file)
        if not is_timed:
            continue
        steps = rows.groupby("episode_index")["timestamp"].diff()[rows["episode_index"].duplicated()]
        for episode, step in steps.groupby(rows["episode_index"]).median().items():
            if not 1 / MOST_FPS <= step <= 1 / LEAST_FPS:  # not a number, all equal, milliseconds
                raise UserError(
                    f"{file}: the timestamps of episode {episode} are {step:g} s apart; expected the seconds between "
                    f"frames. {_ANEW}"
                )
            rates[int(episode)] = round(1 / step, 3)
    return tables, rates


def _rows(file: Path) -> Iterator[JsonObject]:
    """The records of a table of episodes, with its columns videos/CAMERA/KEY as `videos`. Other columns are not read."""
    import pyarrow.parquet as pq

    names, places = pq.read_schema(file).names, {}
    for name in names:
        folder, _, rest = name.partition("/")
        camera, _, key = rest.rpartition("/")
        if folder == "videos" and key in Place.__dataclass_fields__:
            places[name] = camera, key
    wanted = [*(name for name in COLUMNS if name in names), *places]
    for batch in pq.read_table(file, columns=wanted or names).to_batches(ROWS_AT_ONCE):
        for row in batch.to_pylist():
            videos: dict[str, JsonObject] = {}
            for name, (camera, key) in places.items():
                if (value := row.pop(name)) is not None:
                    videos.setdefault(camera, {})[key] = value
            yield {**row, "videos": videos}
