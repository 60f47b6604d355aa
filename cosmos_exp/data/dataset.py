"""The data set of a run: every file inspected, split by the seed, fingerprinted."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from cosmos_exp.config.schema import Config, Data
from cosmos_exp.data.clips import CheckedClip, TooShortError, probe_clip
from cosmos_exp.data.hashes import other_problems, read_hashes
from cosmos_exp.data.hold_out import HoldOut, hold_out
from cosmos_exp.data.location import ensure_data
from cosmos_exp.data.pair_frames import check_pair
from cosmos_exp.data.readers.pairs import read_test_pairs, unpaired_note
from cosmos_exp.data.readers.records import Clip, TestPair
from cosmos_exp.data.readers.registry import read_episodes
from cosmos_exp.data.scenes import recording_of, scenes
from cosmos_exp.data.survey import mixed_notes, unused_notes
from cosmos_exp.data.swaps import probes
from cosmos_exp.data.video import VideoInfo
from cosmos_exp.errors import RunError, UserError
from cosmos_exp.rng import generator

SELECTION = "selection"  # folder inside the test pairs
Progress = Callable[[list[Clip]], Iterable[Clip]]  # wraps a list in a progress bar


@dataclass
class Inspection:
    """What a folder holds: good clips and test pairs, one line for each bad file, and notes that are no fault."""

    clips: list[CheckedClip]
    pairs: list[TestPair]
    problems: list[str]
    notes: list[str]
    selection: list[TestPair] = field(default_factory=list)
    short: list[tuple[int, VideoInfo]] = field(default_factory=list)

    @property
    def lengths(self) -> list[tuple[int, VideoInfo]]:
        """Frames and header of all sound clips, too short ones included."""
        return [*((c.stop - c.start, c.info) for c in self.clips), *self.short]


@dataclass
class Dataset:
    """What a run trains and tests on.

    pairs: the prompts of the run's videos: those of generation.split.
    tested: the pairs that the run generates and scores, the first generation.max_prompts of them.
    probes: tested pairs with a swapped word (data.swaps), which are generated but scored by word_effect only.
    test, selection: names of all pairs of either kind, whatever the run generates.
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
    test: list[str] = field(default_factory=list)
    selection: list[str] = field(default_factory=list)
    tested: list[TestPair] = field(default_factory=list)
    probes: list[TestPair] = field(default_factory=list)


def inspect_data(
    data: Data, folder: Path, tests: Path | None, progress: Progress | None = None, whole: bool = False
) -> Inspection:
    """Inspect every file and collect every problem.

    Args:
        folder, tests: of the training data and of the test pairs.
        whole: decode whole files, for `cosmos-exp data check`.

    Raises:
        UserError: a folder does not exist or has another layout. A bad file raises nothing.
    """
    found = read_episodes(data, folder)
    hashes = read_hashes(folder) | (read_hashes(tests) if tests else {})
    found.problems += other_problems(hashes)
    checked, short = [], []
    for clip in progress(found.clips) if progress else found.clips:
        try:
            checked.append(probe_clip(clip, data, whole, hashes))
        except TooShortError as error:
            found.problems.append(str(error))
            short.append(error.length)
        except (RunError, OSError) as error:
            found.problems.append(str(error))
    found.notes += [*(c.note for c in checked if c.note), *mixed_notes(checked, data), *unused_notes(checked, data)]
    pairs = read_test_pairs(tests, found.problems) if tests else []
    found.notes += [note for note in [unpaired_note(tests) if tests else None] if note]
    selection = read_test_pairs(tests / SELECTION, found.problems) if tests and (tests / SELECTION).is_dir() else []
    for pair in pairs + selection:
        try:
            check_pair(pair, data, whole, hashes)
        except RunError as error:
            found.problems.append(str(error))
    return Inspection(checked, pairs, found.problems, found.notes, selection, short)


