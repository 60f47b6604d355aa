"""Keypoints, found once a frame, and matches between frames: SIFT without any weights, or SuperPoint + LightGlue."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import cv2
import numpy as np

from cosmos_exp.metrics.geometry.matching import Features, Matches


class SiftMatcher:
    """SIFT with Lowe's ratio test in both directions (Lowe 2004).

    The descriptors hold whole numbers from 0 to 255, so float32 products of them are exact (sums below 2^24) and
    distances by one matrix product equal OpenCV's brute force; `threads` share frames and pairs.
    """

    def __init__(self, max_keypoints: int, ratio: float, threads: int = 1):
        self.max_keypoints, self.ratio, self.threads = max_keypoints, ratio, threads

    def features(self, frames: Sequence[np.ndarray]) -> list[Features]:
        """Points and descriptors float32 (N, 128)."""
        return self._share(self._features_of, frames)

    def match(self, pairs: Sequence[tuple[Features, Features]], size: tuple[int, int]) -> list[Matches]:
        """Mutual nearest neighbours, each better than the second nearest by the ratio, in order of the first index."""
        return self._share(lambda pair: mutual_matches(pair[0].descriptors, pair[1].descriptors, self.ratio), pairs)

    def _features_of(self, frame: np.ndarray) -> Features:
        detector = cv2.SIFT.create(nfeatures=self.max_keypoints)
        keypoints, descriptors = detector.detectAndCompute(frame, None)
        points = np.array([k.pt for k in keypoints], dtype=np.float64).reshape(-1, 2)
        return Features(points, np.zeros((0, 128), np.float32) if descriptors is None else descriptors)

    def _share(self, work: Any, items: Sequence) -> list:
        if self.threads == 1 or len(items) < 2:
            return [work(i) for i in items]
        with ThreadPoolExecutor(self.threads) as pool:
            return list(pool.map(work, items))


def mutual_matches(a: np.ndarray, b: np.ndarray, ratio: float) -> Matches:
    """Pairs (i, j) that are each other's nearest and pass the ratio test both ways; (M, 2), M may be 0."""
    if len(a) < 2 or len(b) < 2:
        return np.zeros((0, 2), dtype=np.int64)
    squared = (a * a).sum(1)[:, None] + (b * b).sum(1)[None] - 2 * (a @ b.T)
    there, there_good = _nearest(squared, ratio)
    back, back_good = _nearest(np.ascontiguousarray(squared.T), ratio)
    i = np.arange(len(a))
    keep = there_good & back_good[there] & (back[there] == i)
    return np.stack([i[keep], there[keep]], axis=1)


def _nearest(squared: np.ndarray, ratio: float) -> tuple[np.ndarray, np.ndarray]:
    """Each row's nearest column, the first of equals, and whether it passes the ratio test."""
    rows = np.arange(len(squared))
    nearest = squared.argmin(axis=1)
    best = squared[rows, nearest]
    squared[rows, nearest] = np.inf
    second = squared.min(axis=1)
    squared[rows, nearest] = best
    return nearest, np.sqrt(best) < np.float32(ratio) * np.sqrt(second)
