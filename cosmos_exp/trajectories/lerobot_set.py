"""Write a LeRobot v3.0 data set from finished videos.

The layout and the columns are those of the `lerobot` library (0.4 to 0.6), which is no dependency: it pins other versions of
torch and numpy. benchmarks/check_lerobot_set.py opens a set with the library itself.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from cosmos_exp.data.video import read_video
from cosmos_exp.files import JsonObject, atomic_path, write_json
from cosmos_exp.tracking.progress import with_progress
from cosmos_exp.trajectories.shards import Coded, Place, place_episodes, read_coded, write_shard
from cosmos_exp.trajectories.statistics import Statistics, count_levels, picture_statistics, vector_statistics

VERSION = "v3.0"
CHUNK = 1000  # files in a folder
DATA_MB, VIDEO_MB = 100, 200
DATA_BYTES = DATA_MB * 2**20
PATTERN = "chunk-{chunk_index:03d}/file-{file_index:03d}"
DATA_PATH, VIDEO_PATH = f"data/{PATTERN}.parquet", "videos/{video_key}/" + PATTERN + ".mp4"
EPISODES_PATH = "meta/episodes/chunk-000/file-000.parquet"
INFO = Path("meta") / "info.json"
PARTS = ("meta", "data", "videos")  # what a set consists of
NUMBERS = {
    "timestamp": "float32",
    "frame_index": "int64",
    "episode_index": "int64",
    "index": "int64",
    "task_index": "int64",
}


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


def write_set(out: Path, episodes: Sequence[Episode], layout: Layout, show: bool = True) -> None:
    """Write the set in place of one that is there. The same episodes give the same bytes.

    meta/info.json comes last: a set that was not completed cannot be opened.
    """
    for part in (INFO, *PARTS):
        path = out / part
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    coded = [read_coded(e.video) for e in episodes]
    places = place_episodes(coded)
    _write_videos(out, episodes, places, layout.camera)
    tasks = list(dict.fromkeys(e.task for e in episodes))
    tables = _data_tables(episodes, coded, tasks, layout)
    files = _place_tables(tables)
    _write_data(out, tables, files)
    levels = [
        count_levels(read_video(e.video)) for e in with_progress(episodes, "writing", len(episodes), "episode", show)
    ]
    statistics = [_statistics([own], levels[k : k + 1], layout.camera) for k, own in enumerate(tables)]
    _write_tasks(out / "meta" / "tasks.parquet", tasks)
    rows = _episode_rows(episodes, coded, places, files, statistics, layout)
    _write_table(out / EPISODES_PATH, pa.Table.from_pylist(rows, _episode_schema(statistics[0], layout)))
    write_json(out / "meta" / "stats.json", _statistics(tables, levels, layout.camera))
    write_json(out / INFO, _info(coded, tasks, layout))


def _write_videos(out: Path, episodes: Sequence[Episode], places: Sequence[Place], camera: str) -> None:
    for file in range(places[-1].file + 1):
        own = [e.video for e, place in zip(episodes, places, strict=True) if place.file == file]
        write_shard(out / VIDEO_PATH.format(video_key=camera, **_chunk(file)), own)


def _chunk(file: int) -> dict[str, int]:
    return {"chunk_index": file // CHUNK, "file_index": file % CHUNK}


# --- data/ ---
def _data_tables(
    episodes: Sequence[Episode], coded: Sequence[Coded], tasks: Sequence[str], layout: Layout
) -> list[pa.Table]:
    """The rows of each episode, one per frame."""
    tables, index = [], 0
    for k, (episode, own) in enumerate(zip(episodes, coded, strict=True)):
        frames = np.arange(own.frames)
        columns: dict[str, pa.Array] = {}
        if layout.actions:
            assert episode.actions is not None
            flat = pa.array(episode.actions.ravel(), pa.float32())
            many = len(layout.actions) > 1  # the library reads a feature of one value as a plain number
            columns["action"] = pa.FixedSizeListArray.from_arrays(flat, len(layout.actions)) if many else flat
        columns["timestamp"] = pa.array((frames / layout.fps).astype(np.float32))
        columns["frame_index"] = pa.array(frames)
        columns["episode_index"] = pa.array(np.full(own.frames, k))
        columns["index"] = pa.array(index + frames)
        columns["task_index"] = pa.array(np.full(own.frames, tasks.index(episode.task)))
        tables.append(pa.table(columns))
        index += own.frames
    return tables


def _place_tables(tables: Sequence[pa.Table]) -> list[int]:
    """The number of the file of each episode's rows."""
    files, file, size = [], 0, 0
    for k, table in enumerate(tables):
        if k and size + table.nbytes > DATA_BYTES:
            file, size = file + 1, 0
        files.append(file)
        size += table.nbytes
    return files


def _write_data(out: Path, tables: Sequence[pa.Table], files: Sequence[int]) -> None:
    """Write the rows; each episode is a row group of its own, as the library writes them."""
    for file in range(files[-1] + 1):
        own = [t for t, f in zip(tables, files, strict=True) if f == file]
        with (
            atomic_path(out / DATA_PATH.format(**_chunk(file))) as temporary,
            pq.ParquetWriter(temporary, own[0].schema, compression="snappy") as writer,
        ):
            for table in own:
                writer.write_table(table)
            writer.close()  # before the file is renamed


