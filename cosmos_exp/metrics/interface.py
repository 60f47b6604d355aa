"""What a measure of finished videos has to provide. `metrics.score.MEASURE_FUNCTIONS` lists those of a run."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from cosmos_exp.config.schema import Config


@dataclass(frozen=True)
class Measured:
    """The measures of one video.

    values: measure -> (value, None), or (None, the reason) where the measure is undefined.
    detail: further values, plain JSON, for the key `detail` of the video's lines in scores.jsonl.
    """

    values: dict[str, tuple[float | None, str | None]]
    detail: dict[str, object] = field(default_factory=dict)


class MeasureFunction(Protocol):
    """A function that measures video files."""

    def __call__(self, videos: Sequence[Path], config: Config, workers: int) -> Iterable[Measured] | None:
        """Yield one `Measured` per video, in order, as soon as it is known. Return None if the configuration turns it off.

        Args:
            workers: the most processes that it may start.
        """
        ...
