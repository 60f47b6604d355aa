"""The data set of a run: found or fetched, every file inspected, split by a seed, fingerprinted."""

from __future__ import annotations

import hashlib
from collections import defaultdict, deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cosmos_exp import hub
from cosmos_exp.config.paths import cache_root
from cosmos_exp.config.registry import DATA_BUILDERS
from cosmos_exp.config.schema import Config, Data
from cosmos_exp.data.clips import CheckedClip
from cosmos_exp.data.files import Progress, without_progress
from cosmos_exp.data.inspection import SELECTION, inspect_data
from cosmos_exp.data.pairs import check_pair, read_test_pairs
from cosmos_exp.data.readers.records import TestPair
from cosmos_exp.data.scenes import probes, recording_of, scene_names
from cosmos_exp.errors import RunError, UserError
from cosmos_exp.hub import Location
from cosmos_exp.rng import generator

GR1_TEST_FOLDER = "gr1_object"  # the test pairs inside data.test_repo_id
TENTH = 10
MOST_VALIDATION, MOST_TEST = 32, 50  # videos that are held out without a setting
KEPT_NAME = "kept~"  # before the name of a pair of the base's own domain


@dataclass
class Dataset:
    """What a run trains and tests on.

    pairs: the prompts of generation.split.
    tested: the pairs that the run generates and scores, the first generation.max_prompts of them.
    probes: tested pairs with a swapped word (data.swaps), which are generated but scored by word_effect only.
    kept: pairs of the base's own domain (data.kept_prompts), which are scored by kept only.
    test, selection: names of all pairs of either kind, whatever the run generates.
    left_out: the problems that data.skip_bad=true accepted.
    fingerprint: 16 hex digits over names, contents, frame ranges and prompts.
    clips: number of good clips in the data, held-out ones too.
    """

    train: list[CheckedClip]
    validation: list[CheckedClip]
    pairs: list[TestPair]
    left_out: list[str]
    notes: list[str]
    fingerprint: str
    clips: int
    test: list[str]
    selection: list[str]
    tested: list[TestPair]
    probes: list[TestPair]
    kept: list[TestPair]


def load_dataset(config: Config, progress: Progress = without_progress) -> Dataset:
    """The run's data, rendered or downloaded if needed, inspected and split.

    Raises:
        RunError: bad files (unless data.skip_bad=true).
        UserError: nothing is left to train on.
    """
    data, generation = config.data, config.generation
    folder, tests = ensure_data(config)
    inspection = inspect_data(data, folder, tests, progress, cache=cache_root(config))
    if inspection.problems and not data.skip_bad:
        listed = "\n  ".join(inspection.problems)
        raise RunError(
            f"{len(inspection.problems)} problems in {folder}:\n  {listed}\n"
            "Fix these files, or leave them out with data.skip_bad=true."
        )
    counts = hold_out(data, len(inspection.clips), bool(tests), folder)
    train, validation, test, selection = split_clips(config, inspection.clips, counts)
    test_pairs, selection_pairs = _pairs_of(test), _pairs_of(selection)
    if tests:
        test_pairs, selection_pairs = split_pairs(inspection.pairs, inspection.selection, config, tests)
        bad = {problem.split(":")[0] for problem in inspection.problems}
        for pairs in (test_pairs, selection_pairs):
            pairs[:] = [pair for pair in pairs if str(pair.image) not in bad]
    generated = {"test": test_pairs, "selection": selection_pairs, "none": []}[generation.split]
    tested = generated[: generation.max_prompts]
    if counts.note:
        inspection.notes.append(counts.note)
    return Dataset(
        train,
        validation,
        generated,
        inspection.problems,
        inspection.notes,
        _fingerprint(train + validation + test + selection),
        len(inspection.clips),
        [p.name for p in test_pairs],
        [p.name for p in selection_pairs],
        tested,
        probes(tested, data.swaps) if config.measures.words else [],
        kept_prompts(config),
    )


