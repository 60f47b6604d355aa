"""Readers: from a folder on disk to clips and test pairs. They list every problem they see and invent nothing."""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cosmos_exp.errors import UserError

VIDEO_ENDS = (".mp4", ".mov", ".mkv", ".avi", ".webm")
IMAGE_ENDS = (".png", ".jpg", ".jpeg")


@dataclass(frozen=True)
class Clip:
    """One training video. `seconds` is the (start, end) of the episode in a file that holds several."""

    name: str
    path: Path
    prompt: str
    seconds: tuple[float, float] | None = None


@dataclass(frozen=True)
class TestPair:
    """A first frame and a prompt. `image` is a picture file, or a clip of which the first frames are taken."""

    __test__ = False  # not a test class

    name: str
    prompt: str
    image: Path | Clip


@dataclass
class Episodes:
    """What a reader found. `problems` name the file and the mend; `notes` are worth saying but no fault."""

    clips: list[Clip] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read_episodes(data: Any, folder: Path) -> Episodes:
    """List the clips of `folder` with the reader that `data.reader` names.

    Raises:
        UserError: the folder is not there or is not of that layout.
    """
    if not folder.is_dir():
        raise UserError(f"data.path={folder}: there is no such folder")
    return {"folder": _folder, "gr1_100": _gr1, "lerobot": _lerobot}[data.reader](data, folder)


def guess_reader(folder: Path) -> str:
    """Which reader fits a folder: lerobot, gr1_100, else folder."""
    if (folder / "meta" / "info.json").is_file():
        return "lerobot"
    return "gr1_100" if (folder / "metadata.csv").is_file() else "folder"


def _text(path: Path, found: Episodes) -> str | None:
    try:
        text = path.read_text(encoding="utf-8").strip()
    except UnicodeDecodeError as error:
        found.problems.append(f"{path}: is not UTF-8 text (byte {error.start}); save it as UTF-8")
        return None
    except OSError as error:
        found.problems.append(f"{path}: cannot be read ({error.strerror})")
        return None
    if not text:
        found.problems.append(f"{path}: the caption is empty; write one or remove the video")
        return None
    return text


def _videos(folder: Path, found: Episodes) -> list[Path]:
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder; expected videos/*.mp4 with metas/*.txt or captions/*.json")
    paths: list[Path] = []
    stems: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in VIDEO_ENDS:
            continue
        try:
            path.resolve(strict=True)
        except (OSError, RuntimeError):
            found.problems.append(f"{path}: a link that leads nowhere or in a circle; remove or mend it")
            continue
        if path.stem in stems:
            found.problems.append(f"{path}: same name as {stems[path.stem].name}; one caption cannot serve both")
            continue
        stems[path.stem] = path
        paths.append(path)
    return paths


def _json_caption(path: Path, data: Any, found: Episodes) -> str | None:
    text = _text(path, found)
    if text is None:
        return None
    try:
        captions = json.loads(text)
        model = data.caption_model or next(iter(captions))
        lengths = captions[model]
        length = data.caption_length or next(k for k in ("long", "short", "medium", *lengths) if k in lengths)
        caption = lengths[length]
    except (ValueError, KeyError, TypeError, StopIteration) as error:
        found.problems.append(
            f"{path}: no caption of model {data.caption_model or '(first)'}, length {data.caption_length or '(first)'}"
            f" ({type(error).__name__}: {error}); set data.caption_model and data.caption_length to what is there"
        )
        return None
    if not isinstance(caption, str) or not caption.strip():
        found.problems.append(f"{path}: the caption is empty; write one or remove the video")
        return None
    return caption.strip()


def _folder(data: Any, folder: Path) -> Episodes:
    found = Episodes()
    paths = _videos(folder / "videos", found)
    as_json = (folder / "captions").is_dir()
    captions, end = (folder / "captions", ".json") if as_json else (folder / "metas", ".txt")
    for path in paths:
        caption = captions / (path.stem + end)
        if not caption.exists():
            found.problems.append(f"{path}: has no caption; expected {caption}")
            continue
        text = _json_caption(caption, data, found) if as_json else _text(caption, found)
        if text is not None:
            found.clips.append(Clip(path.stem, path, data.prompt_prefix + text))
    return found


def _gr1(data: Any, folder: Path) -> Episodes:
    """metadata.csv (file name, prompt) beside gr1/*.mp4 or videos/*.mp4, as nvidia/GR1-100 comes."""
    table = folder / "metadata.csv"
    if not table.is_file():
        raise UserError(
            f"{folder}: no metadata.csv; data.reader=gr1_100 needs it (data=folder for videos with captions)"
        )
    found = Episodes()
    videos = next((folder / n for n in ("videos", "gr1") if (folder / n).is_dir()), folder / "videos")
    prompts: dict[str, str] = {}
    with open(table, newline="", encoding="utf-8") as file:
        for number, row in enumerate(csv.reader(file)):
            if number and len(row) >= 2:
                prompts[Path(row[0]).stem] = ",".join(row[1:]).strip()
            elif number and row:
                found.problems.append(f"{table}, line {number + 1}: expected file name and prompt")
    paths = _videos(videos, found)
    for path in paths:
        prompt = prompts.get(path.stem)
        if not prompt:
            found.problems.append(f"{path}: has no prompt in {table}; add a line for it or remove the video")
        else:
            found.clips.append(Clip(path.stem, path, data.prompt_prefix + prompt))
    for stem in sorted(set(prompts) - {p.stem for p in paths}):
        found.problems.append(f"{table}: names {stem}, but {videos} holds no such video")
    return found


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


def read_test_pairs(folder: Path, problems: list[str]) -> list[TestPair]:
    """NAME.png (or .jpg) with NAME.txt, sorted by name; what is wrong is appended to `problems`.

    Raises:
        UserError: the folder is not there.
    """
    if not folder.is_dir():
        raise UserError(f"data.test_path={folder}: there is no such folder")
    found, pairs = Episodes(), []
    images = [p for p in sorted(folder.iterdir()) if p.suffix.lower() in IMAGE_ENDS]
    for image in images:
        caption = image.with_suffix(".txt")
        if not caption.exists():
            found.problems.append(f"{image}: has no prompt; expected {caption}")
            continue
        text = _text(caption, found)
        if text is not None:
            pairs.append(TestPair(image.stem, text, image))
    if not images:
        found.problems.append(f"{folder}: holds no test pairs (NAME.png with NAME.txt)")
    problems += found.problems
    return pairs
