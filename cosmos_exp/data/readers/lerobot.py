"""Reader `lerobot`: the episodes of a LeRobot data set, seen from one camera or from several that are tiled."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path

from cosmos_exp.config.schema import Data
from cosmos_exp.config.tiling import tile_size, tiling_of
from cosmos_exp.data.readers.captions import default_prompt
from cosmos_exp.data.readers.lerobot_images import image_video
from cosmos_exp.data.readers.lerobot_meta import Episode, LeRobot, open_lerobot
from cosmos_exp.data.readers.records import Clip, Episodes, Footage
from cosmos_exp.errors import RunError, UserError


def read_lerobot(data: Data, folder: Path) -> Episodes:
    """List the episodes that data.episodes selects, seen from data.camera or data.cameras.

    Raises:
        UserError: not a LeRobot data set of a known version, an episode that does not exist, or an unclear camera.
    """
    dataset = open_lerobot(folder)
    result, listed = Episodes([], dataset.problems), len(dataset.episodes)
    if not listed:
        result.problems = result.problems or [f"{folder / 'meta'}: lists no episodes; download the data set again"]
        return result
    cameras = _choose_cameras(dataset, data)
    stated = dataset.info.total_episodes
    if stated not in (None, listed + len(dataset.problems)):
        result.notes.append(f"meta/info.json states {stated} episodes, meta/ lists {listed}; is it complete?")
    if data.cameras:
        tiling, (height, width) = tiling_of(data), tile_size(data)
        result.notes.append(
            f"{len(data.cameras)} cameras tiled {tiling} in a frame of {data.height}x{data.width} (height x width): "
            f"{', '.join(tiling.names)}; {height}x{width} pixels each"
        )
    counted = {camera: _count_frames(dataset, camera) for camera in cameras}
    others = Counter[float]()
    for episode in _select_episodes(dataset, data.episodes):
        fps = dataset.rates.get(episode.episode_index, dataset.info.fps)
        others[fps] += abs(fps - dataset.info.fps) > 0.01 * fps
        try:
            result.clips.append(_clip(data, dataset, episode, fps, counted, result.notes))
        except RunError as error:
            result.problems.append(str(error))
    for fps, count in (+others).items():
        result.notes.append(
            f"meta/info.json states {dataset.info.fps:g} fps, the timestamps of {count} episodes {fps:g}; they count"
        )
    result.problems += _overlaps(result.clips)
    return result


def _select_episodes(dataset: LeRobot, numbers: list[int] | None) -> list[Episode]:
    """The episodes with these numbers; None: all."""
    if numbers is None:
        return dataset.episodes
    absent = sorted(set(numbers) - {episode.episode_index for episode in dataset.episodes})
    if absent:
        raise UserError(
            f"data.episodes: {absent} are not in {dataset.folder} (it has {len(dataset.episodes)} episodes). Leave them out of data.episodes."
        )
    return [episode for episode in dataset.episodes if episode.episode_index in numbers]


def _choose_cameras(dataset: LeRobot, data: Data) -> list[str]:
    """data.cameras, or data.camera, or the only camera that has files."""
    cameras, with_files = dataset.cameras, []
    for camera in cameras:
        if dataset.has_images(camera) or any(dataset.video(e, camera).is_file() for e in dataset.episodes):
            with_files.append(camera)
    wanted, key = list(data.cameras), "cameras"
    if data.camera:
        wanted, key = [data.camera], "camera"
    absent = sorted(set(wanted) - set(cameras))
    if absent:
        raise UserError(f"data.{key}={','.join(absent)}: not in {dataset.folder}; choose from {', '.join(cameras)}")
    if not wanted and len(with_files) != 1:
        raise UserError(
            f"{dataset.folder} has {len(with_files)} cameras with files; set data.camera={'|'.join(with_files or cameras)}, or "
            "tile several with data.cameras=[NAME,NAME]"
        )
    return wanted or with_files


Counted = dict[int, tuple[int, int, int]]


def _count_frames(dataset: LeRobot, camera: str) -> Counted:
    """`Footage.counted` of each episode: lerobot adds up rounded durations, so that late timestamps may be a frame off."""
    files: dict[tuple[int, int], list[tuple[float, int, int]]] = defaultdict(list)
    counted: Counted = {}
    for episode in dataset.episodes:
        place = episode.videos.get(camera)
        if place and episode.length:
            entry = (place.from_timestamp, episode.episode_index, episode.length)
            files[place.chunk_index, place.file_index].append(entry)
    for listed in files.values():
        start, total = 0, sum(length for _, _, length in listed)
        for _, number, length in sorted(listed):
            counted[number] = (start, start + length, total)
            start += length
    return counted


def _clip(
    data: Data, dataset: LeRobot, episode: Episode, fps: float, cameras: Mapping[str, Counted], notes: list[str]
) -> Clip:
    """The episode as a clip, its first task as the prompt.

    Raises:
        RunError: it has no task or lacks a video.
    """
    name, footage = episode.name, []
    listed = dataset.task_texts(episode.episode_index) if episode.tasks is None else episode.tasks
    tasks = [task for task in listed if task.strip() and task not in data.skip_tasks]
    prompt = tasks[0] if tasks else default_prompt(data, name)
    if prompt is None and not listed:
        raise RunError(
            f"{dataset.folder}, {name}: meta/ lists no tasks of it, and data/ has no table with its task_index; copy the "
            "folder data/ (and meta/tasks.parquet or tasks.jsonl) again, or set data.prompt"
        )
    if prompt is None:
        raise RunError(
            f"{dataset.folder}, {name}: no task text left (tasks {listed}, data.skip_tasks {list(data.skip_tasks)}); "
            "write one in meta/, or set data.prompt"
        )
    if len(tasks) > 1:
        notes.append(f"{name}: has {len(tasks)} tasks, the first is its prompt; exclude others with data.skip_tasks")
    for camera in cameras:
        if dataset.has_images(camera):
            footage.append(Footage(image_video(dataset, camera, episode.episode_index)))
            continue
        path, place = dataset.video(episode, camera), episode.videos.get(camera)
        if not path.is_file():
            raise RunError(f"{path}: the video of {name} is missing")
        seconds = (place.from_timestamp, place.to_timestamp) if place else None
        footage.append(Footage(path, seconds, cameras[camera].get(episode.episode_index)))
    return Clip(name, footage[0].path, data.prompt_prefix + prompt, tuple(footage), episode.length, fps)


def _overlaps(clips: Iterable[Clip]) -> list[str]:
    """Episodes that show the same frames of one file."""
    spans: dict[Path, list[tuple[float, float, str]]] = defaultdict(list)
    for clip in clips:
        start, end = clip.footage[0].seconds or (0.0, math.inf)
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
