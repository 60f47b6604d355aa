"""The data of a run: found, looked at as a whole, split by the seed, fingerprinted; windows chosen and decoded."""

from __future__ import annotations

import hashlib
import importlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cosmos_exp.data.episodes import Clip, Episodes, TestPair, read_episodes, read_test_pairs
from cosmos_exp.data.video import VideoInfo, decode, probe, read_image, resize
from cosmos_exp.draws import generator
from cosmos_exp.errors import RunError, UserError
from cosmos_exp.run_folder import atomic_path


@dataclass(frozen=True)
class CheckedClip:
    """A clip that was looked at: `start`, `stop` are its frames in the file, `sha256` the file's content."""

    clip: Clip
    info: VideoInfo
    start: int
    stop: int
    sha256: str


@dataclass
class Dataset:
    """What a run trains and tests on. `left_out` holds the problems that data.skip_bad=true let pass."""

    train: list[CheckedClip]
    validation: list[CheckedClip]
    pairs: list[TestPair]
    left_out: list[str]
    notes: list[str]
    fingerprint: str
    held_out: dict[str, CheckedClip] = field(default_factory=dict)


def locate(config: Any) -> tuple[Path, Path | None]:
    """The folders of training data and test pairs; makes or fetches what is not there.

    Raises:
        UserError: nothing says where the data is, or it cannot be fetched.
    """
    data = config.data
    for name in ("path", "test_path"):
        if getattr(data, name) and not Path(getattr(data, name)).is_dir():
            raise UserError(f"data.{name}={getattr(data, name)}: there is no such folder")
    if data.path:
        return Path(data.path), Path(data.test_path) if data.test_path else None
    if data.builder:
        module, _, name = data.builder.rpartition(".")
        folder, tests = getattr(importlib.import_module(module), name)(config, cache_root(config))
        return folder, Path(data.test_path) if data.test_path else tests
    if data.reader == "gr1_100":
        return _fetch_gr1(data)
    raise UserError("data.path: where is the data? Give data.path=DIR")


def _fetch_gr1(data: Any) -> tuple[Path, Path | None]:
    from cosmos_exp.hub import fetch

    folder = fetch(data.repo_id, None, "dataset", "data.path=DIR (and data.test_path=DIR)")
    if data.test_path:
        return folder, Path(data.test_path)
    tests = fetch(data.test_repo_id, None, "dataset", "data.test_path=DIR") / "gr1_object"
    return folder, tests


def cache_root(config: Any) -> Path:
    """data and latents shared by runs: `cache_dir`, else COSMOS_EXP_CACHE, else ~/.cache/cosmos_exp."""
    return Path(config.cache_dir or os.environ.get("COSMOS_EXP_CACHE") or "~/.cache/cosmos_exp").expanduser()


def frames_needed(data: Any, info: VideoInfo) -> int:
    """Source frames that a window of data.num_frames spans at data.fps."""
    if data.fps is None:
        return data.num_frames
    return int(np.floor((data.num_frames - 1) * info.fps / data.fps + 0.5)) + 1


def look_at(clip: Clip, data: Any) -> CheckedClip:
    """Probe one clip and decode its first and last frame.

    Raises:
        RunError: what is wrong with it and how to mend it.
    """
    if clip.path.stat().st_size == 0:
        raise RunError(f"{clip.path}: is empty (0 bytes); copy it again")
    info = probe(clip.path)
    if info.declared_frames and info.num_frames < info.declared_frames:
        raise RunError(
            f"{clip.path}: is truncated, {info.num_frames} of {info.declared_frames} frames are there; copy it again"
        )
    start, stop = 0, info.num_frames
    if clip.seconds is not None:
        start, stop = info.frame_at(clip.seconds[0]), min(info.frame_at(clip.seconds[1] - 1 / info.fps) + 1, stop)
    if info.width % 2 or info.height % 2:
        raise RunError(f"{clip.path}: odd size {info.width}x{info.height}; re-encode it with even sides")
    need = frames_needed(data, info)
    if stop - start < need:
        raise RunError(
            f"{clip.path}: {clip.name} has {stop - start} frames, {need} are needed "
            f"(data.num_frames={data.num_frames}, data.fps={data.fps}); shorten the window or leave it out"
        )
    decode(clip.path, [start], info)
    decode(clip.path, [stop - 1], info)
    return CheckedClip(clip, info, start, stop, file_sha256(clip.path))


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, 64 hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def inspect(
    data: Any, folder: Path, tests: Path | None, progress: Any = None
) -> tuple[Episodes, list[CheckedClip], list[TestPair]]:
    """Look at everything and collect every problem; raise for none of them."""
    found = read_episodes(data, folder)
    checked = []
    for clip in progress(found.clips) if progress else found.clips:
        try:
            checked.append(look_at(clip, data))
        except (RunError, OSError) as error:
            found.problems.append(str(error))
    pairs = read_test_pairs(tests, found.problems) if tests else []
    for pair in pairs:
        try:
            read_image(pair.image)  # type: ignore[arg-type]
        except RunError as error:
            found.problems.append(str(error))
    return found, checked, pairs