def kept_prompts(config: Config) -> list[TestPair]:
    """The pairs of the base's own domain: of data.kept_prompts, or rendered with human hands.

    Raises:
        UserError: the folder does not exist.
        RunError: one of them is bad.
    """
    data = config.data
    if config.generation.split != "test" or not (data.kept_prompts or data.kept_pairs):
        return []
    folder = Path(data.kept_prompts or "")
    if not data.kept_prompts:
        human = {
            "data.look": "human",
            "data.train_clips": 0,
            "data.test_pairs": data.kept_pairs,
            "data.selection_pairs": 0,
        }
        folder = DATA_BUILDERS.get(data.builder)(config.updated(human), cache_root(config))[1]
    if not folder.is_dir():
        raise UserError(f"data.kept_prompts={folder}: no such folder. Give one that exists.")
    problems: list[str] = []
    pairs = read_test_pairs(folder, problems)
    if problems:
        raise RunError("data.kept_prompts: " + "\n  ".join(problems))
    for pair in pairs:
        check_pair(pair, data)
    return [replace(pair, name=f"{KEPT_NAME}{pair.name}") for pair in pairs]


def _pairs_of(clips: Iterable[CheckedClip]) -> list[TestPair]:
    return [TestPair(c.clip.name, c.clip.prompt, c) for c in clips]


def _fingerprint(clips: Iterable[CheckedClip]) -> str:
    digest = hashlib.sha256()
    for c in clips:
        digest.update(f"{c.clip.name}\0{c.sha256}\0{c.start}\0{c.stop}\0{c.clip.prompt}\n".encode())
    return digest.hexdigest()[:16]


# --- where the data is: a folder, a builder that renders it, or a hub data set ---


def find_data(config: Config) -> Location:
    """Where the training data is. Downloads and renders nothing.

    Returns:
        a path if the training data and the test pairs are on this machine, else what the run will do to get them.

    Raises:
        UserError: no setting names the data, or one names a folder or a function that does not exist.
    """
    data = config.data
    _check_settings(data)
    if data.path:
        return Location(Path(data.path), data.path)
    if data.builder:
        DATA_BUILDERS.get(data.builder)
        return Location(None, f"rendered by {data.builder} on first use, under {cache_root(config) / 'data'}")
    location = hub.locate_repository(str(data.repo_id), None, "dataset")
    if location.path and not data.test_path:
        tests = hub.locate_repository(str(data.test_repo_id), None, "dataset")
        return location if tests.path else tests
    return location


def ensure_data(config: Config) -> tuple[Path, Path | None]:
    """The folders of training data and test pairs, rendered or downloaded if needed.

    Returns:
        the second is None if there are no test pairs on disk; data.test_videos then holds clips out.

    Raises:
        UserError: as `find_data`, or the download fails.
    """
    data = config.data
    _check_settings(data)
    tests = Path(data.test_path) if data.test_path else None
    if data.path:
        return Path(data.path), tests
    if data.builder:
        folder, rendered = DATA_BUILDERS.get(data.builder)(config, cache_root(config))
        return folder, tests or rendered
    folder = hub.fetch(str(data.repo_id), None, "dataset", "data.path=DIR (and data.test_path=DIR)")
    if tests is None:
        tests = hub.fetch(str(data.test_repo_id), None, "dataset", "data.test_path=DIR") / GR1_TEST_FOLDER
    return folder, tests


def _check_settings(data: Data) -> None:
    for key, value in (("data.path", data.path), ("data.test_path", data.test_path)):
        if value and not Path(value).is_dir():
            raise UserError(f"{key}={value}: no such folder. Give one that exists.")
    if not (data.path or data.builder or (data.repo_id and (data.test_path or data.test_repo_id))):
        raise UserError(
            "data.path: not set. Set it to the folder of your data, or set data.repo_id and data.test_repo_id, which are downloaded."
        )


# --- which videos are held out of training ---


@dataclass(frozen=True)
class HoldOut:
    """Numbers of videos.

    note: what was decided without a setting; empty: nothing.
    """

    train: int
    validation: int
    test: int
    selection: int
    note: str = ""


