"""The original demonstrations of a run as episodes: whole clips, in the size and with the video settings of the generated ones."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from cosmos_exp.config.schema import Config
from cosmos_exp.data.clips import CheckedClip
from cosmos_exp.data.dataset import Dataset
from cosmos_exp.data.video import write_video
from cosmos_exp.data.windows import load_window
from cosmos_exp.files import json_sha256
from cosmos_exp.trajectories.making import Store

RATE_DIFFERS = 0.01  # share


@dataclasses.dataclass(frozen=True)
class Demonstration:
    """One original clip. `sha256`: of its source."""

    name: str
    prompt: str
    video: Path
    sha256: str


def clips_of(dataset: Dataset) -> list[CheckedClip]:
    """The training and validation clips: the test stays out."""
    return dataset.train + dataset.validation


def write_demonstrations(config: Config, dataset: Dataset, store: Store) -> Iterator[Demonstration]:
    """Encode what was not encoded before, clip by clip."""
    generation = config.generation
    for clip in clips_of(dataset):
        data = dataclasses.replace(config.data, num_frames=frames_of(clip, config))
        settings = [clip.sha256, clip.start, clip.stop, dataclasses.asdict(data), generation.fps, generation.crf]
        path = store.demonstration(clip.clip.name, json_sha256(settings)[:12])
        if not path.is_file():
            write_video(path, load_window(clip, data, 0), generation.fps, generation.crf)
        yield Demonstration(clip.clip.name, clip.clip.prompt, path, clip.sha256)


def frames_of(clip: CheckedClip, config: Config) -> int:
    """Frames of a whole clip at data.fps; all of its file's frames without it."""
    count = clip.stop - clip.start
    if config.data.fps is None:
        return count
    step = clip.info.fps / config.data.fps
    return int(np.floor((count - 0.5) / step - 1e-9)) + 1


def rate_note(config: Config, dataset: Dataset) -> str | None:
    """What a reader has to know if the recordings have another frame rate than the set says."""
    rates = {config.data.fps or c.info.fps for c in clips_of(dataset)}
    other = sorted(r for r in rates if abs(r - config.generation.fps) > RATE_DIFFERS * config.generation.fps)
    if not other:
        return None
    shown = " and ".join(f"{r:g}" for r in other[:3])
    return (
        f"The original demonstrations have {shown} frames per second, the set says {config.generation.fps:g} "
        "(generation.fps), for them and for the generated videos. Frames are as the model was trained on them."
    )
