"""Reader `lerobot`: the episodes of a LeRobot data set, seen from one camera or from several that are tiled."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

from cosmos_exp.config.schema import Data
from cosmos_exp.config.tiling import describe_tiles, tile_size, tiling_of
from cosmos_exp.data.readers.lerobot_meta import Episode, LeRobot, open_lerobot
from cosmos_exp.data.readers.records import Clip, Episodes, Footage, default_prompt
from cosmos_exp.errors import UserError

STRETCHED = 1.2  # a change of the aspect ratio beyond this is noted


def read_lerobot(data: Data, folder: Path) -> Episodes:
    """List the episodes that data.episodes selects, seen from data.camera or data.cameras.

    Raises:
        UserError: not a LeRobot data set of a known version, an episode that does not exist, or an unclear camera.
    """
    result, dataset = Episodes(), open_lerobot(folder)
    if not dataset.episodes:
        result.problems += dataset.problems or [f"{folder / 'meta'}: lists no episodes; download the data set again"]
        return result
    cameras = _choose_cameras(dataset, data, result.notes)
    result.problems += dataset.problems
    stated, listed = dataset.info.total_episodes, len(dataset.episodes)
    if stated is not None and stated != listed + len(dataset.problems):
        result.notes.append(f"meta/info.json states {stated} episodes, meta/ lists {listed}; is it complete?")
    result.notes += [*describe_tiles(data), *_stretch_notes(dataset, data)]
    misplaced = 0
    for episode in _select_episodes(dataset, data.episodes):
        footage = []
        for camera in cameras:
            path, place = dataset.video(episode, camera), episode.videos.get(camera)
            misplaced += path.is_file() and path != dataset.declared_video(episode, camera)
            footage.append(Footage(path, (place.from_timestamp, place.to_timestamp) if place else None))
        clip = _read_clip(data, folder, episode, footage, result)
        if clip:
            result.clips.append(clip)
    result.problems += _overlaps(result.clips)
    if misplaced:
        result.notes.append(
            f"{misplaced} videos are not where video_path in meta/info.json says; they were found by episode number"
        )
    return result


def _select_episodes(dataset: LeRobot, numbers: list[int] | None) -> list[Episode]:
    """The episodes with these numbers; None: all."""
    if numbers is None:
        return dataset.episodes
    wanted = set(numbers)
    selected = [episode for episode in dataset.episodes if episode.episode_index in wanted]
    if len(selected) < len(wanted):
        absent = sorted(wanted - {episode.episode_index for episode in selected})
        raise UserError(
            f"data.episodes: {absent} are not in {dataset.folder} (it has {len(dataset.episodes)} episodes). Leave them out of data.episodes."
        )
    return selected


def _choose_cameras(dataset: LeRobot, data: Data, notes: list[str]) -> list[str]:
    """data.cameras, or data.camera, or the only camera that has files."""
    cameras, with_files = dataset.cameras, []
    if not cameras:
        raise UserError(f"{dataset.folder}: meta/info.json declares no video feature. Use a data set with videos.")
    for camera in cameras:
        if any(dataset.video(episode, camera).is_file() for episode in dataset.episodes):
            with_files.append(camera)
        else:
            notes.append(f"camera {camera} is declared in meta/info.json but has no files")
    wanted, key = list(data.cameras), "cameras"
    if not wanted and data.camera:
        wanted, key = [data.camera], "camera"
    absent = [camera for camera in wanted if camera not in cameras]
    if absent:
        raise UserError(f"data.{key}={','.join(absent)}: not in {dataset.folder}; choose from {', '.join(cameras)}")
    if wanted:
        return wanted
    if len(with_files) != 1:
        raise UserError(
            f"{dataset.folder} has {len(with_files)} cameras with files; set data.camera={'|'.join(with_files or cameras)}, or "
            "tile several with data.cameras=[NAME,NAME]"
        )
    return with_files


def _stretch_notes(dataset: LeRobot, data: Data) -> list[str]:
    """A note on each tiled camera whose pictures change shape by more than STRETCHED, and a frame width that keeps it."""
    notes: list[str] = []
    for camera in data.cameras:
        size, (height, width) = dataset.declared_size(camera), tile_size(data)
        if size is None or data.resize != "stretch":
            continue
        stretch = (height / width) / (size[0] / size[1])
        if max(stretch, 1 / stretch) > STRETCHED:
            wanted = tiling_of(data).columns * height * size[1] / size[0]
            notes.append(
                f"{camera}: pictures of {size[0]}x{size[1]} are stretched to tiles of {height}x{width}; "
                f"data.width={max(16, round(wanted / 16) * 16)} nearly keeps their shape, data.resize=crop cuts them"
            )
    return notes


def _read_clip(data: Data, folder: Path, episode: Episode, footage: list[Footage], result: Episodes) -> Clip | None:
    """The episode as a clip, its first task as the prompt. None: the reason is in the result's problems."""
    name = episode.name
    tasks = [task for task in episode.tasks if task.strip() and task not in data.skip_tasks]
    fallback = default_prompt(data, Path(name))
    if not tasks and fallback:
        tasks = [fallback]
    if not tasks:
        result.problems.append(
            f"{folder}, {name}: no task text left (tasks {episode.tasks}, data.skip_tasks {list(data.skip_tasks)}); "
            "write one in meta/, or set data.prompt"
        )
        return None
    missing = [f"{camera.path}: the video of {name} is missing" for camera in footage if not camera.path.is_file()]
    if missing:
        result.problems += missing
        return None
    if len(tasks) > 1:
        result.notes.append(
            f"{name}: has {len(tasks)} tasks, the first is its prompt; exclude others with data.skip_tasks"
        )
    first, *others = footage
    return Clip(name, first.path, data.prompt_prefix + tasks[0], first.seconds, tuple(others), episode.length)


def _overlaps(clips: Iterable[Clip]) -> list[str]:
    """Episodes that show the same frames of one file."""
    spans: dict[Path, list[tuple[float, float, str]]] = defaultdict(list)
    for clip in clips:
        start, end = clip.seconds or (0.0, math.inf)
        spans[clip.path].append((start, end, clip.name))
    problems = []
    for path, episodes in spans.items():
        for (_, end, a), (start, _, b) in pairwise(sorted(episodes)):
            if start < end - 0.02:  # timestamps are rounded; a frame lasts longer
                problems.append(
                    f"{path}: {a} and {b} share frames ({start:g} s is before {end:g} s); they could be in training and "
                    "validation at once. Correct their timestamps or video_path in meta/, or leave one out with data.episodes"
                )
    return problems
