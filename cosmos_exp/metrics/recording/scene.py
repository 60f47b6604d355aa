"""scene_drift: how far the picture, away from what moves, has come from the first frame. Only for videos of several chunks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import cv2
import numpy as np

from cosmos_exp.config.schema import Config
from cosmos_exp.data.video import read_video
from cosmos_exp.metrics.interface import Measured, ScoredVideo, video_pool
from cosmos_exp.metrics.words.motion_map import aligned_to, small_grey

MEASURE = "scene_drift"


def measure_scene(videos: Sequence[ScoredVideo], config: Config, workers: int) -> Iterator[Measured]:
    """`scene_drift` of videos and chunks (see `metrics.interface.MeasureFunction`).

    Raises:
        RunError: a video cannot be read.
    """
    with video_pool(len(videos), workers) as (pool_map, _):
        yield from pool_map(_measure, videos)


def _measure(video: ScoredVideo) -> Measured:
    frames = read_video(video.path)
    own = frames[slice(*(video.span or (None,)))][video.conditioning :]
    if not len(own):
        return Measured({MEASURE: (None, "no frames after the conditioning frames")})
    return Measured({MEASURE: (scene_drift(frames[0], own), None)})


def scene_drift(first: np.ndarray, frames: np.ndarray) -> float:
    """Median over pixels of the median over frames of the absolute difference to the first frame, grey levels.

    What moves or is moved covers less than half of the picture and less than half of the time, so both medians are of the
    rest. The camera's motion is removed as in `motion_map`.

    Args:
        first: uint8 (H, W, 3), of the whole video.
        frames: uint8 (T, H, W, 3).
    """
    start, flow = small_grey(first), cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    aligned = np.stack([aligned_to(start, small_grey(f), flow) for f in frames]).astype(np.float32)
    return float(np.median(np.median(np.abs(aligned - start), axis=0)))