def load_dataset(config: Any, progress: Any = None) -> Dataset:
    """Locate, look at, split.

    Raises:
        RunError: bad files (unless data.skip_bad), or nothing left to train on.
    """
    data = config.data
    folder, tests = locate(config)
    found, checked, pairs = inspect(data, folder, tests, progress)
    if found.problems and not data.skip_bad:
        listed = "\n  ".join(found.problems)
        raise RunError(
            f"{len(found.problems)} problems in {folder}:\n  {listed}\nMend them, or leave them out with data.skip_bad=true."
        )
    bad_images = {p.split(":")[0] for p in found.problems}
    pairs = [p for p in pairs if str(p.image) not in bad_images]
    order = generator(config.seed, "split").permutation(len(checked))
    held = data.validation_videos + data.test_videos
    if len(checked) <= held:
        raise RunError(f"{folder}: {len(checked)} good videos, {held} of them held out; nothing is left to train on")
    validation = [checked[i] for i in sorted(order[: data.validation_videos])]
    test = [checked[i] for i in sorted(order[data.validation_videos : held])]
    train = [checked[i] for i in sorted(order[held:])]
    if not pairs:
        pairs = [TestPair(c.clip.name, c.clip.prompt, c.clip) for c in test]
    digest = hashlib.sha256()
    for c in train + validation + test:
        digest.update(f"{c.clip.name}\0{c.sha256}\0{c.start}\0{c.stop}\0{c.clip.prompt}\n".encode())
    return Dataset(
        train,
        validation,
        pairs,
        list(found.problems),
        found.notes,
        digest.hexdigest()[:16],
        {c.clip.name: c for c in test},
    )


def window_indices(checked: CheckedClip, data: Any, start: int) -> list[int]:
    """Source frame numbers of the window that begins `start` frames into the clip, at data.fps (nearest frame)."""
    step = 1.0 if data.fps is None else checked.info.fps / data.fps
    return [checked.start + start + int(np.floor(k * step + 0.5)) for k in range(data.num_frames)]


def window_starts(checked: CheckedClip, data: Any, seed: int) -> list[int]:
    """Where the cached windows of a clip begin: distinct, drawn by the seed and the clip's content, ascending."""
    room = checked.stop - checked.start - frames_needed(data, checked.info) + 1
    count = min(data.windows_per_video, room)
    rng = generator(seed, "windows", int(checked.sha256[:12], 16) + checked.start)
    return sorted(int(i) for i in rng.choice(room, size=count, replace=False))


def load_window(checked: CheckedClip, data: Any, start: int) -> np.ndarray:
    """Decode one window: uint8 (num_frames, height, width, 3), RGB."""
    frames = decode(checked.clip.path, window_indices(checked, data, start), checked.info)
    return resize(frames, data.height, data.width, data.resize)


def pair_frames(pair: TestPair, dataset: Dataset | None, data: Any, count: int) -> np.ndarray:
    """The given frames of a test pair: uint8 (count, height, width, 3).

    Raises:
        UserError: more than one frame is asked of a picture.
    """
    if isinstance(pair.image, Path):
        if count > 1:
            raise UserError(
                "generation.mode=video2world needs held-out clips; set data.test_videos and no data.test_path"
            )
        return resize(read_image(pair.image)[None], data.height, data.width, data.resize)
    assert dataset is not None, "a clip's frames come from the run's data"
    return load_window(dataset.held_out[pair.name], data, 0)[:count]


def save_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
