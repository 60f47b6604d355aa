"""Keypoints, found once a frame, and matches between frames: SIFT without any weights, or SuperPoint + LightGlue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np


@dataclass(frozen=True)
class Features:
    """points: float64 (N, 2), column and row in pixels; descriptors: whatever the matcher needs for these points."""

    points: np.ndarray
    descriptors: Any


Matches = np.ndarray  # int (M, 2): index in the first frame's points, index in the second's


class Matcher(Protocol):
    """What every matcher can do; frames are uint8 (H, W) grey."""

    def features(self, frames: Sequence[np.ndarray]) -> list[Features]:
        """Keypoints of each frame."""
        ...

    def match(self, pairs: Sequence[tuple[Features, Features]], size: tuple[int, int]) -> list[Matches]:
        """Matches of each pair of frames of `size` (height, width)."""
        ...
