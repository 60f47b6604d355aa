"""Morphology of boolean pictures (H, W), with OpenCV."""

from __future__ import annotations

from typing import NamedTuple

import cv2
import numpy as np

_SQUARE = np.ones((3, 3), np.uint8)


class Parts(NamedTuple):
    """The connected parts of a mask, N of them.

    labels: (H, W), the number of the part from 1 on; 0 outside. areas: (N,), pixels. centers: (N, 2), x and y in pixels.
    """

    labels: np.ndarray
    areas: np.ndarray
    centers: np.ndarray


def parts_of(mask: np.ndarray) -> Parts:
    """The parts of a mask that are connected by edges or corners."""
    _, labels, stats, centers = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    return Parts(labels, stats[1:, cv2.CC_STAT_AREA], centers[1:])


def grown(mask: np.ndarray, size: int) -> np.ndarray:
    """`mask` dilated by a square of `size` pixels."""
    return cv2.dilate(mask.astype(np.uint8), np.ones((size, size), np.uint8)) > 0


def shrunk(mask: np.ndarray) -> np.ndarray:
    """`mask` eroded by a square of 3 pixels."""
    return cv2.erode(mask.astype(np.uint8), _SQUARE) > 0


def without_specks(mask: np.ndarray) -> np.ndarray:
    """`mask` without parts that hold no square of 3 pixels."""
    return cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, _SQUARE) > 0