def load_dataset(config: Config, progress: Progress | None = None) -> Dataset:
    """The run's data, rendered or downloaded if needed, inspected and split.

    Raises:
        RunError: bad files (unless data.skip_bad=true).
        UserError: nothing is left to train on.
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
    counts = hold_out(config.data, len(found.clips), bool(tests), folder)
    train, validation, test, selection = _split(config, found.clips, counts)
    held_out = {c.clip.name: c for c in test + selection}
    if tests:
        pairs, chosen = split_pairs(found.pairs, found.selection, config, tests)
        pairs, chosen = ([p for p in part if str(p.image) not in bad_images] for part in (pairs, chosen))
    else:
        pairs, chosen = _pairs_of(test), _pairs_of(selection)
    generated = {"test": pairs, "selection": chosen, "none": []}[config.generation.split]
    tested = generated[: config.generation.max_prompts]
    return Dataset(
        train,
        validation,
        generated,
        list(found.problems),
        [*found.notes, *([counts.note] if counts.note else [])],
        _fingerprint(train + validation + test + selection),
        held_out,
        [p.name for p in pairs],
        [p.name for p in chosen],
        tested,
        probes(tested, config.data.swaps) if config.measures.words else [],
    )


def _pairs_of(clips: list[CheckedClip]) -> list[TestPair]:
    return [TestPair(c.clip.name, c.clip.prompt, c.clip) for c in clips]


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
    count = config.data.selection_pairs
    by_scene = scenes(pairs + selection, {})
    if selection:
        both = {by_scene[p.name] for p in pairs} & {by_scene[p.name] for p in selection}
        shared = [p.name for p in selection if by_scene[p.name] in both]
        if shared:
            raise RunError(
                f"{folder / SELECTION}: {', '.join(shared[:3])}: this first frame is also in the test. Remove it from one."
            )
        return pairs, selection
    if not count:
        return pairs, []
    found = sorted({by_scene[p.name] for p in pairs})
    if count >= len(found):
        raise RunError(
            f"{folder}: {len(found)} scenes (first frames), data.selection_pairs={count} of them for selection; none is "
            "left for the test. Lower data.selection_pairs."
        )
    order = generator(_split_seed(config), "selection").permutation(len(found))[:count]
    drawn = {found[i] for i in order}
    return [p for p in pairs if by_scene[p.name] not in drawn], [p for p in pairs if by_scene[p.name] in drawn]


def _split_seed(config: Config) -> int:
    """The seed of every split of the data."""
    return config.seed if config.data.split_seed is None else config.data.split_seed


def _split(config: Config, clips: list[CheckedClip], counts: HoldOut) -> tuple[list[CheckedClip], ...]:
    """Training, validation, test and selection clips; which clip goes where follows from the seed.

    The clips of one recording (data.recordings) stay together, so a part may have more clips than asked for.

    Raises:
        UserError: the recordings are too few.
    """
    by_recording: dict[str, list[int]] = {}
    for i, clip in enumerate(clips):
        by_recording.setdefault(recording_of(clip.clip.name, config.data.recordings), []).append(i)
    recordings = list(by_recording.values())
    order = [recordings[k] for k in generator(_split_seed(config), "split").permutation(len(recordings))]
    parts: list[list[int]] = []
    for count in (counts.validation, counts.test, counts.selection):
        part: list[int] = []
        while len(part) < count and order:
            part += order.pop(0)
        parts.append(part)
    if not order:
        raise UserError(
            f"data.recordings={config.data.recordings}: {len(recordings)} recordings, all of them held out; nothing is left to "
            "train on. Correct the pattern, or lower data.validation_videos, data.test_videos or data.selection_pairs."
        )
    parts.append([i for own in order for i in own])
    validation, test, selection, train = parts
    return tuple([clips[i] for i in sorted(part)] for part in (train, validation, test, selection))


def _fingerprint(clips: list[CheckedClip]) -> str:
    digest = hashlib.sha256()
    for c in clips:
        digest.update(f"{c.clip.name}\0{c.sha256}\0{c.start}\0{c.stop}\0{c.clip.prompt}\n".encode())
    return digest.hexdigest()[:16]
