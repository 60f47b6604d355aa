"""Readers: from a folder on disk to clips and test pairs. They list every problem they see and invent nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from cosmos_exp.data.readers.records import Clip, Episodes
from cosmos_exp.errors import UserError


def _lerobot(data: Any, folder: Path) -> Episodes:
    info_file = folder / "meta" / "info.json"
    if not info_file.is_file():
        raise UserError(f"{folder}: no meta/info.json; is it a LeRobot data set (v2.x or v3.0)?")
    info = json.loads(info_file.read_text())
    features = info.get("features", {})
    cameras = [name for name, f in features.items() if f.get("dtype") == "video"]
    found = Episodes()
    version = str(info.get("codebase_version", ""))
    rows = _lerobot_v3_rows(folder) if version.startswith("v3") else _lerobot_v2_rows(folder)
    camera = _camera(data, folder, info, cameras, rows, found)
    misplaced = 0
    wanted = set(data.episodes) if data.episodes is not None else None
    if wanted is not None and wanted - {r["episode_index"] for r in rows}:
        absent = sorted(wanted - {r["episode_index"] for r in rows})
        raise UserError(f"data.episodes: {absent} are not in {folder} (it has {len(rows)} episodes)")
    for row in rows:
        if wanted is not None and row["episode_index"] not in wanted:
            continue
        name = f"episode_{row['episode_index']:06d}"
        tasks = [t for t in row["tasks"] if t.strip() and t not in data.skip_tasks]
        path, seconds = _lerobot_file(folder, info, row, camera)
        misplaced += path.is_file() and path != _lerobot_declared(folder, info, row, camera)
        if not tasks:
            found.problems.append(
                f"{folder}, {name}: no task text left (tasks {row['tasks']}, data.skip_tasks {list(data.skip_tasks)})"
            )
        elif not path.is_file():
            found.problems.append(f"{path}: the video of {name} is missing")
        else:
            if len(tasks) > 1:
                found.notes.append(
                    f"{name}: has {len(tasks)} tasks, the first is its prompt; drop others by data.skip_tasks"
                )
            found.clips.append(Clip(name, path, data.prompt_prefix + tasks[0], seconds))
    if misplaced:
        found.notes.append(
            f"{misplaced} videos do not lie where meta/info.json's video_path says; found by episode number"
        )
    return found


def _camera(data: Any, folder: Path, info: dict, cameras: list[str], rows: list[dict], found: Episodes) -> str:
    if not cameras:
        raise UserError(f"{folder}: meta/info.json declares no video feature")
    with_files = [c for c in cameras if any(_lerobot_file(folder, info, r, c)[0].is_file() for r in rows)]
    for camera in cameras:
        if camera not in with_files:
            found.notes.append(f"camera {camera} is declared in meta/info.json but has no files")
    if data.camera is not None:
        if data.camera not in cameras:
            raise UserError(f"data.camera={data.camera}: not in {folder}; there are {', '.join(cameras)}")
        return data.camera
    if len(with_files) != 1:
        raise UserError(
            f"{folder} has {len(with_files)} cameras with files; choose data.camera={'|'.join(with_files or cameras)}"
        )
    return with_files[0]


def _lerobot_v2_rows(folder: Path) -> list[dict]:
    path = folder / "meta" / "episodes.jsonl"
    if not path.is_file():
        raise UserError(f"{path}: is missing; a LeRobot v2 data set lists its episodes there")
    rows = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    return [{"tasks": r.get("tasks", []), **r} for r in rows]


def _lerobot_v3_rows(folder: Path) -> list[dict]:
    import pyarrow.parquet as pq

    files = sorted((folder / "meta" / "episodes").rglob("*.parquet"))
    if not files:
        raise UserError(
            f"{folder / 'meta' / 'episodes'}: no parquet files; a LeRobot v3.0 data set lists its episodes there"
        )
    rows = [row for file in files for row in pq.read_table(file).to_pylist()]
    for row in rows:
        row["tasks"] = list(row.get("tasks") or [])
    return sorted(rows, key=lambda r: r["episode_index"])


def _lerobot_file(folder: Path, info: dict, row: dict, camera: str) -> tuple[Path, tuple[float, float] | None]:
    """The video file of an episode, and where in it the episode lies (v3.0 puts several into one file)."""
    at = f"videos/{camera}/"
    path = _lerobot_declared(folder, info, row, camera)
    if at + "file_index" in row:
        return path, (float(row[at + "from_timestamp"]), float(row[at + "to_timestamp"]))
    if not path.is_file():
        # Real sets declare one layout and hold another; the episode's own file name under the camera settles it.
        elsewhere = sorted(folder.glob(f"videos/*/{camera}/episode_{row['episode_index']:06d}.mp4"))
        path = elsewhere[0] if len(elsewhere) == 1 else path
    return path, None


def _lerobot_declared(folder: Path, info: dict, row: dict, camera: str) -> Path:
    """Where meta/info.json says that the video lies."""
    index, at = row["episode_index"], f"videos/{camera}/"
    if at + "file_index" in row:
        words = {"chunk_index": row[at + "chunk_index"], "file_index": row[at + "file_index"]}
        default = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
    else:
        words = {"episode_chunk": index // info.get("chunks_size", 1000), "episode_index": index}
        default = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
    try:
        return folder / (info.get("video_path") or default).format(video_key=camera, **words)
    except KeyError as missing:  # v3.0, but this camera has no entry for the episode
        return folder / "videos" / camera / f"episode_{index:06d} (no {missing} in meta/episodes)"
