"""Write a LeRobot v3.0 data set from finished videos.

The layout and the columns are those of the `lerobot` library (0.4 to 0.6), which is no dependency: it pins other versions of
torch and numpy. benchmarks/check_lerobot_set.py opens a set with the library itself.

The coded pictures of several episodes are copied into one file, without a new encoding. Statistics count all pixels of all
frames, where the library samples frames and merges episodes approximately.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from cosmos_exp.data.video import UNREADABLE, open_video, read_video, reason, video_stream
from cosmos_exp.errors import RunError
from cosmos_exp.files import JsonObject, atomic_path, write_json
from cosmos_exp.tracking.progress import with_progress

VERSION = "v3.0"
CHUNK = 1000  # files in a folder
DATA_MB, VIDEO_MB = 100, 200  # the library's limits of a file
PATTERN = "chunk-{chunk_index:03d}/file-{file_index:03d}"
DATA_PATH, VIDEO_PATH = f"data/{PATTERN}.parquet", "videos/{video_key}/" + PATTERN + ".mp4"
EPISODES_PATH = "meta/episodes/chunk-000/file-000.parquet"
INFO = Path("meta") / "info.json"
NUMBERS = {
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}
QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
LEVELS = np.arange(256) / 255  # of 8-bit pictures
COLUMN_TYPES = {str: pa.string(), int: pa.int64(), float: pa.float64()}
Statistics = dict[str, list[object]]  # of one feature


@dataclass(frozen=True)
class Episode:
    """One episode.

    Attributes:
        video: its H.264 file.
        actions: float32 (T, A), or None.
        notes: further columns of the table of episodes: text, numbers or None.
    """

    video: Path
    task: str
    actions: np.ndarray | None = None
    notes: Mapping[str, str | int | float | None] = field(default_factory=dict)


@dataclass(frozen=True)
class Layout:
    """What all episodes share.

    Attributes:
        camera: name of the video feature.
        fps: frames per second.
        actions: names of the action values; empty: the set has no actions.
        columns: type of each further column of the table of episodes: `str`, `int` or `float`.
    """

    camera: str
    fps: float
    actions: tuple[str, ...]
    columns: Mapping[str, type]


@dataclass(frozen=True)
class Coded:
    """What a shard needs to know of an episode's file. `coding` has to be the same in a shard: a player reads it once."""

    frames: int
    size: int
    coding: tuple[bytes, tuple[int, int], Fraction, Fraction]


@dataclass(frozen=True)
class Place:
    """Where an episode is: its video file and its first frame in it, and the file of its rows."""

    video_file: int
    first: int
    data_file: int = 0


def write_set(out: Path, episodes: Sequence[Episode], layout: Layout, show: bool = True) -> None:
    """Write the set in place of one that is there. The same episodes give the same bytes.

    meta/info.json comes last: a set that was not completed cannot be opened.
    """
    (out / INFO).unlink(missing_ok=True)
    for part in ("meta", "data", "videos"):
        shutil.rmtree(out / part, ignore_errors=True)
    coded = [read_coded(episode.video) for episode in episodes]
    tasks = list(dict.fromkeys(episode.task for episode in episodes))
    tables = _data_tables(episodes, coded, tasks, layout)
    places = place_episodes(coded, [table.nbytes for table in tables])
    _write_videos(out, episodes, places, layout.camera)
    _write_data(out, tables, places)
    levels, statistics = np.zeros((3, len(LEVELS)), int), []
    for episode, table in zip(with_progress(episodes, "writing", len(episodes), "episode", show), tables, strict=True):
        counted = count_levels(read_video(episode.video))
        levels += counted
        statistics.append(_statistics(table, counted, layout.camera))
    with atomic_path(out / "meta" / "tasks.parquet") as temporary:  # as the library reads it: the text is the index
        pd.DataFrame({"task_index": range(len(tasks))}, index=pd.Index(tasks, name="task")).to_parquet(temporary)
    rows = _episode_rows(episodes, coded, places, statistics, layout)
    table = pa.Table.from_pylist(rows)
    for name, kind in layout.columns.items():  # also right for a column without any value
        table = table.set_column(table.column_names.index(name), name, table[name].cast(COLUMN_TYPES[kind]))
    with atomic_path(out / EPISODES_PATH) as temporary:
        pq.write_table(table, temporary)
    write_json(out / "meta" / "stats.json", _statistics(pa.concat_tables(tables), levels, layout.camera))
    write_json(out / INFO, _info(coded, len(tasks), layout))


