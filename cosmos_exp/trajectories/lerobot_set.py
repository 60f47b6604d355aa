"""Write a LeRobot v3.0 data set from finished videos.

The layout and the columns are those of the `lerobot` library (0.4 to 0.6), which is no dependency: it pins other versions of
torch and numpy. benchmarks/check_lerobot_set.py opens a set with the library itself.

The coded pictures of several episodes are copied into one file, without a new encoding. Statistics count all pixels of all
frames, where the library samples frames and merges episodes approximately.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from cosmos_exp.data.video import open_video, read_video, video_stream
from cosmos_exp.files import JsonObject, atomic_path, write_json
from cosmos_exp.tracking.progress import with_progress

CHUNK = 1000  # files in a folder
DATA_MB, VIDEO_MB = 100, 200  # the library's limits of a file
PATTERN = "chunk-{chunk_index:03d}/file-{file_index:03d}"
DATA_PATH, VIDEO_PATH = f"data/{PATTERN}.parquet", "videos/{video_key}/" + PATTERN + ".mp4"
ROWS, EPISODES = "data/chunk-000/file-000.parquet", "meta/episodes/chunk-000/file-000.parquet"  # one file holds all
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


@dataclass(frozen=True)
class Feature:
    """Numbers of each frame, such as actions: the name of each number, and float32 (T, A) of each episode."""

    names: list[str]
    values: list[np.ndarray]


@dataclass(frozen=True)
class Coded:
    """What a shard needs to know of an episode's file. `coding` has to be the same in a shard: a player reads it once."""

    frames: int
    size: int
    coding: tuple[bytes, tuple[int, int], Fraction | None, Fraction | None]


