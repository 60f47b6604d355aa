"""SIFT keypoints (Lowe 2004), matched with the ratio test in both directions. Needs no weights."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import cv2
import numpy as np

from cosmos_exp.config.schema import Sampson as SampsonSettings
from cosmos_exp.metrics.geometry.matching import Features, Matches

Item = TypeVar("Item")
Result = TypeVar("Result")


class SiftMatcher:
    """SIFT with Lowe's ratio test in both directions.

    The descriptors hold integers from 0 to 255. Products of them in float32 are exact (sums below 2^24), so distances by
    one matrix product equal those of OpenCV's brute-force matcher.

    Args:
        max_keypoints: per frame.
        ratio: a match's distance must be below this multiple of the distance to the second nearest neighbour.
        threads: work on frames and pairs in parallel; the result does not depend on it.
    """

    def __init__(self, max_keypoints: int, ratio: float, threads: int = 1):
        self.max_keypoints, self.ratio, self.threads = max_keypoints, ratio, threads

    @classmethod
    def from_settings(cls, settings: SampsonSettings, threads: int) -> SiftMatcher:
        """The matcher of `sampson.matcher=sift`."""
        return cls(settings.max_keypoints, settings.ratio, threads)

    def features(self, frames: Sequence[np.ndarray]) -> list[Features]:
        """Points, and descriptors float32 (N, 128)."""
        return self._map(self._features_of, frames)

    def match(self, pairs: Sequence[tuple[Features, Features]], size: tuple[int, int]) -> list[Matches]:
        """Mutual nearest neighbours that pass the ratio test, in order of the first index."""
        return self._map(
            lambda pair: mutual_matches(np.asarray(pair[0].descriptors), np.asarray(pair[1].descriptors), self.ratio),
            pairs,
        )

    def _features_of(self, frame: np.ndarray) -> Features:
        detector = cv2.SIFT.create(nfeatures=self.max_keypoints)
        keypoints, descriptors = detector.detectAndCompute(frame, None)
        points = np.array([k.pt for k in keypoints], dtype=np.float64).reshape(-1, 2)
        return Features(points, np.zeros((0, 128), np.float32) if descriptors is None else descriptors)

    def _map(self, function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
        if self.threads == 1 or len(items) < 2:
            return [function(i) for i in items]
        with ThreadPoolExecutor(self.threads) as pool:
            return list(pool.map(function, items))


def mutual_matches(a: np.ndarray, b: np.ndarray, ratio: float) -> Matches:
    """Pairs (i, j) of descriptors that are each other's nearest neighbour and pass the ratio test in both directions.

    Args:
        a, b: descriptors, float32 (N, 128) and (M, 128).

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