def _chunk(file: int) -> dict[str, int]:
    return {"chunk_index": file // CHUNK, "file_index": file % CHUNK}


# --- videos/ ---


def read_coded(path: Path) -> Coded:
    """The properties of an episode's file.

    Raises:
        RunError: it cannot be read, or is not H.264.
    """
    try:
        with open_video(path) as container:
            stream = video_stream(container)
            frames = sum(packet.size > 0 for packet in container.demux(stream))
            codec = stream.codec_context
            if codec.name != "h264" or stream.average_rate is None or stream.time_base is None:
                raise RunError(f"{path}: is {codec.name}, expected H.264")
            shape = (codec.height, codec.width)
            coding = (bytes(codec.extradata or b""), shape, stream.average_rate, stream.time_base)
            return Coded(frames, path.stat().st_size, coding)
    except UNREADABLE as error:
        raise RunError(f"{path}: cannot be read as a video ({reason(error)})") from error


def place_episodes(coded: Sequence[Coded], rows: Sequence[int], limit: int = VIDEO_MB * 2**20) -> list[Place]:
    """The place of each episode, in order: a new file begins where one would be too large, or the coding changes.

    Args:
        rows: bytes of each episode's rows.
        limit: bytes of a video file.
    """
    places: list[Place] = []
    video_file = first = video_size = data_file = data_size = 0
    for k, episode in enumerate(coded):
        if k and (video_size + episode.size > limit or episode.coding != coded[k - 1].coding):
            video_file, first, video_size = video_file + 1, 0, 0
        if k and data_size + rows[k] > DATA_MB * 2**20:
            data_file, data_size = data_file + 1, 0
        places.append(Place(video_file, first, data_file))
        first, video_size, data_size = first + episode.frames, video_size + episode.size, data_size + rows[k]
    return places


def _write_videos(out: Path, episodes: Sequence[Episode], places: Sequence[Place], camera: str) -> None:
    shards: dict[int, list[Path]] = {}
    for episode, place in zip(episodes, places, strict=True):
        shards.setdefault(place.video_file, []).append(episode.video)
    for file, videos in shards.items():
        _write_shard(out / VIDEO_PATH.format(video_key=camera, **_chunk(file)), videos)


def _write_shard(path: Path, videos: Sequence[Path]) -> None:
    """Write videos of the same coding one after another into one file. The same files give the same bytes."""
    with (
        atomic_path(path) as temporary,
        av.open(str(temporary), "w", format="mp4", options={"movflags": "faststart"}) as target,
    ):
        target_stream, offset = None, 0
        for video in videos:
            with open_video(video) as source:
                stream = video_stream(source)
                if target_stream is None:
                    target_stream = target.add_stream_from_template(stream)
                    target_stream.time_base = stream.time_base
                assert stream.average_rate is not None
                assert stream.time_base is not None
                frames = 0
                for packet in source.demux(stream):
                    if not packet.size or packet.pts is None or packet.dts is None:
                        continue
                    packet.pts, packet.dts = packet.pts + offset, packet.dts + offset
                    packet.stream = target_stream
                    target.mux(packet)
                    frames += 1
                offset += round(frames / stream.average_rate / stream.time_base)


# --- data/ ---


def _data_tables(
    episodes: Sequence[Episode], coded: Sequence[Coded], tasks: Sequence[str], layout: Layout
) -> list[pa.Table]:
    """The rows of each episode, one per frame."""
    tables, index = [], 0
    for k, (episode, video) in enumerate(zip(episodes, coded, strict=True)):
        frames = np.arange(video.frames)
        columns: dict[str, pa.Array] = {}
        if layout.actions:
            assert episode.actions is not None
            columns["action"] = pa.array(episode.actions.ravel(), pa.float32())
            if len(layout.actions) > 1:  # the library reads a feature of one value as a plain number
                columns["action"] = pa.FixedSizeListArray.from_arrays(columns["action"], len(layout.actions))
        columns["timestamp"] = pa.array((frames / layout.fps).astype(np.float32))
        columns["frame_index"] = pa.array(frames)
        columns["episode_index"] = pa.array(np.full(video.frames, k))
        columns["index"] = pa.array(index + frames)
        columns["task_index"] = pa.array(np.full(video.frames, tasks.index(episode.task)))
        tables.append(pa.table(columns))
        index += video.frames
    return tables


def _write_data(out: Path, tables: Sequence[pa.Table], places: Sequence[Place]) -> None:
    """Write the rows; each episode is a row group of its own, as the library writes them."""
    files: dict[int, list[pa.Table]] = {}
    for table, place in zip(tables, places, strict=True):
        files.setdefault(place.data_file, []).append(table)
    for file, groups in files.items():
        path = out / DATA_PATH.format(**_chunk(file))
        with atomic_path(path) as temporary, pq.ParquetWriter(temporary, groups[0].schema) as writer:
            for table in groups:
                writer.write_table(table)
            writer.close()  # before the file is renamed


# --- meta/ ---


def count_levels(frames: np.ndarray) -> np.ndarray:
    """How often each level occurs in each channel: int64 (3, 256).

    Args:
        frames: uint8 (T, H, W, 3).
    """
    return np.stack([np.bincount(channel.ravel(), minlength=256) for channel in np.moveaxis(frames, 3, 0)])


def picture_statistics(levels: np.ndarray, frames: int) -> Statistics:
    """The statistics of pictures in [0, 1]; each value has the shape (3, 1, 1).

    Args:
        levels: sum of `count_levels`.
        frames: number of pictures.
    """
    total = levels.sum(axis=1)
    mean = (levels * LEVELS).sum(axis=1) / total
    spread = np.sqrt(np.maximum((levels * LEVELS**2).sum(axis=1) / total - mean**2, 0))
    below = np.cumsum(levels, axis=1)
    values = {"min": _level(below, 0.5 / total.max()), "max": _level(below, 1), "mean": mean, "std": spread}
    for name, share in QUANTILES.items():
        values[name] = _level(below, share)
    statistics: Statistics = {name: value.reshape(3, 1, 1).tolist() for name, value in values.items()}
    return statistics | {"count": [frames]}


def _level(below: np.ndarray, share: float) -> np.ndarray:
    """The level of each channel up to which lies a share of the pixels, of the counts of pixels at or below each level."""
    return LEVELS[[np.searchsorted(counts, share * counts[-1]) for counts in below]]


def vector_statistics(values: np.ndarray) -> Statistics:
    """The statistics of a feature of numbers; each value has one entry per number.

    Args:
        values: (T, A).
    """
    frame = pd.DataFrame(values.astype(np.float64))
    summary = {"min": frame.min(), "max": frame.max(), "mean": frame.mean(), "std": frame.std(ddof=0)}
    for name, share in QUANTILES.items():
        summary[name] = frame.quantile(share)
    statistics: Statistics = {name: value.tolist() for name, value in summary.items()}
    return statistics | {"count": [len(frame)]}


def _statistics(table: pa.Table, levels: np.ndarray, camera: str) -> dict[str, Statistics]:
    """The statistics of every feature, over the rows of a table and the levels of its pictures."""
    statistics = {camera: picture_statistics(levels, table.num_rows)}
    for name in table.column_names:
        column = table.column(name).combine_chunks()
        if pa.types.is_fixed_size_list(column.type):
            column = column.flatten()
        statistics[name] = vector_statistics(column.to_numpy().reshape(table.num_rows, -1))
    return statistics


def _episode_rows(
    episodes: Sequence[Episode],
    coded: Sequence[Coded],
    places: Sequence[Place],
    statistics: Sequence[Mapping[str, Statistics]],
    layout: Layout,
) -> list[JsonObject]:
    """The rows of the table of episodes."""
    rows, first = [], 0
    camera = f"videos/{layout.camera}/"
    for k, (episode, video, place) in enumerate(zip(episodes, coded, places, strict=True)):
        data, shard = _chunk(place.data_file), _chunk(place.video_file)
        row: JsonObject = {
            "episode_index": k,
            "tasks": [episode.task],
            "length": video.frames,
            "data/chunk_index": data["chunk_index"],
            "data/file_index": data["file_index"],
            "dataset_from_index": first,
            "dataset_to_index": first + video.frames,
            f"{camera}chunk_index": shard["chunk_index"],
            f"{camera}file_index": shard["file_index"],
            f"{camera}from_timestamp": place.first / layout.fps,
            f"{camera}to_timestamp": (place.first + video.frames) / layout.fps,
            "meta/episodes/chunk_index": 0,
            "meta/episodes/file_index": 0,
        }
        for name in layout.columns:
            row[name] = episode.notes.get(name)
        for feature, values in statistics[k].items():
            for name, value in values.items():
                row[f"stats/{feature}/{name}"] = value
        rows.append(row)
        first += video.frames
    return rows


def _info(coded: Sequence[Coded], tasks: int, layout: Layout) -> JsonObject:
    """The content of meta/info.json."""
    height, width = coded[0].coding[1]
    fps = int(layout.fps) if float(layout.fps).is_integer() else layout.fps
    video = {
        "video.height": height,
        "video.width": width,
        "video.codec": "h264",
        "video.pix_fmt": "yuv420p",
        "video.is_depth_map": False,
        "video.fps": fps,
        "video.channels": 3,
        "has_audio": False,
    }
    shape = {"shape": [height, width, 3], "names": ["height", "width", "channels"]}
    features: JsonObject = {layout.camera: {"dtype": "video", **shape, "info": video}}
    if layout.actions:
        features["action"] = {"dtype": "float32", "shape": [len(layout.actions)], "names": list(layout.actions)}
    for name, kind in NUMBERS.items():
        features[name] = {"dtype": kind, "shape": [1], "names": None}
    return {
        "codebase_version": VERSION,
        "robot_type": None,
        "total_episodes": len(coded),
        "total_frames": sum(episode.frames for episode in coded),
        "total_tasks": tasks,
        "chunks_size": CHUNK,
        "data_files_size_in_mb": DATA_MB,
        "video_files_size_in_mb": VIDEO_MB,
        "fps": fps,
        "splits": {"train": f"0:{len(coded)}"},
        "data_path": DATA_PATH,
        "video_path": VIDEO_PATH,
        "features": features,
    }
