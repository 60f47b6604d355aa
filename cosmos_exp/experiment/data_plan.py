"""The data of a planned run: how many videos train, validate, select and test. A local folder is inspected."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from cosmos_exp.config.rollout import chunk_prompts, rollout_frames
from cosmos_exp.config.schema import Config
from cosmos_exp.data.dataset import Inspection, inspect_data, split_pairs
from cosmos_exp.data.hold_out import HoldOut, hold_out
from cosmos_exp.data.pair_frames import HeldOut, has_recording, recorded_length, single_frame
from cosmos_exp.data.readers.records import TestPair
from cosmos_exp.errors import RunError, UserError

if TYPE_CHECKING:
    from cosmos_exp.experiment.cost import Rows

LISTED = 3  # problems that are named


@dataclass(frozen=True)
class DataPlan:
    """Training videos, and what the plan says about each part. None: not known before the data is here."""

    train: int
    source: str
    validation: int
    test: str
    selection: str
    notes: tuple[str, ...] = ()

    def rows(self) -> Rows:
        """(what, value) for the plan."""
        return [
            ("training videos", f"{self.train} ({self.source})"),
            ("validation videos", str(self.validation)),
            ("test prompts", self.test),
            ("selection prompts", self.selection),
            *(("data", note) for note in self.notes),
        ]


def plan_data(config: Config) -> DataPlan:
    """Count what a run would use. Renders and downloads nothing.

    Raises:
        RunError: the data has problems, or the run would score nothing.
        UserError: no data is set, or nothing is left to train on.
    """
    data = config.data
    if data.path:
        return _plan_folder(config, Path(data.path))
    if data.builder:
        counts, apart = hold_out(data, data.train_clips, True, "the rendered clips"), data.selection_pairs
        tests = "those of data.test_path" if data.test_path else f"of {data.test_pairs} scenes, to be rendered"
        if not (data.test_pairs or data.test_path):
            check_scored(config, 0, apart)
        source = f"{data.train_clips} to be rendered, {data.train_clips - counts.train} held out"
        return DataPlan(counts.train, source, counts.validation, tests, f"of {apart} scenes" if apart else "0")
    if data.expected_videos:
        counts = hold_out(data, data.expected_videos, True, data.repo_id or "the data")
        tests = f"those of {data.test_path or data.test_repo_id}, not inspected yet"
        source = f"{data.expected_videos} expected from {data.repo_id}, not inspected yet"
        return DataPlan(counts.train, source, counts.validation, tests, str(data.selection_pairs))
    raise UserError("data.path: not set. Give the folder of your data: data.path=DIR")


def _plan_folder(config: Config, folder: Path) -> DataPlan:
    """The plan of a folder on this machine, inspected as a run does at its start."""
    data = config.data
    tests = Path(data.test_path) if data.test_path else None
    found = inspect_data(data, folder, tests)
    if found.problems and not data.skip_bad:
        more = f"\n  … and {len(found.problems) - LISTED} more" if len(found.problems) > LISTED else ""
        raise RunError(
            f"{len(found.problems)} problems in {folder}:\n  " + "\n  ".join(found.problems[:LISTED]) + more + "\n"
            f"`cosmos-exp data check {folder}` lists all. Fix these files, or leave them out with data.skip_bad=true."
        )
    counts = hold_out(data, len(found.clips), tests is not None, folder)
    if config.generation.split != "none":
        check_conditioning(config, found.pairs)
    test, selection = _prompts(config, found, counts, tests)
    check_scored(config, test, selection)
    source = f"{len(found.clips)} in {folder}, {len(found.clips) - counts.train} held out"
    pairs = found.pairs if tests else [TestPair(c.clip.name, c.clip.prompt, c.clip) for c in found.clips]
    short = rollout_notes(config, pairs, {c.clip.name: c for c in found.clips})
    notes = [*found.notes, *([counts.note] if counts.note else []), *short]
    return DataPlan(counts.train, source, counts.validation, str(test), str(selection), tuple(notes))


def _prompts(config: Config, found: Inspection, counts: HoldOut, tests: Path | None) -> tuple[int, int]:
    """Numbers of test and selection prompts."""
    if tests is None:
        return counts.test, counts.selection
    pairs, selection = split_pairs(found.pairs, found.selection, config, tests)
    return len(pairs), len(selection)


def check_conditioning(config: Config, pairs: Sequence[TestPair]) -> None:
    """Check that every test pair has the frames that generation.mode conditions on, and a prompt for each chunk.

    Raises:
        UserError: generation.mode=video2world, and a pair is a single image; generation.chunk_prompts=lines, and a prompt has
            another number of lines.
    """
    for pair in pairs:
        chunk_prompts(config, pair.prompt, pair.name)
    if config.generation.mode == "video2world":
        for pair in pairs:
            if isinstance(pair.image, Path) and pair.recording is None:
                raise UserError(single_frame(pair))


def rollout_notes(config: Config, pairs: Sequence[TestPair], held_out: HeldOut) -> list[str]:
    """That recordings end before the rollout, so that real and what is compared with it covers fewer frames."""
    if config.generation.chunks == 1:
        return []
    frames = rollout_frames(config)
    lengths = [recorded_length(p, held_out, config.data, frames) for p in pairs if has_recording(p)]
    short = [n for n in lengths if n < frames]
    if not short:
        return []
    several = f"{min(short)} to {max(short)}" if min(short) < max(short) else f"{short[0]}"
    return [
        f"{len(short)} of {len(lengths)} recordings are shorter than the {frames} frames of a video ({several} frames): "
        "real, and what is compared with it, covers only the frames that were recorded"
    ]


def check_scored(config: Config, test: int, selection: int) -> None:
    """Check that the run would score a video, or was asked for none.

    Raises:
        RunError: there are no prompts of generation.split.
    """
    split = config.generation.split
    if split != "none" and not {"test": test, "selection": selection}[split]:
        fix = {
            "test": "Set data.test_videos (null: a tenth of the videos) or data.test_path",
            "selection": "Set data.selection_pairs",
        }[split]
        raise RunError(
            f"this run would make and score no video: there are no {split} prompts. {fix}, or generation.split=none to "
            "train only."
        )
