"""The data of a run: found, looked at as a whole, split by the seed, fingerprinted; windows chosen and decoded."""

from __future__ import annotations

import hashlib
import importlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cosmos_exp.config.paths import cache_root
from cosmos_exp.data.clips import CheckedClip, probe_clip
from cosmos_exp.data.readers.pairs import read_test_pairs
from cosmos_exp.data.readers.records import Episodes, TestPair
from cosmos_exp.data.readers.registry import read_episodes
from cosmos_exp.data.video import read_image, resize
from cosmos_exp.data.windows import load_window
from cosmos_exp.errors import RunError, UserError
from cosmos_exp.rng import generator


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


def inspect(
    data: Any, folder: Path, tests: Path | None, progress: Any = None
) -> tuple[Episodes, list[CheckedClip], list[TestPair]]:
    """Look at everything and collect every problem; raise for none of them."""
    found = read_episodes(data, folder)
    checked = []
    for clip in progress(found.clips) if progress else found.clips:
        try:
            checked.append(probe_clip(clip, data))
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
