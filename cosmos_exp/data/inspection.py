"""What a folder of data holds: good clips and test pairs, every problem, and what is worth a note (mixed sizes and rates)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cosmos_exp.config.schema import Data
from cosmos_exp.config.tiling import tile_size
from cosmos_exp.data.clips import CheckedClip, probe_clip
from cosmos_exp.data.files import Progress, examine_files, record_of, without_progress
from cosmos_exp.data.pairs import check_pair, read_test_pairs
from cosmos_exp.data.readers.records import TestPair, read_episodes
from cosmos_exp.errors import RunError

SELECTION = "selection"  # folder inside the test pairs
STRETCHED = 1.2  # a change of the aspect ratio beyond this is noted


@dataclass
class Inspection:
    """What a folder holds: good clips and test pairs, one line for each bad file, and notes that are no fault.

    selection: test pairs of the folder selection/ inside the test pairs.
    """

    clips: list[CheckedClip]
    pairs: list[TestPair]
    problems: list[str]
    notes: list[str]
    selection: list[TestPair] = field(default_factory=list)


def inspect_data(
    data: Data,
    folder: Path,
    tests: Path | None,
    progress: Progress = without_progress,
    whole: bool = False,
    cache: Path | None = None,
) -> Inspection:
    """Inspect every file and collect every problem.

    Args:
        folder, tests: of the training data and of the test pairs.
        whole: decode whole files, for `cosmos-exp data check`. A run decodes as strictly, but only the windows that it reads.
        cache: the folder in which it is recorded what is known of each file; None: nowhere.

    Raises:
        UserError: a folder does not exist or has another layout. A bad file raises nothing.
    """
    episodes = read_episodes(data, folder)
    inspection, notes = Inspection([], [], episodes.problems, episodes.notes), list[str]()
    paths: list[Path] = []
    for clip in episodes.clips:
        paths += [footage.path for footage in clip.footage]
    files = examine_files(paths, cache and record_of(folder, cache), whole, progress)
    for clip in episodes.clips:
        try:
            checked = probe_clip(clip, data, files)
        except (RunError, OSError) as error:
            inspection.problems.append(str(error))
            continue
        inspection.clips.append(checked)
        notes += checked.notes
    inspection.problems[:] = dict.fromkeys(inspection.problems)  # a bad file of many episodes is named once
    inspection.notes += _counted(notes)
    if inspection.clips:
        inspection.notes += _shape_notes(inspection.clips, data)
    if tests:
        inspection.pairs = read_test_pairs(tests, inspection.problems)
        if (tests / SELECTION).is_dir():
            inspection.selection = read_test_pairs(tests / SELECTION, inspection.problems)
    for pair in inspection.pairs + inspection.selection:
        try:
            check_pair(pair, data, whole)
        except RunError as error:
            inspection.problems.append(str(error))
    return inspection


def _counted(notes: Sequence[str]) -> list[str]:
    """The first note of each kind, with the number of those that differ from it in names and numbers only."""
    kinds: dict[str, list[str]] = {}
    for note in notes:
        kinds.setdefault(re.sub(r"\d+", "", note.partition(": ")[2]), []).append(note)
    counted = []
    for first, *others in kinds.values():
        counted += [f"{first} (and {len(others)} more like it)"] if others else [first]
    return counted


def _shape_notes(clips: Sequence[CheckedClip], data: Data) -> list[str]:
    """A note on sizes and frame rates that differ, or shapes that differ from that of the frame or tile."""
    height, width = tile_size(data) if data.cameras else (data.height, data.width)
    kinds, worst = Counter[str](), 1.0
    for clip in clips:
        for info in (clip.info, *(other.info for other in clip.others)):
            shown_width, shown_height = info.shown_size
            kinds[f"{shown_width}x{shown_height} at {info.fps:.4g} frames per second"] += 1
            ratio = (shown_width / shown_height) / (width / height)
            worst = max(worst, ratio, 1 / ratio)
    if len(kinds) == 1 and worst <= STRETCHED:
        return []
    listed = ", ".join(f"{count} of {kind}" for kind, count in kinds.most_common())
    how = "cut" if data.resize == "crop" else f"stretched (by up to {worst:.1f} times; data.resize=crop cuts instead)"
    return [f"{listed}; all become {width}x{height}, {how}, at data.fps={data.fps or 'null, one speed for all frames'}"]
