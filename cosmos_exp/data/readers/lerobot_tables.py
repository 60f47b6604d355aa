"""The tables of a LeRobot data set: meta/info.json, the list of episodes, and where each camera's video of one is."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from cosmos_exp.data.readers.lerobot_checks import Row, check_info, good_episodes
from cosmos_exp.errors import UserError
from cosmos_exp.files import JsonObject, inside_by_name

# v2.0 and v2.1: one file per episode and camera. v3.0 and v3.1: several episodes in one file, listed in parquet tables.
# v2.1 adds statistics per episode and v3.1 language columns to data/, neither of which is read here.
VERSIONS = ("v2.0", "v2.1", "v3.0", "v3.1")

# Where meta/info.json has no video_path.
V2_VIDEO_PATH = "videos/chunk-{episode_chunk:03d}/{video_key}/episode_{episode_index:06d}.mp4"
V3_VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"


@dataclass(frozen=True)
class LeRobot:
    """A LeRobot folder.

    info: content of meta/info.json. version: one of VERSIONS.
    problems: records of episodes that cannot be used; filled when `episodes` is read.
    """

    folder: Path
    info: JsonObject
    version: str
    problems: list[str] = field(default_factory=list)

    @property
    def cameras(self) -> list[str]:
        """Features of type video."""
        return [name for name, f in self.info.get("features", {}).items() if f.get("dtype") == "video"]

    def declared_size(self, camera: str) -> tuple[int, int] | None:
        """Height and width that meta/info.json states for a camera; None: it states none."""
        feature = self.info["features"][camera]
        sizes = dict(zip(feature.get("names") or (), feature.get("shape") or (), strict=False))
        if not (sizes.get("height") and sizes.get("width")):
            return None
        return int(sizes["height"]), int(sizes["width"])

    @cached_property
    def episodes(self) -> list[JsonObject]:
        """One record per episode, with at least `episode_index` and `tasks`."""
        rows = _read_v3_episodes(self.folder) if self.version.startswith("v3") else _read_v2_episodes(self.folder)
        return good_episodes(rows, self.problems)

    def declared_video(self, episode: JsonObject, camera: str) -> Path:
        """Where meta/info.json says that the episode's video is."""
        index, column = episode["episode_index"], f"videos/{camera}/"
        if episode.get(column + "file_index") is not None:
            values = {k: episode[column + k] for k in ("chunk_index", "file_index")}
            default = V3_VIDEO_PATH
        else:
            values = {"episode_chunk": index // self.info.get("chunks_size", 1000), "episode_index": index}
            default = V2_VIDEO_PATH
        try:
            return inside_by_name(
                self.folder, (self.info.get("video_path") or default).format(video_key=camera, **values)
            )
        except ValueError as error:
            raise UserError(f"{self.folder / 'meta' / 'info.json'}: video_path: {error}; correct it") from error
        except KeyError as missing:  # v3, but this camera has no entry for the episode
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
        """Start and end of the episode in its file; None (v2): the file holds one episode."""
        column = f"videos/{camera}/"
        if episode.get(column + "file_index") is None:
            return None
        return float(episode[column + "from_timestamp"]), float(episode[column + "to_timestamp"])


def open_lerobot(folder: Path) -> LeRobot:
    """Read meta/info.json.

    Raises:
        UserError: it is missing or not JSON, or its codebase_version is not one of VERSIONS.
    """
    path = folder / "meta" / "info.json"
    if not path.is_file():
        raise UserError(f"{folder}: no meta/info.json; is it a LeRobot data set ({', '.join(VERSIONS)})?")
    try:
        info = dict(json.loads(path.read_text(encoding="utf-8-sig")))
    except (ValueError, TypeError, RecursionError) as error:
        raise UserError(f"{path}: not a JSON object ({error}); copy it again") from error
    version = _check_version(path, info)
    check_info(path, info)
    return LeRobot(folder, info, version)


def _check_version(path: Path, info: JsonObject) -> str:
    """`v3.0` of `v3.0`, `3.0` or `v3.0.0`."""
    text = str(info.get("codebase_version", "missing"))
    found = re.fullmatch(r"v?(\d+\.\d+)(\.\d+)?", text.strip())
    version = f"v{found[1]}" if found else text
    if version in VERSIONS:
        return version
    if version.startswith("v1."):
        fix = "convert it with the lerobot library's convert_dataset scripts"
    else:
        fix = "convert it to one of these with the lerobot library, or correct the entry if it is wrong"
    raise UserError(f"{path}: codebase_version is {text}; {', '.join(VERSIONS)} are supported; {fix}")


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
            rows += [(f"{file}, row {i}", row) for i, row in enumerate(pq.read_table(file).to_pylist())]
        except (
            OSError,
            pa.ArrowException,
            ValueError,
            OverflowError,
        ) as error:  # text that is not UTF-8, dates beyond 9999
            raise UserError(f"{file}: cannot be read as parquet ({str(error)[:80]}); copy it again") from error
    return sorted(rows, key=_order)


def _order(row: Row) -> tuple[int, int]:
    """By episode number; records without one come last."""
    index = row[1].get("episode_index") if isinstance(row[1], dict) else None
    return (0, index) if isinstance(index, int) else (1, 0)
