"""Where and when a video moves: motion masks and their overlap with the recording's, as defined by Physics-IQ.

Motamed et al. 2025, arXiv:2501.09038; code: github.com/google-deepmind/physics-IQ-benchmark, `physiq/binary_mask_generator.py`
and `physiq/calculate_and_write_metrics_to_csv.py`. It stores the masks as a lossy video at a quarter of the size; here they
are used as computed.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

_RATE = 0.3  # weight of the newest frame in the running average
_THRESHOLD = 10  # grey levels
_KERNEL = np.ones((5, 5), np.uint8)


@dataclass(frozen=True)
class MaskOverlap:
    """Intersection over union of two videos' motion masks, 0 to 1, after each frame.

    Where neither video has moved, it is 1.

    Attributes:
        space: of the places that moved at any time up to this frame.
        spacetime: of the places that move in this frame.
        weighted: of how often each place moved up to this frame: sum of the minima by sum of the maxima.
    """

    space: list[float]
    spacetime: list[float]
    weighted: list[float]


def motion_masks(frames: np.ndarray) -> np.ndarray:
    """The pixels that move, for each frame: bool (T, H, W). None moves in the first frame.

    A pixel moves if its grey value, blurred over 5x5 pixels, differs by more than 10 levels from its running average (the new
    frame has weight 0.3); opening and closing over 5x5 pixels follow. So a pixel still counts for some frames after a large change.

    Args:
        frames: uint8 (T, H, W, 3), RGB.
    """
    blurred = [cv2.GaussianBlur(cv2.cvtColor(f, cv2.COLOR_RGB2GRAY), (5, 5), 0) for f in frames]
    average = blurred[0].astype(np.float64)
    masks = [np.zeros(average.shape, bool)]
    for image in blurred[1:]:
        cv2.accumulateWeighted(image, average, _RATE)
        difference = cv2.absdiff(image, cv2.convertScaleAbs(average))
        mask = (difference > _THRESHOLD).astype(np.uint8)
        mask = cv2.morphologyEx(mask, cv2.MORPH_OPEN, _KERNEL)
        masks.append(cv2.morphologyEx(mask, cv2.MORPH_CLOSE, _KERNEL) > 0)
    return np.stack(masks)


def mask_overlap(a: np.ndarray, b: np.ndarray) -> MaskOverlap:
    """How far two videos move at the same places and times.

    Physics-IQ's three values of a whole clip are the last of `space`, the mean of `spacetime`, and the last of `weighted`.

    Args:
        a, b: bool (T, H, W), from `motion_masks`.
    """
    counts_a, counts_b = np.zeros(a.shape[1:], np.int32), np.zeros(b.shape[1:], np.int32)
    overlap = MaskOverlap([], [], [])
    for mask_a, mask_b in zip(a, b, strict=True):
        counts_a += mask_a
        counts_b += mask_b
        overlap.space.append(_iou(counts_a > 0, counts_b > 0))
        overlap.spacetime.append(_iou(mask_a, mask_b))
        overlap.weighted.append(_iou(counts_a, counts_b))
    return overlap


def _iou(a: np.ndarray, b: np.ndarray) -> float:
    """Sum of the minima by sum of the maxima; for masks, intersection over union. 1 if both are empty."""
    union = int(np.maximum(a, b).sum())
    return int(np.minimum(a, b).sum()) / union if union else 1.0
