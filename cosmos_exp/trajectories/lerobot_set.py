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
from typing import Literal

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
QUANTILES = {"min": 0, "max": 1, "q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
LEVELS = np.arange(256) / 255  # of 8-bit pictures
COLUMN_TYPES = {str: pa.string(), int: pa.int64(), float: pa.float64()}
Statistics = dict[str, Sequence[object]]  # of one feature


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


def write_set(out: Path, episodes: Sequence[Episode], layout: Layout, show: bool = True) -> None:
    """Write the set in place of one that is there. The same episodes give the same bytes.

    meta/info.json comes last: a set that was not completed cannot be opened.
    """
    (out / INFO).unlink(missing_ok=True)
    for part in ("meta", "data", "videos"):
        shutil.rmtree(out / part, ignore_errors=True)
    coded = [read_coded(episode.video) for episode in episodes]
    tasks = pd.DataFrame({"task": [episode.task for episode in episodes]})
    tasks["task_index"] = pd.factorize(tasks["task"])[0]
    rows = _data_rows(episodes, coded, tasks["task_index"], layout)
    places = place_episodes(coded, [table.nbytes for table in rows])
    for file, numbers in places.groupby("video_file").indices.items():
        path = out / VIDEO_PATH.format(video_key=layout.camera, **_chunk(file))
        _write_shard(path, [episodes[number].video for number in numbers])
    for file, numbers in places.groupby("data_file").indices.items():
        _write_rows(out / DATA_PATH.format(**_chunk(file)), [rows[number] for number in numbers])
    levels, statistics = np.zeros((3, len(LEVELS)), int), []
    for episode, table in zip(with_progress(episodes, "writing", len(episodes), "episode", show), rows, strict=True):
        counted = count_levels(read_video(episode.video))
        levels += counted
        statistics.append(_statistics(table, counted, layout.camera))
    tasks = tasks.drop_duplicates().set_index("task")  # as the library reads it: the text is the index
    with atomic_path(out / "meta" / "tasks.parquet") as temporary:
        tasks.to_parquet(temporary)
    with atomic_path(out / EPISODES_PATH) as temporary:
        _episode_table(episodes, places, statistics, layout).to_parquet(temporary, index=False)
    write_json(out / "meta" / "stats.json", _statistics(pa.concat_tables(rows), levels, layout.camera))
    write_json(out / INFO, _info(coded, len(tasks), layout))


def _chunk(file: int) -> dict[str, int]:
    return {"chunk_index": int(file) // CHUNK, "file_index": int(file) % CHUNK}


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


def place_episodes(coded: Sequence[Coded], rows: Sequence[int], limit: int = VIDEO_MB * 2**20) -> pd.DataFrame:
    """The place of each episode, in order: a new file begins where one would be too large, or the coding changes.

    Args:
        rows: bytes of each episode's rows.
        limit: bytes of a video file.

    Returns:
        one row per episode: its number of frames, its video file, its first frame in it, and the file of its rows.
    """
    places = []
    video_file = first = video_size = data_file = data_size = 0
    for episode, before, size in zip(coded, [coded[0], *coded], rows, strict=False):
        if video_size and (video_size + episode.size > limit or episode.coding != before.coding):
            video_file, first, video_size = video_file + 1, 0, 0
        if data_size and data_size + size > DATA_MB * 2**20:
            data_file, data_size = data_file + 1, 0
        places.append((episode.frames, video_file, first, data_file))
        first, video_size, data_size = first + episode.frames, video_size + episode.size, data_size + size
    return pd.DataFrame(places, columns=["frames", "video_file", "first", "data_file"])


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


def _data_rows(
    episodes: Sequence[Episode], coded: Sequence[Coded], tasks: Sequence[int], layout: Layout
) -> list[pa.Table]:
    """The rows of each episode, one per frame."""
    tables, index = [], 0
    for number, episode in enumerate(episodes):
        frames = np.arange(coded[number].frames)
        columns: dict[str, pa.Array] = {}
        if layout.actions:
            assert episode.actions is not None
            columns["action"] = pa.array(episode.actions.ravel())
            if len(layout.actions) > 1:  # the library reads a feature of one value as a plain number
                columns["action"] = pa.FixedSizeListArray.from_arrays(columns["action"], len(layout.actions))
        columns["timestamp"] = pa.array((frames / layout.fps).astype(np.float32))
        columns["frame_index"] = pa.array(frames)
        columns["episode_index"] = pa.array(np.full_like(frames, number))
        columns["index"] = pa.array(index + frames)
        columns["task_index"] = pa.array(np.full_like(frames, tasks[number]))
        tables.append(pa.table(columns))
        index += len(frames)
    return tables


def _write_rows(path: Path, tables: Sequence[pa.Table]) -> None:
    """Write the rows of episodes; each episode is a row group of its own, as the library writes them."""
    with atomic_path(path) as temporary, pq.ParquetWriter(temporary, tables[0].schema) as writer:
        for table in tables:
            writer.write_table(table)
        writer.close()  # before the file is renamed


# --- meta/ ---


def count_levels(frames: np.ndarray) -> np.ndarray:
    """How often each level occurs in each channel: int64 (3, 256).

    Args:
        frames: uint8 (T, H, W, 3).
    """
    return np.stack([np.bincount(frames[..., channel].ravel(), minlength=256) for channel in range(3)])


def feature_statistics(values: np.ndarray, counts: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """The statistics of a feature, each of shape (A,).

    Args:
        values: (A, T).
        counts: how often each value occurs, (A, T); None: once. With counts, quantiles are values that occur.
    """
    method: Literal["linear", "inverted_cdf"] = "linear"
    if counts is not None:
        method = "inverted_cdf"
    mean = np.average(values, axis=1, weights=counts)
    variance = np.average((values - mean[:, None]) ** 2, axis=1, weights=counts)
    quantiles = np.quantile(values, list(QUANTILES.values()), axis=1, weights=counts, method=method)
    return {"mean": mean, "std": np.sqrt(variance), **dict(zip(QUANTILES, quantiles, strict=True))}


def _statistics(table: pa.Table, levels: np.ndarray, camera: str) -> dict[str, Statistics]:
    """The statistics of every feature: of the pictures in [0, 1] with shape (3, 1, 1), of numbers with shape (A,).

    Args:
        table: rows of frames.
        levels: sum of `count_levels` of these frames.
    """
    statistics: dict[str, Statistics] = {camera: {}}
    for name, value in feature_statistics(np.tile(LEVELS, (3, 1)), levels).items():
        statistics[camera][name] = value.reshape(3, 1, 1).tolist()
    for column in table.column_names:
        values = np.array(table.column(column).to_pylist(), np.float64).reshape(table.num_rows, -1)
        statistics[column] = {}
        for name, value in feature_statistics(values.T).items():
            statistics[column][name] = value.tolist()
    for feature in statistics.values():
        feature["count"] = [table.num_rows]
    return statistics


def _episode_table(
    episodes: Sequence[Episode], places: pd.DataFrame, statistics: Sequence[Mapping[str, Statistics]], layout: Layout
) -> pd.DataFrame:
    """The table of episodes."""
    stop, last = places["frames"].cumsum(), places["first"] + places["frames"]
    camera = f"videos/{layout.camera}/"
    table = pd.DataFrame(
        {
            "episode_index": range(len(episodes)),
            "tasks": [[episode.task] for episode in episodes],
            "length": places["frames"],
            "data/chunk_index": places["data_file"] // CHUNK,
            "data/file_index": places["data_file"] % CHUNK,
            "dataset_from_index": stop - places["frames"],
            "dataset_to_index": stop,
            f"{camera}chunk_index": places["video_file"] // CHUNK,
            f"{camera}file_index": places["video_file"] % CHUNK,
            f"{camera}from_timestamp": places["first"] / layout.fps,
            f"{camera}to_timestamp": last / layout.fps,
            "meta/episodes/chunk_index": 0,
            "meta/episodes/file_index": 0,
        }
    )
    notes = pd.DataFrame([episode.notes for episode in episodes], columns=list(layout.columns), dtype=object)
    for name, kind in layout.columns.items():  # also right for a column without any value
        table[name] = notes[name].astype(pd.ArrowDtype(COLUMN_TYPES[kind]))
    for feature, values in statistics[0].items():
        for name in values:
            table[f"stats/{feature}/{name}"] = [of_episode[feature][name] for of_episode in statistics]
    return table


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
