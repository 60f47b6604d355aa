"""Reader `lerobot`: LeRobot data sets, v2.x (one file per episode) and v3.0 (several episodes in one file)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from cosmos_exp.config.schema import Data
from cosmos_exp.data.readers.records import Clip, Episodes
from cosmos_exp.errors import UserError
from cosmos_exp.files import JsonObject

# Where meta/info.json has no video_path.
V2_VIDEO_PATH = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
V3_VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"


def read_lerobot(data: Data, folder: Path) -> Episodes:
    """List the episodes that data.episodes selects, seen from data.camera.

    Raises:
        UserError: not a LeRobot data set, an episode that does not exist, or an unclear camera.
    """
    found = Episodes()
    dataset = LeRobot(folder, _read_info(folder))
    camera = _choose_camera(dataset, data.camera, found.notes)
    misplaced = 0
    for episode in _select_episodes(dataset, data.episodes):
        path = dataset.video(episode, camera)
        misplaced += path.is_file() and path != dataset.declared_video(episode, camera)
        clip = _read_clip(data, dataset, episode, camera, found)
        if clip:
            found.clips.append(clip)
    if misplaced:
        found.notes.append(
            f"{misplaced} videos are not where video_path in meta/info.json says; they were found by episode number"
        )
    return found


@dataclass(frozen=True)
class LeRobot:
    """A LeRobot folder. `info` is the content of meta/info.json."""

    folder: Path
    info: JsonObject

    @property
    def cameras(self) -> list[str]:
        """Features of type video."""
        return [name for name, f in self.info.get("features", {}).items() if f.get("dtype") == "video"]

    @cached_property
    def episodes(self) -> list[JsonObject]:
        """One record per episode, with at least `episode_index` and `tasks`."""
        is_v3 = str(self.info.get("codebase_version", "")).startswith("v3")
        return _read_v3_episodes(self.folder) if is_v3 else _read_v2_episodes(self.folder)

    def declared_video(self, episode: JsonObject, camera: str) -> Path:
        """Where meta/info.json says that the episode's video is."""
        index, column = episode["episode_index"], f"videos/{camera}/"
        if column + "file_index" in episode:
            values = {k: episode[column + k] for k in ("chunk_index", "file_index")}
            default = V3_VIDEO_PATH
        else:
            values = {"episode_chunk": index // self.info.get("chunks_size", 1000), "episode_index": index}
            default = V2_VIDEO_PATH
        try:
            return self.folder / (self.info.get("video_path") or default).format(video_key=camera, **values)
        except KeyError as missing:  # v3.0, but this camera has no entry for the episode
            return self.folder / "videos" / camera / f"episode_{index:06d} (no {missing} in meta/episodes)"

    def video(self, episode: JsonObject, camera: str) -> Path:
        """The episode's video file; it may not exist."""
        path = self.declared_video(episode, camera)
        if path.is_file() or self.seconds(episode, camera):
            return path
        # Real data sets declare one layout and use another; the file name under the camera's folder is unique.
        elsewhere = sorted(self.folder.glob(f"videos/*/{camera}/episode_{episode['episode_index']:06d}.mp4"))
        return elsewhere[0] if len(elsewhere) == 1 else path

    def seconds(self, episode: JsonObject, camera: str) -> tuple[float, float] | None:
        """Start and end of the episode in its file; None (v2.x): the file holds one episode."""
        column = f"videos/{camera}/"
        if column + "file_index" not in episode:
            return None
        return float(episode[column + "from_timestamp"]), float(episode[column + "to_timestamp"])


def _read_info(folder: Path) -> JsonObject:
    path = folder / "meta" / "info.json"
    if not path.is_file():
        raise UserError(f"{folder}: no meta/info.json; is it a LeRobot data set (v2.x or v3.0)?")
    return dict(json.loads(path.read_text()))


def _read_v2_episodes(folder: Path) -> list[JsonObject]:
    path = folder / "meta" / "episodes.jsonl"
    if not path.is_file():
        raise UserError(f"{path}: missing; a LeRobot v2 data set lists its episodes there")
    rows = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
    return [{"tasks": r.get("tasks", []), **r} for r in rows]


def _read_v3_episodes(folder: Path) -> list[JsonObject]:
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


def _select_episodes(dataset: LeRobot, numbers: list[int] | None) -> list[JsonObject]:
    """The episodes with these numbers; None: all."""
    if numbers is None:
        return dataset.episodes
    absent = sorted(set(numbers) - {e["episode_index"] for e in dataset.episodes})
    if absent:
        raise UserError(
            f"data.episodes: {absent} are not in {dataset.folder} (it has {len(dataset.episodes)} episodes)"
        )
    return [e for e in dataset.episodes if e["episode_index"] in numbers]


def _choose_camera(dataset: LeRobot, camera: str | None, notes: list[str]) -> str:
    """data.camera, or the only camera that has files."""
    cameras = dataset.cameras
    if not cameras:
        raise UserError(f"{dataset.folder}: meta/info.json declares no video feature")
    with_files = [c for c in cameras if any(dataset.video(e, c).is_file() for e in dataset.episodes)]
    notes += [f"camera {c} is declared in meta/info.json but has no files" for c in cameras if c not in with_files]
    if camera is not None:
        if camera not in cameras:
            raise UserError(f"data.camera={camera}: not in {dataset.folder}; choose one of {', '.join(cameras)}")
        return camera
    if len(with_files) != 1:
        raise UserError(
            f"{dataset.folder} has {len(with_files)} cameras with files; set data.camera={'|'.join(with_files or cameras)}"
        )
    return with_files[0]


def _read_clip(data: Data, dataset: LeRobot, episode: JsonObject, camera: str, found: Episodes) -> Clip | None:
    """The episode as a clip, its first task as the prompt. None: the reason is in `found.problems`."""
    name = f"episode_{episode['episode_index']:06d}"
    tasks = [t for t in episode["tasks"] if t.strip() and t not in data.skip_tasks]
    path = dataset.video(episode, camera)
    if not tasks:
        found.problems.append(
            f"{dataset.folder}, {name}: no task text left (tasks {episode['tasks']}, data.skip_tasks {list(data.skip_tasks)})"
        )
        return None
    if not path.is_file():
        found.problems.append(f"{path}: the video of {name} is missing")
        return None
    if len(tasks) > 1:
        found.notes.append(
            f"{name}: has {len(tasks)} tasks, the first is its prompt; exclude others with data.skip_tasks"
        )
    return Clip(name, path, data.prompt_prefix + tasks[0], dataset.seconds(episode, camera))
