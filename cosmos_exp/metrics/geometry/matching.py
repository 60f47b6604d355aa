"""Keypoints of frames and matches between frames: the interface of a matcher, and SIFT."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeVar

import cv2
import numpy as np

from cosmos_exp.config.schema import Sampson

if TYPE_CHECKING:
    import torch

Item = TypeVar("Item")
Result = TypeVar("Result")


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
    """Finds keypoints once per frame and matches pairs of frames. Frames are uint8 (H, W), grey.

    A matcher of your own: a class of (settings, threads), added to `config.registry.MATCHERS`.
    """

    def features(self, frames: Sequence[np.ndarray]) -> list[Features]:
        """Keypoints of each frame."""
        ...

    def match(self, pairs: Sequence[tuple[Features, Features]], size: tuple[int, int]) -> list[Matches]:
        """Matches of each pair of frames; `size` is (height, width) of both frames."""
        ...


class SiftMatcher:
    """SIFT keypoints (Lowe 2004), `sampson.max_keypoints` per frame, matched with the ratio test in both directions.

    The descriptors hold integers from 0 to 255. Products of them in float32 are exact (sums below 2^24), so distances by
    one matrix product equal those of OpenCV's brute-force matcher.

    Args:
        threads: work on frames and pairs in parallel; the result does not depend on it.
    """

    def __init__(self, settings: Sampson, threads: int = 1):
        self.settings, self.threads = settings, threads

    def features(self, frames: Sequence[np.ndarray]) -> list[Features]:
        """Points, and descriptors float32 (N, 128)."""
        return self._map(self._features_of, frames)

    def match(self, pairs: Sequence[tuple[Features, Features]], size: tuple[int, int]) -> list[Matches]:
        """Mutual nearest neighbours that pass the ratio test, in order of the first index."""
        return self._map(self._matches_of, pairs)

    def _matches_of(self, pair: tuple[Features, Features]) -> Matches:
        a, b = pair
        return mutual_matches(np.asarray(a.descriptors), np.asarray(b.descriptors), self.settings.ratio)

    def _features_of(self, frame: np.ndarray) -> Features:
        detector = cv2.SIFT.create(nfeatures=self.settings.max_keypoints)
        keypoints, descriptors = detector.detectAndCompute(frame, None)
        if descriptors is None:
            return Features(np.zeros((0, 2)), np.zeros((0, 128), np.float32))
        return Features(np.array([k.pt for k in keypoints], dtype=np.float64), descriptors)

    def _map(self, function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
        with ThreadPoolExecutor(self.threads) as pool:
            return list(pool.map(function, items))


def mutual_matches(a: np.ndarray, b: np.ndarray, ratio: float) -> Matches:
    """Pairs (i, j) of descriptors that are each other's nearest neighbour and pass the ratio test in both directions.

    Args:
        a, b: descriptors, float32 (N, 128) and (M, 128).
        ratio: a match's distance must be below this multiple of the distance to the second nearest neighbour.

    Returns:
        int (K, 2); K may be 0.
    """
    if len(a) < 2 or len(b) < 2:
        return np.zeros((0, 2), dtype=np.int64)
    squared = (a * a).sum(1)[:, None] + (b * b).sum(1)[None] - 2 * (a @ b.T)
    forward, forward_passes = _nearest(squared, ratio)
    backward, backward_passes = _nearest(np.ascontiguousarray(squared.T), ratio)
    i = np.arange(len(a))
    keep = forward_passes & backward_passes[forward] & (backward[forward] == i)
    return np.stack([i[keep], forward[keep]], axis=1)


def _nearest(squared: np.ndarray, ratio: float) -> tuple[np.ndarray, np.ndarray]:
    """Each row's nearest column (the first of equals), and whether it passes the ratio test."""
    rows = np.arange(len(squared))
    nearest = squared.argmin(axis=1)
    best = squared[rows, nearest]
    squared[rows, nearest] = np.inf
    second = squared.min(axis=1)
    squared[rows, nearest] = best
    return nearest, np.sqrt(best) < np.float32(ratio) * np.sqrt(second)