def hold_out(data: Data, videos: int, has_pairs: bool, folder: Path | str) -> HoldOut:
    """Divide a number of videos.

    data.validation_videos and data.test_videos decide; where one is null, a tenth of the videos is held out, at least one, at
    most MOST_VALIDATION and MOST_TEST; for the test none if there are test pairs on disk. Of two videos one is for the test and none for validation.

    Args:
        has_pairs: test and selection prompts come from a folder of test pairs.
        folder: of the videos, for messages.

    Raises:
        UserError: nothing is left to train on.
    """
    tenth, selection, note = max(1, videos // TENTH), data.selection_pairs, ""
    test, validation = data.test_videos, data.validation_videos
    if has_pairs:
        test, selection = test or 0, 0
    elif test is None:
        test = min(tenth, MOST_TEST)
    if validation is None:
        validation = min(tenth, MOST_VALIDATION) if videos - test - selection > 1 else 0
    if None in (data.test_videos, data.validation_videos):
        note = (
            f"held out of training: {validation} for validation, {test} for the test (a tenth, at most "
            f"{MOST_VALIDATION} and {MOST_TEST}; data.validation_videos, data.test_videos)"
        )
    held = validation + test + selection
    if held >= videos:
        raise UserError(
            f"{folder}: {videos} good videos, {held} of them held out; nothing is left to train on. Add videos, or lower "
            "data.validation_videos, data.test_videos or data.selection_pairs."
        )
    return HoldOut(videos - held, validation, test, selection, note)


def split_clips(config: Config, clips: Sequence[CheckedClip], counts: HoldOut) -> tuple[list[CheckedClip], ...]:
    """Training, validation, test and selection clips; which clip goes where follows from the seed.

    The clips of one recording (data.recordings) stay together, so a part may have more clips than asked for.

    Raises:
        UserError: the recordings are too few.
    """
    by_recording: dict[str, list[int]] = defaultdict(list)
    for index, clip in enumerate(clips):
        by_recording[recording_of(clip.clip.name, config.data.recordings)].append(index)
    recordings = list(by_recording.values())
    order = deque(recordings[k] for k in generator(config.data.split_seed, "split").permutation(len(recordings)))
    parts: list[list[CheckedClip]] = []
    for count in (counts.validation, counts.test, counts.selection, len(clips)):
        part: list[int] = []
        while len(part) < count and order:
            part += order.popleft()
        parts.append([clips[i] for i in sorted(part)])
    validation, test, selection, train = parts
    if not train:
        raise UserError(
            f"data.recordings={config.data.recordings}: {len(recordings)} recordings, all of them held out; nothing is left to "
            "train on. Correct the pattern, or lower data.validation_videos, data.test_videos or data.selection_pairs."
        )
    return train, validation, test, selection


def split_pairs(
    pairs: list[TestPair], selection: list[TestPair], config: Config, folder: Path
) -> tuple[list[TestPair], list[TestPair]]:
    """Test pairs and selection pairs of a folder.

    A folder selection/ decides; else data.selection_pairs scenes are drawn by the seed. Prompts with one first frame stay
    together.

    Args:
        pairs: of the folder itself.
        selection: of its folder selection/.

    Raises:
        RunError: fewer scenes than data.selection_pairs, or a first frame is in both.
    """
    count, by_scene = config.data.selection_pairs, scene_names(pairs + selection)
    tested = sorted({by_scene[p.name] for p in pairs})
    if selection:
        shared = [p.name for p in selection if by_scene[p.name] in tested]
        if shared:
            raise RunError(
                f"{folder / SELECTION}: {', '.join(shared[:3])}: this first frame is also in the test. Remove it from one."
            )
        return pairs, selection
    if not count:
        return pairs, []
    if count >= len(tested):
        raise RunError(
            f"{folder}: {len(tested)} scenes (first frames), data.selection_pairs={count} of them for selection; none is "
            "left for the test. Lower data.selection_pairs."
        )
    order = generator(config.data.split_seed, "selection").permutation(len(tested))
    drawn = {tested[i] for i in order[:count]}
    test: list[TestPair] = []
    for pair in pairs:
        part = selection if by_scene[pair.name] in drawn else test
        part.append(pair)
    return test, selection
