"""What a measure of finished videos gets, and what it returns. `config.registry.MEASURE_FUNCTIONS` lists those of a run."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol

import cv2
import numpy as np

from cosmos_exp.config.rollout import OVERLAP, Chunk
from cosmos_exp.config.schema import Config
from cosmos_exp.data.video import read_video
from cosmos_exp.files import append_json_line
from cosmos_exp.provenance import available_cores


@dataclass(frozen=True)
class ScoredVideo:
    """A video to score, or a chunk of it: its test pair, the seed of its start noise, and the recording to compare it with.

    Attributes:
        path: the video file. Read it with `frames`, which gives a chunk's frames alone.
        recording: the recorded continuation of the test pair's first frame, with the same size and H.264 settings, and with
            as many frames as the video, or fewer than a video of several chunks; None: there is none.
        conditioning: number of first frames that were given, not generated.
        chunks: the chunks of the video; empty for a video of one chunk.
        span: the frames of the file that are this chunk, stop excluded; None: the whole video.
    """

    sample: str
    seed: int
    prompt: str | None
    path: Path
    recording: Path | None = None
    conditioning: int = 1
    chunks: tuple[Chunk, ...] = ()
    span: tuple[int, int] | None = None

    def frames(self) -> np.ndarray:
        """The frames to score: uint8 (T, H, W, 3) RGB.

        Raises:
            RunError: the file cannot be read.
        """
        return read_video(self.path, self.span)

    def recorded(self) -> np.ndarray | None:
        """The recording of these frames, as far as it goes: uint8 (T, H, W, 3) RGB; None: there is none.

        Raises:
            RunError: the file cannot be read.
        """
        return None if self.recording is None else read_video(self.recording, self.span)

    def parts(self) -> list[ScoredVideo]:
        """Each chunk as a video of its own, to be scored alike: over the frames after its conditioning frames.

        Also of the first chunk, which may have one conditioning frame, the last frames count, as many as of the others.
        """
        parts = []
        for chunk in self.chunks:
            span = (chunk.start, chunk.stop)
            parts.append(replace(self, prompt=chunk.prompt, conditioning=OVERLAP, chunks=(), span=span))
        return parts


def append_score(
    scores: Path, video: ScoredVideo, measure: str, value: float | None, detail: Mapping[str, object]
) -> None:
    """Append the line of a video and a measure to a scores.jsonl."""
    row = {"sample": video.sample, "seed": video.seed, "prompt": video.prompt, "video": video.path.name}
    append_json_line(scores, {**row, "measure": measure, "value": value, "detail": dict(detail)})


def tiles(height: int, width: int, rows: int, columns: int) -> list[tuple[slice, slice]]:
    """The rows and columns of a frame's pixels in each tile of a grid, row by row."""
    across, down = np.array_split(range(width), columns), np.array_split(range(height), rows)
    parts = []
    for tall, wide in itertools.product(down, across):
        parts.append((slice(tall[0], tall[-1] + 1), slice(wide[0], wide[-1] + 1)))
    return parts


@dataclass(frozen=True)
class Measured:
    """The measures of one video.

    Attributes:
        values: measure -> (value, None); (None, the reason) where the measure is undefined; (value, the reason) where the
            value is to be read with caution, for example because it rests on few frame pairs.
        detail: further values, plain JSON, for the key `detail` of each of the video's lines in scores.jsonl.
        once: the same for the line of the first measure only, as it is long: values of every frame pair.
        curves: measure -> its value at each frame after the conditioning frames, for the key `detail.curve` of this
            measure's line. The report draws it over the horizon.
    """

    values: dict[str, tuple[float | None, str | None]]
    detail: dict[str, object] = field(default_factory=dict)
    curves: dict[str, list[float | None]] = field(default_factory=dict)
    once: dict[str, object] = field(default_factory=dict)


class MeasureFunction(Protocol):
    """A function that measures video files."""

    def __call__(self, videos: Sequence[ScoredVideo], config: Config, workers: int) -> Iterable[Measured] | None:
        """Yield one `Measured` per video, in order, as soon as it is known. Return None if the configuration turns it off.

        Args:
            workers: the most processes that it may start.
        """
        ...


@contextlib.contextmanager
def video_pool(
    count: int, workers: int = 0, videos_per_process: int = 8
) -> Iterator[tuple[Callable[..., Iterable[Any]], int]]:
    """A `map` over `count` videos, results in order, and the threads that each may use; its processes end with the block.

    OpenCV uses one thread throughout: some of its functions (DIS optical flow) depend on the number of threads.

    Args:
        workers: the most processes; 0: one per core. Fewer are started for few videos, none for very few.
        videos_per_process: starting a process costs about a second, so it must have this many videos to measure.
    """
    cores = available_cores()
    workers = min(workers or cores, count // videos_per_process + 1)
    threads = max(1, cores // workers)
    if workers > 1:
        with ProcessPoolExecutor(workers, get_context("spawn"), cv2.setNumThreads, (1,)) as pool:
            yield pool.map, threads
        return
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield map, threads
    finally:
        cv2.setNumThreads(before)
