"""Reader `lerobot`: the episodes of a LeRobot data set, seen from one camera or from several that are tiled."""

from __future__ import annotations

from pathlib import Path

from cosmos_exp.config.schema import Data
from cosmos_exp.config.tiling import describe_tiles, tile_size, tiling_of
from cosmos_exp.data.readers.caption_tables import default_prompt
from cosmos_exp.data.readers.lerobot_checks import overlaps
from cosmos_exp.data.readers.lerobot_tables import LeRobot, open_lerobot
from cosmos_exp.data.readers.records import Clip, Episodes, Footage
from cosmos_exp.errors import UserError
from cosmos_exp.files import JsonObject

STRETCHED = 1.2  # a change of the aspect ratio beyond this is noted


def read_lerobot(data: Data, folder: Path) -> Episodes:
    """List the episodes that data.episodes selects, seen from data.camera or data.cameras.

    Raises:
        UserError: not a LeRobot data set of a known version, an episode that does not exist, or an unclear camera.
    """
    found = Episodes()
    dataset = open_lerobot(folder)
    if not dataset.episodes:
        found.problems += dataset.problems or [f"{folder / 'meta'}: lists no episodes; download the data set again"]
        return found
    cameras = _choose_cameras(dataset, data, found.notes)
    found.problems += dataset.problems
    stated = dataset.info.get("total_episodes", len(dataset.episodes))
    if stated != len(dataset.episodes) + len(dataset.problems):
        found.notes.append(
            f"meta/info.json states {stated} episodes, meta/ lists {len(dataset.episodes)}; is it complete?"
        )
    found.notes += [*describe_tiles(data), *_stretch_notes(dataset, data)]
    misplaced = 0
    for episode in _select_episodes(dataset, data.episodes):
        for camera in cameras:
            path = dataset.video(episode, camera)
            misplaced += path.is_file() and path != dataset.declared_video(episode, camera)
        clip = _read_clip(data, dataset, episode, cameras, found)
        if clip:
            found.clips.append(clip)
    found.problems += overlaps((c.name, c.path, c.seconds) for c in found.clips)
    if misplaced:
        found.notes.append(
            f"{misplaced} videos are not where video_path in meta/info.json says; they were found by episode number"
        )
    return found


def _select_episodes(dataset: LeRobot, numbers: list[int] | None) -> list[JsonObject]:
    """The episodes with these numbers; None: all."""
    if numbers is None:
        return dataset.episodes
    absent = sorted(set(numbers) - {e["episode_index"] for e in dataset.episodes})
    if absent:
        raise UserError(
            f"data.episodes: {absent} are not in {dataset.folder} (it has {len(dataset.episodes)} episodes). Leave them out of data.episodes."
        )
    return [e for e in dataset.episodes if e["episode_index"] in numbers]


def _choose_cameras(dataset: LeRobot, data: Data, notes: list[str]) -> list[str]:
    """data.cameras, or data.camera, or the only camera that has files."""
    cameras = dataset.cameras
    if not cameras:
        raise UserError(f"{dataset.folder}: meta/info.json declares no video feature. Use a data set with videos.")
    with_files = [c for c in cameras if any(dataset.video(e, c).is_file() for e in dataset.episodes)]
    notes += [f"camera {c} is declared in meta/info.json but has no files" for c in cameras if c not in with_files]
    key, wanted = ("cameras", list(data.cameras)) if data.cameras else ("camera", [data.camera] if data.camera else [])
    absent = [c for c in wanted if c not in cameras]
    if absent:
        raise UserError(f"data.{key}={','.join(absent)}: not in {dataset.folder}; choose from {', '.join(cameras)}")
    if wanted:
        return wanted
    if len(with_files) != 1:
        raise UserError(
            f"{dataset.folder} has {len(with_files)} cameras with files; set data.camera={'|'.join(with_files or cameras)}"
            f"{', or tile several with data.cameras=[NAME,NAME]' if len(with_files) > 1 else ''}"
        )
    return with_files


def _stretch_notes(dataset: LeRobot, data: Data) -> list[str]:
    """A note on each tiled camera whose pictures change shape by more than STRETCHED, and a frame width that keeps it."""
    notes: list[str] = []
    for camera in data.cameras if data.resize == "stretch" else ():
        size, (height, width) = dataset.declared_size(camera), tile_size(data)
        stretch = (height / width) / (size[0] / size[1]) if size else 1.0
        if size and max(stretch, 1 / stretch) > STRETCHED:
            wanted = tiling_of(data).columns * height * size[1] / size[0]
            notes.append(
                f"{camera}: pictures of {size[0]}x{size[1]} are stretched to tiles of {height}x{width}; "
                f"data.width={max(16, round(wanted / 16) * 16)} nearly keeps their shape, data.resize=crop cuts them"
            )
    return notes


def _read_clip(data: Data, dataset: LeRobot, episode: JsonObject, cameras: list[str], found: Episodes) -> Clip | None:
    """The episode as a clip, its first task as the prompt. None: the reason is in `found.problems`."""
    name = f"episode_{episode['episode_index']:06d}"
    tasks = [t for t in episode["tasks"] if t.strip() and t not in data.skip_tasks]
    fallback = default_prompt(data, Path(name))
    if not tasks and fallback:
        tasks = [fallback]
    if not tasks:
        found.problems.append(
            f"{dataset.folder}, {name}: no task text left (tasks {episode['tasks']}, data.skip_tasks {list(data.skip_tasks)}); "
            "write one in meta/, or set data.prompt"
        )
        return None
    footage = [Footage(dataset.video(episode, c), dataset.seconds(episode, c)) for c in cameras]
    missing = [f"{f.path}: the video of {name} is missing" for f in footage if not f.path.is_file()]
    if missing:
        found.problems += missing
        return None
    if len(tasks) > 1:
        found.notes.append(
            f"{name}: has {len(tasks)} tasks, the first is its prompt; exclude others with data.skip_tasks"
        )
    first, *others = footage
    return Clip(name, first.path, data.prompt_prefix + tasks[0], first.seconds, tuple(others), episode.get("length"))
