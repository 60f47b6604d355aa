"""word_side: does motion happen on the side that the prompt names?"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import partial

from cosmos_exp.config.schema import Config
from cosmos_exp.config.tiling import Tiling, tiling_of
from cosmos_exp.metrics.interface import Measured, ScoredVideo
from cosmos_exp.metrics.words.motion_map import motion_maps, side_share


def named_side(prompt: str | None) -> str | None:
    """left or right, if the prompt holds exactly one of the two words; else None."""
    found = set(re.findall(r"\b(left|right)\b", (prompt or "").lower()))
    return found.pop() if len(found) == 1 else None


def measure_side(videos: Sequence[ScoredVideo], config: Config, workers: int) -> Iterator[Measured] | None:
    """word_side of videos whose prompt names a side (see `metrics.interface.MeasureFunction`)."""
    if not config.measures.words or not any(named_side(v.prompt) for v in videos):
        return None
    return map(partial(_measure, tiling=tiling_of(config.data)), videos)


def _measure(video: ScoredVideo, tiling: Tiling) -> Measured:
    side = named_side(video.prompt)
    if side is None:
        return Measured({"word_side": (None, "the prompt does not name one side, left or right")})
    frames = video.frames()
    if len(frames) <= video.conditioning:
        return Measured({"word_side": (None, "the video has no frame after the conditioning frames")})
    share = side_share(motion_maps(frames, video.conditioning, tiling), side)
    reason = None if share is not None else "nothing moves"
    return Measured({"word_side": (share, reason)})
