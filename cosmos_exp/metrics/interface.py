"""What a measure of finished videos has to provide. `metrics.score.MEASURE_FUNCTIONS` lists those of a run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from cosmos_exp.config.schema import Config


@dataclass(frozen=True)
class ScoredVideo:
    """A video to score: its test pair, the seed of its start noise, and the recording that it can be compared with.

    Attributes:
        path: the video file.
        recording: the recorded continuation of the test pair's first frame, with the same size, number of frames and
            H.264 settings; None: there is none.
        conditioning: number of first frames that were given, not generated.
    """

    sample: str
    seed: int
    prompt: str | None
    path: Path
    recording: Path | None = None
    conditioning: int = 1


@dataclass(frozen=True)
class Measured:
    """The measures of one video.

    Attributes:
        values: measure -> (value, None); (None, the reason) where the measure is undefined; (value, the reason) where the
            value is to be read with caution, for example because it rests on few frame pairs.
        detail: further values, plain JSON, for the key `detail` of each of the video's lines in scores.jsonl.
        curves: measure -> its value at each frame after the conditioning frames, for the key `detail.curve` of this
            measure's line. The report draws it over the horizon.
    """

    values: dict[str, tuple[float | None, str | None]]
    detail: dict[str, object] = field(default_factory=dict)
    curves: dict[str, list[float | None]] = field(default_factory=dict)


class MeasureFunction(Protocol):
    """A function that measures video files."""

    def __call__(self, videos: Sequence[ScoredVideo], config: Config, workers: int) -> Iterable[Measured] | None:
        """Yield one `Measured` per video, in order, as soon as it is known. Return None if the configuration turns it off.

        Args:
            workers: the most processes that it may start.
        """
        ...
