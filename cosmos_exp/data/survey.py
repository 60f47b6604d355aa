"""Sizes, orientations and frame rates of a data set that differ, and what is done with them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from cosmos_exp.config.schema import Data
from cosmos_exp.data.clips import CheckedClip
from cosmos_exp.data.readers.caption_tables import default_prompt

STRETCHED = 1.2  # a change of the aspect ratio beyond this is noted
FASTER = 1.1  # a change of speed beyond this is noted


def mixed_notes(clips: Sequence[CheckedClip], data: Data) -> list[str]:
    """A note on sizes that differ in shape from data.height x data.width, and on frame rates that differ."""
    if data.cameras or not clips:
        return []  # the notes on tiles say it
    return [*_size_notes(clips, data), *_rate_notes(clips, data)]


def unused_notes(clips: Sequence[CheckedClip], data: Data) -> list[str]:
    """A note on each of data.prompt and data.recordings that applies to none of the clips, and so has no effect."""
    found = []
    if data.prompt is not None and not data.builder and clips:
        given = [default_prompt(data, Path(f"{c.clip.name}.mp4")) or "" for c in clips]
        if not any(c.clip.prompt == data.prompt_prefix + text for c, text in zip(clips, given, strict=True)):
            found.append(f"data.prompt={data.prompt}: no effect, because every video has a caption")
    if data.recordings and clips and not any(re.search(data.recordings, c.clip.name) for c in clips):
        name = clips[0].clip.name
        found.append(f"data.recordings={data.recordings}: no effect, because it matches no clip's name, e.g. {name}")
    return found


def _size_notes(clips: Sequence[CheckedClip], data: Data) -> list[str]:
    sizes = Counter(c.info.shown_size for c in clips)
    shape = data.width / data.height
    changes = {(w, h): max(w / h / shape, shape / (w / h)) for w, h in sizes}
    if len(sizes) == 1 and max(changes.values()) <= STRETCHED:
        return []
    listed = ", ".join(f"{n} of {w}x{h}{_orientation(w, h, shape)}" for (w, h), n in sizes.most_common())
    what = "stretched" if data.resize == "stretch" else "scaled and cut at the centre"
    worst = max(changes.values())
    by = f", by up to {worst:.1f} times" if worst > STRETCHED and data.resize == "stretch" else ""
    other = "; data.resize=crop keeps the shape and cuts the sides" if by else ""
    return [f"sizes: {listed}; all are {what} to {data.width}x{data.height}{by}{other}"]


def _orientation(width: int, height: int, shape: float) -> str:
    if (width < height) == (shape < 1) or width == height:
        return ""
    return " (portrait)" if width < height else " (landscape)"


def _rate_notes(clips: Sequence[CheckedClip], data: Data) -> list[str]:
    rates = Counter(round(c.info.fps, 2) for c in clips)
    if len(rates) == 1 or max(rates) / min(rates) <= FASTER:
        return []
    listed = ", ".join(f"{n} at {rate:g}" for rate, n in rates.most_common())
    if data.fps is not None:
        return [f"frames per second: {listed}; all are converted to {data.fps:g} (nearest frame)"]
    return [
        f"frames per second: {listed}; data.fps=null takes the frames in order, so the same motion has different speeds. "
        "Set data.fps to convert all to one rate"
    ]
