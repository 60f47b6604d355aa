"""The data set of a run: every file inspected, split by the seed, fingerprinted."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from cosmos_exp.config.schema import Config, Data
from cosmos_exp.data.clips import CheckedClip, probe_clip
from cosmos_exp.data.location import ensure_data
from cosmos_exp.data.pair_frames import check_pair
from cosmos_exp.data.readers.pairs import read_test_pairs
from cosmos_exp.data.readers.records import Clip, TestPair
from cosmos_exp.data.readers.registry import read_episodes
from cosmos_exp.errors import RunError
from cosmos_exp.rng import generator

Progress = Callable[[list[Clip]], Iterable[Clip]]  # wraps a list in a progress bar


@dataclass
class Inspection:
    """What a folder holds: good clips and test pairs, one line for each bad file, and notes that are no fault."""

    clips: list[CheckedClip]
    pairs: list[TestPair]
    problems: list[str]
    notes: list[str]


@dataclass
class Dataset:
    """What a run trains and tests on.

    left_out: the problems that data.skip_bad=true accepted.
    fingerprint: 16 hex digits over names, contents, frame ranges and prompts.
    held_out: the clips behind test pairs that come from the training data, by name.
    """

    train: list[CheckedClip]
    validation: list[CheckedClip]
    pairs: list[TestPair]
    left_out: list[str]
    notes: list[str]
    fingerprint: str
    held_out: dict[str, CheckedClip] = field(default_factory=dict)


def inspect_data(data: Data, folder: Path, tests: Path | None, progress: Progress | None = None) -> Inspection:
    """Inspect every file and collect every problem.

    Args:
        folder, tests: of the training data and of the test pairs.

    Raises:
        UserError: a folder does not exist or has another layout. A bad file raises nothing.
    """
    found = read_episodes(data, folder)
    checked = []
    for clip in progress(found.clips) if progress else found.clips:
        try:
            checked.append(probe_clip(clip, data))
        except (RunError, OSError) as error:
            found.problems.append(str(error))
    found.notes += [c.note for c in checked if c.note]
    pairs = read_test_pairs(tests, found.problems) if tests else []
    for pair in pairs:
        try:
            check_pair(pair, data)
        except RunError as error:
            found.problems.append(str(error))
    return Inspection(checked, pairs, found.problems, found.notes)


def load_dataset(config: Config, progress: Progress | None = None) -> Dataset:
    """The run's data, rendered or downloaded if needed, inspected and split.

    Raises:
        RunError: bad files (unless data.skip_bad=true), or nothing left to train on.
    """
    folder, tests = ensure_data(config)
    found = inspect_data(config.data, folder, tests, progress)
    if found.problems and not config.data.skip_bad:
        listed = "\n  ".join(found.problems)
        raise RunError(
            f"{len(found.problems)} problems in {folder}:\n  {listed}\n"
            "Fix these files, or leave them out with data.skip_bad=true."
        )
    bad_images = {p.split(":")[0] for p in found.problems}
    pairs = [p for p in found.pairs if str(p.image) not in bad_images]
    train, validation, test = _split(config, found.clips, folder)
    if not pairs:
        pairs = [TestPair(c.clip.name, c.clip.prompt, c.clip) for c in test]
    fingerprint = _fingerprint(train + validation + test)
    held_out = {c.clip.name: c for c in test}
    return Dataset(train, validation, pairs, list(found.problems), found.notes, fingerprint, held_out)


def _split(config: Config, clips: list[CheckedClip], folder: Path) -> tuple[list[CheckedClip], ...]:
    """Training, validation and test clips; which clip goes where follows from the seed."""
    data = config.data
    order = generator(config.seed, "split").permutation(len(clips))
    held = data.validation_videos + data.test_videos
    if len(clips) <= held:
        raise RunError(
            f"{folder}: {len(clips)} good videos, {held} of them held out; nothing is left to train on. "
            "Lower data.validation_videos or data.test_videos."
        )
    parts = order[held:], order[: data.validation_videos], order[data.validation_videos : held]
    return tuple([clips[i] for i in sorted(part)] for part in parts)


def _fingerprint(clips: list[CheckedClip]) -> str:
    digest = hashlib.sha256()
    for c in clips:
        digest.update(f"{c.clip.name}\0{c.sha256}\0{c.start}\0{c.stop}\0{c.clip.prompt}\n".encode())
    return digest.hexdigest()[:16]
