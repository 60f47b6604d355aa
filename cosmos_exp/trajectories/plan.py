"""The videos that may be made: one per run, prompt and seed, in a fixed order, each named by all that decides it."""

from __future__ import annotations

import hashlib
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cosmos_exp.config.schema import LARGEST_NOISE_SEED, Config
from cosmos_exp.data.dataset import Dataset, load_dataset
from cosmos_exp.data.pair_frames import HeldOut, pair_frames
from cosmos_exp.data.readers.pairs import read_test_pairs, unpaired_note
from cosmos_exp.data.readers.records import TestPair
from cosmos_exp.data.scenes import scenes
from cosmos_exp.errors import RunError, UserError
from cosmos_exp.experiment.data_plan import check_conditioning
from cosmos_exp.files import json_sha256
from cosmos_exp.generation.videos import num_conditioning_frames
from cosmos_exp.trajectories.sources import SourceRun, settings_of

PAIRS = "Give a folder with NAME.png (the first frame) and NAME.txt (the prompt)."
MOST_SEEDS = 100_000
KEY_DIGITS = 12


@dataclass(frozen=True)
class Start:
    """A prompt with its conditioning frames.

    Attributes:
        scene: prompts with the same first frame have the same one.
        frames: uint8 (k, H, W, 3), as the model sees them.
        sha256: of these frames.
    """

    pair: TestPair
    scene: str
    frames: np.ndarray
    sha256: str


@dataclass(frozen=True)
class Prompts:
    """The prompts of a request. `dataset`: of the first run; None if it was not read."""

    starts: list[Start]
    held_out: HeldOut
    dataset: Dataset | None


@dataclass(frozen=True)
class Candidate:
    """A video that may be made.

    Attributes:
        key: hex digits of all that decides its pixels; part of its file's name, so that a changed request never uses it.
    """

    run: SourceRun
    start: Start
    seed: int
    key: str

    @property
    def name(self) -> str:
        """Run and prompt."""
        return f"{self.run.name}__{self.start.pair.name}"

    @property
    def file(self) -> str:
        """Name of its video file."""
        return f"{self.name}__seed{self.seed}-{self.key}.mp4"


def parse_seeds(text: str) -> list[int]:
    """The seeds of `0..9`, `0,3,7` or `0..4,10..14`, each once, in the order given.

    Raises:
        UserError: it is neither, or a seed is too large.
    """
    found: dict[int, None] = {}
    for word in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,12})\s*(?:\.\.\s*(\d{1,12})\s*)?", word)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if last < first or last > LARGEST_NOISE_SEED or last - first >= MOST_SEEDS:
            raise UserError(
                f"--seeds {text}: write e.g. 0..9 or 0,3,7..9, at most {MOST_SEEDS} seeds of 0 to {LARGEST_NOISE_SEED}"
            )
        found |= dict.fromkeys(range(first, last + 1))
    return list(found)


def read_prompts(config: Config, folder: str | None, sources: Sequence[SourceRun], with_data: bool) -> Prompts:
    """The prompts of a folder, or the test prompts of the runs.

    Args:
        folder: as `cosmos-exp generate --prompts` takes it; None: the runs' own prompts.
        with_data: read the data of the first run in any case.

    Raises:
        UserError: there are no prompts, the data has changed, or the runs have different data.
        RunError: files are bad.
    """
    dataset = _dataset(config, sources) if with_data or folder is None else None
    held_out: HeldOut = {}
    if folder is not None:
        pairs = _read_folder(Path(folder).expanduser())
    else:
        assert dataset is not None
        other = next((s for s in sources if s.fingerprint != sources[0].fingerprint), None)
        if other:
            raise UserError(
                f"RUN {other.name}: has other data than {sources[0].name}, so they share no test prompts. Give --prompts DIR."
            )
        pairs, held_out = dataset.pairs, dataset.held_out
        if not pairs:
            raise UserError(f"RUN {sources[0].name}: has no prompts of its own. Give --prompts DIR. {PAIRS}")
    check_conditioning(config, pairs)
    by_scene = scenes(pairs, held_out, config.data.recordings)
    count = num_conditioning_frames(config.generation.mode)
    starts = []
    for pair in pairs:
        try:
            frames = pair_frames(pair, held_out, config.data, count)
        except RunError as error:
            raise (error if folder is None else UserError(f"--prompts {folder}: {error}")) from error
        starts.append(Start(pair, by_scene[pair.name], frames, hashlib.sha256(frames.tobytes()).hexdigest()))
    return Prompts(starts, held_out, dataset)


def _dataset(config: Config, sources: Sequence[SourceRun]) -> Dataset:
    """The data of the first run, rendered or downloaded if needed."""
    dataset = load_dataset(config)
    if sources[0].fingerprint not in ("", dataset.fingerprint):
        raise UserError(
            f"RUN {sources[0].name}: its data has changed since ({sources[0].fingerprint} -> {dataset.fingerprint}). "
            "Restore it, or give --prompts DIR and leave --with-real out."
        )
    return dataset


def check_folder(folder: str | None) -> None:
    """Check that the folder of --prompts exists.

    Raises:
        UserError: it does not.
    """
    if folder is not None and not Path(folder).expanduser().is_dir():
        raise UserError(f"--prompts {folder}: no such folder. {PAIRS}")


def _read_folder(folder: Path) -> list[TestPair]:
    problems: list[str] = []
    pairs = read_test_pairs(folder, problems)
    if not pairs:
        raise UserError("\n".join([*problems, f"--prompts {folder}: {PAIRS}"]))
    if problems:
        raise UserError("\n".join(problems))
    if note := unpaired_note(folder):
        print(f"note: {note}", file=sys.stderr)
    return pairs


def plan(
    config: Config, sources: Sequence[SourceRun], starts: Sequence[Start], seeds: Sequence[int], model: object
) -> list[Candidate]:
    """All videos that may be made: the first seed for all runs and prompts, then the second …

    Args:
        model: fingerprints of the base model.
    """
    settings = settings_of(config)
    found = []
    for seed in seeds:
        for run in sources:
            for start in starts:
                content = [settings, model, run.sha256, start.pair.prompt, start.sha256, seed]
                found.append(Candidate(run, start, seed, json_sha256(content)[:KEY_DIGITS]))
    return found


def by_prompt(candidates: Sequence[Candidate]) -> list[list[Candidate]]:
    """The videos of each prompt, prompts in their order."""
    groups: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        groups.setdefault(candidate.start.pair.name, []).append(candidate)
    return list(groups.values())
