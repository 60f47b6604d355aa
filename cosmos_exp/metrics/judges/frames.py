"""The judge's interface: questions in, answers out, scores read from the answers; never a default number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np


def sample_frames(frames: np.ndarray, fps: float, settings: Any) -> tuple[np.ndarray, float]:
    """Frames at the judge's rate, no more than its number, shrunk so that all keep to its pixel budget.

    Returns:
        uint8 (T, H, W, 3) and the rate of these frames.
    """
    from cosmos_exp.data.video import resize

    step = max(fps / settings.fps, 1.0, len(frames) / settings.max_frames)
    picked = frames[[int(i * step) for i in range(int(np.ceil(len(frames) / step)))]]
    total = picked.shape[0] * picked.shape[1] * picked.shape[2]
    if total > settings.max_total_pixels:
        scale = (settings.max_total_pixels / total) ** 0.5
        height, width = (max(32, int(s * scale) // 32 * 32) for s in picked.shape[1:3])
        picked = resize(picked, height, width, "stretch")
    return picked, fps / step


def shown_frames(video: Path, settings: Any) -> tuple[np.ndarray, float]:
    """What the judge sees of a file: `sample_frames` of it."""
    from cosmos_exp.data.video import probe, read_video

    return sample_frames(read_video(video), probe(video).fps, settings)
