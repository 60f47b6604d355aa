"""The interface of a matcher: keypoints of frames, and matches between frames."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Features:
    """The keypoints of a frame.

    points: float64 (N, 2), column and row in pixels.
    descriptors: (N, D) of these points, in the form that the matcher needs.
    """

    points: np.ndarray
    descriptors: np.ndarray | torch.Tensor


Matches = np.ndarray  # int (M, 2): index into the first frame's points, index into the second's


class Matcher(Protocol):
    """Finds keypoints once per frame and matches pairs of frames. Frames are uint8 (H, W), grey."""

    def features(self, frames: Sequence[np.ndarray]) -> list[Features]:
        """Keypoints of each frame."""
        ...

    def match(self, pairs: Sequence[tuple[Features, Features]], size: tuple[int, int]) -> list[Matches]:
        """Matches of each pair of frames; `size` is (height, width) of both frames."""
        ...
