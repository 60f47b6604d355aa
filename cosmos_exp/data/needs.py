"""What each shipped model needs of a data set: frames, frame rate and size; and how many videos have enough frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cosmos_exp.config.schema import Config, Data
from cosmos_exp.data.clips import frames_needed
from cosmos_exp.data.video import VideoInfo


@dataclass(frozen=True)
class Needs:
    """One model.

    seconds: what a window shows, at data.fps or at the videos' own lowest and highest rate.
    fits: the largest data.num_frames (4k+1) for which all videos are long enough, where some are not; None: all are.
    """

    model: str
    frames: int
    fps: str
    size: str
    seconds: str
    long_enough: str
    fits: int | None


def needs_of(config: Config, name: str, lengths: Sequence[tuple[int, VideoInfo]]) -> Needs:
    """The needs of the model of a configuration.

    Args:
        name: of the choice model=NAME.
        lengths: frames and header of each sound clip, however short.
    """
    data = config.data
    good = sum(frames >= frames_needed(data, info) for frames, info in lengths)
    fits = None if good == len(lengths) else min(_longest(data, *length) for length in lengths)
    rate = (
        f"converted to {data.fps:g} frames per second"
        if data.fps is not None
        else f"frame rate as recorded (the model's: {config.model.fps:g})"
    )
    size = f"{data.width}x{data.height}"
    return Needs(name, data.num_frames, rate, size, _seconds(data, lengths), f"{good} of {len(lengths)}", fits)


def _seconds(data: Data, lengths: Sequence[tuple[int, VideoInfo]]) -> str:
    rates = [data.fps] if data.fps is not None else [info.fps for _, info in lengths]
    spans = sorted({f"{(data.num_frames - 1) / r:.1f}" for r in rates}, key=float)
    return "-" if not spans else spans[0] if len(spans) == 1 else f"{spans[0]} to {spans[-1]}"


def _longest(data: Data, frames: int, info: VideoInfo) -> int:
    """The largest 4k+1 such that a window of that many frames fits into `frames` source frames."""
    shown = frames if data.fps is None else int((frames - 1) * data.fps / info.fps) + 1
    return max(1, (shown - 1) // 4 * 4 + 1)
