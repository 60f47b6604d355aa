"""What a folder of data holds: good clips and test pairs, every problem, and what is worth a note (mixed sizes and rates)."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cosmos_exp.config.schema import Config, Data
from cosmos_exp.data.clips import CheckedClip, TooShortError, frames_needed, probe_clip
from cosmos_exp.data.hashes import other_problems, read_hashes
from cosmos_exp.data.pairs import check_pair, read_test_pairs, unpaired_note
from cosmos_exp.data.readers.records import Clip, TestPair, default_prompt, read_episodes
from cosmos_exp.data.video import VideoInfo
from cosmos_exp.errors import RunError

SELECTION = "selection"  # folder inside the test pairs
STRETCHED = 1.2  # a change of the aspect ratio beyond this is noted
FASTER = 1.1  # a change of speed beyond this is noted

Progress = Callable[[list[Clip]], Iterable[Clip]]  # wraps a list in a progress bar
Lengths = list[tuple[int, VideoInfo]]  # frames and header of each clip


@dataclass
class Inspection:
    """What a folder holds: good clips and test pairs, one line for each bad file, and notes that are no fault.

    selection: test pairs of the folder selection/ inside the test pairs.
    lengths: frames and header of all sound clips, too short ones included.
    """

    clips: list[CheckedClip]
    pairs: list[TestPair]
    problems: list[str]
    notes: list[str]
    selection: list[TestPair] = field(default_factory=list)
    lengths: Lengths = field(default_factory=list)


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
    episodes = read_episodes(data, folder)
    problems, notes = episodes.problems, episodes.notes
    hashes = read_hashes(folder)
    if tests:
        hashes |= read_hashes(tests)
    problems += other_problems(hashes)
    clips, lengths = list[CheckedClip](), Lengths()
    for clip in progress(episodes.clips) if progress else episodes.clips:
        try:
            checked = probe_clip(clip, data, whole, hashes)
        except TooShortError as error:
            problems.append(str(error))
            lengths.append(error.length)
        except (RunError, OSError) as error:
            problems.append(str(error))
        else:
            clips.append(checked)
            lengths.append((checked.stop - checked.start, checked.info))
            if checked.note:
                notes.append(checked.note)
    if clips:
        notes += [*_size_notes(clips, data), *_rate_notes(clips, data), *_unused_notes(clips, data)]
    pairs, selection = list[TestPair](), list[TestPair]()
    if tests:
        pairs = read_test_pairs(tests, problems)
        note = unpaired_note(tests)
        if note:
            notes.append(note)
        if (tests / SELECTION).is_dir():
            selection = read_test_pairs(tests / SELECTION, problems)
    for pair in pairs + selection:
        try:
            check_pair(pair, data, whole, hashes)
        except RunError as error:
            problems.append(str(error))
    return Inspection(clips, pairs, problems, notes, selection, lengths)


# --- notes ---


def _size_notes(clips: Sequence[CheckedClip], data: Data) -> list[str]:
    """A note on sizes that differ, or differ in shape from data.height x data.width."""
    if data.cameras:
        return []  # the notes on tiles say it
    sizes = Counter(c.info.shown_size for c in clips)
    shape, worst, listed = data.width / data.height, 1.0, []
    for (width, height), count in sizes.most_common():
        ratio = width / height / shape
        worst = max(worst, ratio, 1 / ratio)
        orientation = ""
        if width != height and (width < height) != (shape < 1):
            orientation = " (portrait)" if width < height else " (landscape)"
        listed.append(f"{count} of {width}x{height}{orientation}")
    if len(sizes) == 1 and worst <= STRETCHED:
        return []
    note = f"sizes: {', '.join(listed)}; all are "
    if data.resize == "crop":
        return [f"{note}scaled and cut at the centre to {data.width}x{data.height}"]
    note += f"stretched to {data.width}x{data.height}"
    if worst > STRETCHED:
        note += f", by up to {worst:.1f} times; data.resize=crop keeps the shape and cuts the sides"
    return [note]


def _rate_notes(clips: Sequence[CheckedClip], data: Data) -> list[str]:
    """A note on frame rates that differ."""
    rates = Counter(round(c.info.fps, 2) for c in clips)
    if data.cameras or max(rates) / min(rates) <= FASTER:
        return []
    note = "frames per second: " + ", ".join(f"{count} at {rate:g}" for rate, count in rates.most_common())
    if data.fps is not None:
        return [f"{note}; all are converted to {data.fps:g} (nearest frame)"]
    return [
        f"{note}; data.fps=null takes the frames in order, so the same motion has different speeds. Set data.fps to convert "
        "all to one rate"
    ]


def _unused_notes(clips: Sequence[CheckedClip], data: Data) -> list[str]:
    """A note on each of data.prompt and data.recordings that applies to none of the clips, and so has no effect."""
    prompt_used = data.prompt is None or bool(data.builder)
    pattern_used = not data.recordings
    for checked in clips:
        clip = checked.clip
        default = default_prompt(data, Path(f"{clip.name}.mp4")) or ""
        prompt_used = prompt_used or clip.prompt == data.prompt_prefix + default
        pattern_used = pattern_used or re.search(str(data.recordings), clip.name) is not None
    notes = []
    if not prompt_used:
        notes.append(f"data.prompt={data.prompt}: no effect, because every video has a caption")
    if not pattern_used:
        name = clips[0].clip.name
        notes.append(f"data.recordings={data.recordings}: no effect, because it matches no clip's name, e.g. {name}")
    return notes


# --- what a model needs of the clips ---


def needs_of(config: Config, name: str, lengths: Lengths) -> list[str]:
    """Lines that say what the model of a configuration needs of each video: frames, frame rate and size.

    Args:
        name: of the choice model=NAME.
        lengths: frames and header of each sound clip, however short.
    """
    data = config.data
    long_enough, fits, rates = 0, data.num_frames, set[float]()
    for frames, info in lengths:
        rates.add(data.fps or info.fps)
        if frames >= frames_needed(data, info):
            long_enough += 1
        else:
            fits = min(fits, _longest(data, frames, info))
    spans = sorted((data.num_frames - 1) / rate for rate in rates)
    seconds = f"{spans[0]:.1f}"
    if f"{spans[-1]:.1f}" != seconds:
        seconds += f" to {spans[-1]:.1f}"
    rate = f"frame rate as recorded (the model's: {config.model.fps:g})"
    if data.fps is not None:
        rate = f"converted to {data.fps:g} frames per second"
    lines = [
        f"model={name}: {data.num_frames} frames ({seconds} s), {rate}, {data.width}x{data.height} pixels: {long_enough} of "
        f"{len(lengths)} are long enough"
    ]
    if long_enough < len(lengths):
        lines.append(f"  data.num_frames={fits} fits all videos")
    return lines


def _longest(data: Data, frames: int, info: VideoInfo) -> int:
    """The largest 4k+1 such that a window of that many frames fits into `frames` source frames."""
    shown = frames if data.fps is None else int((frames - 1) * data.fps / info.fps) + 1
    return max(1, (shown - 1) // 4 * 4 + 1)