# --- meta/ ---
def _statistics(tables: Sequence[pa.Table], levels: Sequence[np.ndarray], camera: str) -> dict[str, Statistics]:
    """The statistics of every feature over some episodes."""
    found = {camera: picture_statistics(np.sum(levels, axis=0), sum(t.num_rows for t in tables))}
    for name in tables[0].column_names:
        columns = [t.column(name).combine_chunks() for t in tables]
        rows = [c.flatten() if pa.types.is_fixed_size_list(c.type) else c for c in columns]
        values = [r.to_numpy().reshape(len(c), -1) for r, c in zip(rows, columns, strict=True)]
        found[name] = vector_statistics(values)
    return found


def _write_tasks(path: Path, tasks: Sequence[str]) -> None:
    """The table of tasks. The library reads it with pandas and expects the text as the index, which the metadata declare."""
    table = pa.table({"task_index": pa.array(range(len(tasks)), pa.int64()), "task": pa.array(tasks, pa.string())})
    column = {"metadata": None, "field_name": "task", "name": "task", "numpy_type": "object", "pandas_type": "unicode"}
    number = {**column, "field_name": "task_index", "name": "task_index", "numpy_type": "int64", "pandas_type": "int64"}
    header = {"field_name": None, "name": None, "numpy_type": "object", "pandas_type": "unicode"}
    pandas = {
        "index_columns": ["task"],
        "column_indexes": [{**header, "metadata": {"encoding": "UTF-8"}}],
        "columns": [number, column],
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.0.0",
    }
    _write_table(path, table.replace_schema_metadata({"pandas": json.dumps(pandas)}))


def _episode_rows(
    episodes: Sequence[Episode],
    coded: Sequence[Coded],
    places: Sequence[Place],
    files: Sequence[int],
    statistics: Sequence[Mapping[str, Statistics]],
    layout: Layout,
) -> list[JsonObject]:
    """The rows of the table of episodes."""
    rows, first = [], 0
    for k, (episode, own, place) in enumerate(zip(episodes, coded, places, strict=True)):
        video, last = f"videos/{layout.camera}/", first + own.frames
        row: JsonObject = {"episode_index": k, "tasks": [episode.task], "length": own.frames}
        row |= {f"data/{key}": value for key, value in _chunk(files[k]).items()}
        row |= {"dataset_from_index": first, "dataset_to_index": last}
        row |= {video + key: value for key, value in _chunk(place.file).items()}
        row[video + "from_timestamp"] = place.first / layout.fps
        row[video + "to_timestamp"] = (place.first + own.frames) / layout.fps
        row |= {"meta/episodes/chunk_index": 0, "meta/episodes/file_index": 0}
        row |= {name: episode.notes.get(name) for name in layout.columns}
        row |= {f"stats/{f}/{s}": value for f, own in statistics[k].items() for s, value in own.items()}
        rows.append(row)
        first = last
    return rows


def _episode_schema(statistics: Mapping[str, Statistics], layout: Layout) -> pa.Schema:
    """The types of the table of episodes: also right for a column without any value."""
    whole, text, real = pa.int64(), pa.string(), pa.float64()
    video = f"videos/{layout.camera}/"
    fields = [("episode_index", whole), ("tasks", pa.list_(text)), ("length", whole)]
    fields += [(f"data/{key}", whole) for key in _chunk(0)]
    fields += [("dataset_from_index", whole), ("dataset_to_index", whole)]
    fields += [(video + key, whole) for key in _chunk(0)]
    fields += [(video + "from_timestamp", real), (video + "to_timestamp", real)]
    fields += [("meta/episodes/chunk_index", whole), ("meta/episodes/file_index", whole)]
    fields += [(name, {str: text, int: whole, float: real}[kind]) for name, kind in layout.columns.items()]
    for feature, own in statistics.items():
        for name in own:
            nested = feature == layout.camera and name != "count"
            kind = pa.list_(pa.list_(pa.list_(real))) if nested else pa.list_(whole if name == "count" else real)
            fields.append((f"stats/{feature}/{name}", kind))
    return pa.schema(fields)


def _write_table(path: Path, table: pa.Table) -> None:
    with atomic_path(path) as temporary:
        pq.write_table(table, temporary, compression="snappy")


def _info(coded: Sequence[Coded], tasks: Sequence[str], layout: Layout) -> JsonObject:
    """The content of meta/info.json."""
    height, width = coded[0].shape
    fps = int(layout.fps) if float(layout.fps).is_integer() else layout.fps
    video = {"video.height": height, "video.width": width, "video.codec": "h264", "video.pix_fmt": "yuv420p"}
    video |= {"video.is_depth_map": False, "video.fps": fps, "video.channels": 3, "has_audio": False}
    names = ["height", "width", "channels"]
    features: JsonObject = {
        layout.camera: {"dtype": "video", "shape": [height, width, 3], "names": names, "info": video}
    }
    if layout.actions:
        features["action"] = {"dtype": "float32", "shape": [len(layout.actions)], "names": list(layout.actions)}
    features |= {name: {"dtype": kind, "shape": [1], "names": None} for name, kind in NUMBERS.items()}
    return {
        "codebase_version": VERSION,
        "robot_type": None,
        "total_episodes": len(coded),
        "total_frames": sum(c.frames for c in coded),
        "total_tasks": len(tasks),
        "chunks_size": CHUNK,
        "data_files_size_in_mb": DATA_MB,
        "video_files_size_in_mb": VIDEO_MB,
        "fps": fps,
        "splits": {"train": f"0:{len(coded)}"},
        "data_path": DATA_PATH,
        "video_path": VIDEO_PATH,
        "features": features,
    }
