"""The frames of a video that a judge is shown."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cosmos_exp.config.schema import Judge as JudgeSettings
from cosmos_exp.data.video import probe, read_video, resize


def sample_frames(frames: np.ndarray, fps: float, settings: JudgeSettings) -> tuple[np.ndarray, float]:
    """Frames at `judge.fps`, at most `judge.max_frames`, shrunk to `judge.max_total_pixels` in total.

    Args:
        frames: uint8 (T, H, W, 3).
        fps: their rate.

    Returns:
        uint8 (T', H', W', 3), and the rate of these frames.
    """
    step = max(fps / settings.fps, 1.0, len(frames) / settings.max_frames)
    picked = frames[[int(i * step) for i in range(int(np.ceil(len(frames) / step)))]]
    total = picked.shape[0] * picked.shape[1] * picked.shape[2]
    if total > settings.max_total_pixels:
        scale = (settings.max_total_pixels / total) ** 0.5
        height, width = (max(32, int(s * scale) // 32 * 32) for s in picked.shape[1:3])
        picked = resize(picked, height, width, "stretch")
    return picked, fps / step


def shown_frames(video: Path, settings: JudgeSettings, span: tuple[int, int] | None = None) -> tuple[np.ndarray, float]:
    """`sample_frames` of a video file, or of the frames `span` of it.

    Raises:
        RunError: the file cannot be read.
    """
    return sample_frames(read_video(video)[slice(*(span or (None,)))], probe(video).fps, settings)