def write_set(out: Path, episodes: pd.DataFrame, features: Mapping[str, Feature], camera: str, fps: float) -> None:
    """Write the set in place of one that is there. The same episodes give the same bytes.

    meta/info.json comes last: a set that was not completed cannot be opened.

    Args:
        episodes: one row per episode: `video` (its H.264 file), `task`, and further columns of the table of episodes.
        features: columns of the rows of frames beside the library's own, e.g. `action`.
        camera: name of the video feature.
        fps: frames per second of all videos.
    """
    (out / INFO).unlink(missing_ok=True)
    for part in ("meta", "data", "videos"):
        shutil.rmtree(out / part, ignore_errors=True)
    videos = list(episodes["video"])
    coded = list(map(read_coded, videos))
    tasks = episodes[["task"]].assign(task_index=pd.factorize(episodes["task"])[0])
    tables = _frame_tables(coded, features, fps, tasks["task_index"])
    places = place_episodes(coded)
    for file, numbers in places.groupby("video_file").indices.items():
        index = {"chunk_index": int(file) // CHUNK, "file_index": int(file) % CHUNK}
        _write_shard(out / VIDEO_PATH.format(video_key=camera, **index), list(episodes["video"].iloc[numbers]))
    with atomic_path(out / ROWS) as temporary, pq.ParquetWriter(temporary, tables[0].schema) as writer:
        for table in tables:  # each episode is a row group, as the library writes them
            writer.write_table(table)
        writer.close()  # before the file is renamed
    levels, statistics = np.zeros((3, len(LEVELS)), int), []
    for video, table in zip(with_progress(videos, "writing", len(videos), "episode"), tables, strict=True):
        counts = count_levels(read_video(video))
        levels += counts
        statistics.append(_statistics(table, counts, camera))
    tasks = tasks.drop_duplicates().set_index("task")  # as the library reads it: the text is the index
    with atomic_path(out / "meta" / "tasks.parquet") as temporary:
        tasks.to_parquet(temporary)
    with atomic_path(out / EPISODES) as temporary:
        _episode_table(episodes, places, statistics, camera, fps).to_parquet(temporary, index=False)
    write_json(out / "meta" / "stats.json", _statistics(pa.concat_tables(tables), levels, camera))
    write_json(out / INFO, _info(coded, len(tasks), features, camera, fps))


# --- videos/ ---


def read_coded(path: Path) -> Coded:
    """The properties of an episode's file, as `data.video.write_video` writes it."""
    with open_video(path) as container:
        stream = video_stream(container)
        frames = sum(packet.size > 0 for packet in container.demux(stream))
        codec = stream.codec_context
        coding = (bytes(codec.extradata or b""), (codec.height, codec.width), stream.average_rate, stream.time_base)
        return Coded(frames, path.stat().st_size, coding)


def place_episodes(coded: Sequence[Coded], limit: int = VIDEO_MB * 2**20) -> pd.DataFrame:
    """The place of each episode: a new video file begins where one would be too large, or the coding changes.

    Args:
        limit: bytes of a video file.

    Returns:
        one row per episode: its number of frames, its video file, and its first frame in it.
    """
    places = []
    file = first = size = 0
    before = coded[0]
    for episode in coded:
        if size and (size + episode.size > limit or episode.coding != before.coding):
            file, first, size = file + 1, 0, 0
        places.append((episode.frames, file, first))
        first, size, before = first + episode.frames, size + episode.size, episode
    return pd.DataFrame(places, columns=["frames", "video_file", "first"])


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


def _frame_tables(
    coded: Sequence[Coded], features: Mapping[str, Feature], fps: float, tasks: Sequence[int]
) -> list[pa.Table]:
    """The rows of each episode, one per frame."""
    tables, index = [], 0
    for number, episode in enumerate(coded):
        frames = np.arange(episode.frames)
        columns: dict[str, pa.Array] = {}
        for name, feature in features.items():
            columns[name] = pa.array(feature.values[number].ravel())
            if len(feature.names) > 1:  # the library reads a feature of one value as a plain number
                columns[name] = pa.FixedSizeListArray.from_arrays(columns[name], len(feature.names))
        columns["timestamp"] = pa.array((frames / fps).astype(np.float32))
        columns["frame_index"] = pa.array(frames)
        columns["episode_index"] = pa.array(np.full_like(frames, number))
        columns["index"] = pa.array(index + frames)
        columns["task_index"] = pa.array(np.full_like(frames, tasks[number]))
        tables.append(pa.table(columns))
        index += len(frames)
    return tables


# --- meta/ ---


def count_levels(frames: np.ndarray) -> np.ndarray:
    """How often each level occurs in each channel of uint8 (T, H, W, 3): int64 (3, 256)."""
    return np.stack([np.bincount(frames[..., channel].ravel(), minlength=256) for channel in range(3)])


def feature_statistics(values: np.ndarray, counts: np.ndarray | None = None) -> dict[str, np.ndarray]:
    """The statistics of a feature, each of shape (A,).

    Args:
        values: (A, T).
        counts: how often each value occurs, (A, T); None: once. With counts, quantiles are values that occur.
    """
    mean = np.average(values, axis=1, weights=counts)
    variance = np.average((values - mean[:, None]) ** 2, axis=1, weights=counts)
    probabilities = list(QUANTILES.values())
    if counts is None:
        quantiles = np.quantile(values, probabilities, axis=1)
    else:
        quantiles = np.quantile(values, probabilities, axis=1, weights=counts, method="inverted_cdf")
    return {"mean": mean, "std": np.sqrt(variance), **dict(zip(QUANTILES, quantiles, strict=True))}


def _statistics(table: pa.Table, levels: np.ndarray, camera: str) -> dict[str, JsonObject]:
    """The statistics of every feature: of the pictures in [0, 1] with shape (3, 1, 1), of numbers with shape (A,).

    Args:
        table: rows of frames.
        levels: sum of `count_levels` of these frames.
    """
    statistics: dict[str, JsonObject] = {camera: {}}
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
    episodes: pd.DataFrame,
    places: pd.DataFrame,
    statistics: Sequence[Mapping[str, JsonObject]],
    camera: str,
    fps: float,
) -> pd.DataFrame:
    """The table of episodes."""
    stop, last = places["frames"].cumsum(), places["first"] + places["frames"]
    table = pd.DataFrame(
        {
            "episode_index": range(len(episodes)),
            "tasks": [[task] for task in episodes["task"]],
            "length": places["frames"],
            "data/chunk_index": 0,
            "data/file_index": 0,
            "dataset_from_index": stop - places["frames"],
            "dataset_to_index": stop,
            f"videos/{camera}/chunk_index": places["video_file"] // CHUNK,
            f"videos/{camera}/file_index": places["video_file"] % CHUNK,
            f"videos/{camera}/from_timestamp": places["first"] / fps,
            f"videos/{camera}/to_timestamp": last / fps,
            "meta/episodes/chunk_index": 0,
            "meta/episodes/file_index": 0,
        }
    )
    table = table.join(episodes.drop(columns=["video", "task"]))
    for feature, values in statistics[0].items():
        for name in values:
            table[f"stats/{feature}/{name}"] = [of_episode[feature][name] for of_episode in statistics]
    return table


def _info(coded: Sequence[Coded], tasks: int, features: Mapping[str, Feature], camera: str, fps: float) -> JsonObject:
    """The content of meta/info.json."""
    height, width = coded[0].coding[1]
    if float(fps).is_integer():
        fps = int(fps)
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
    content: JsonObject = {camera: {"dtype": "video", **shape, "info": video}}
    for name, feature in features.items():
        content[name] = {"dtype": "float32", "shape": [len(feature.names)], "names": feature.names}
    for name, kind in NUMBERS.items():
        content[name] = {"dtype": kind, "shape": [1], "names": None}
    return {
        "codebase_version": "v3.0",
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
        "features": content,
    }
