"""Points followed through a video (KLT): how many survive, and how smoothly they move."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import cv2
import numpy as np

MIN_TRACKS = 10  # with fewer corners in the first image, or fewer moving steps, shares of tracks are undefined
MOVING = 0.25  # px; steps below this are mostly error of the tracker
_CORNERS = {"maxCorners": 400, "qualityLevel": 0.01, "minDistance": 5, "blockSize": 5}
_FOLLOW = {"winSize": (15, 15), "maxLevel": 3}
_FORWARD_BACKWARD = 1.0  # px


@dataclass(frozen=True)
class Roughness:
    """Change of velocity of moving tracks by its largest possible value, 0 to 1.

    With the steps v and w of a track before and after an image: sum of |w - v| / sum of (|v| + |w|), over the tracks that live and of
    which one step is at least `MOVING`. 0: constant velocity; 1: each track reverses, starts or stops at each image; 0.87 is expected
    of white noise (sqrt(6) / (2 sqrt(2))). It does not depend on the size of the picture or on how much of it moves.

    Attributes:
        value: over all images; None with fewer than `MIN_TRACKS` moving steps.
        curve: at each image; None for the first two, and where no track moves.
    """

    value: float | None
    curve: list[float | None]


@dataclass(frozen=True)
class Tracks:
    """Points followed from the first image on.

    Attributes:
        positions: float32 (T, N, 2), x and y in pixels of the images; only valid where `alive`.
        alive: bool (T, N); a track that ended stays ended.
        left: bool (T, N); it ended because the point left the image. Such a track is neither lost nor survives.
    """

    positions: np.ndarray
    alive: np.ndarray
    left: np.ndarray

    def survival(self) -> list[float | None]:
        """Share of the tracks that live at each image, of those that did not leave the image; None if all left."""
        alive, counted = self.alive.sum(axis=1), (~self.left).sum(axis=1)
        return [int(a) / int(n) if n else None for a, n in zip(alive, counted, strict=True)]

    def roughness(self) -> Roughness:
        """How unevenly the tracks move."""
        steps = np.diff(self.positions, axis=0)
        lengths = np.linalg.norm(steps, axis=-1)
        counted = self.alive[2:] & (np.maximum(lengths[1:], lengths[:-1]) >= MOVING)
        changes = (np.linalg.norm(np.diff(steps, axis=0), axis=-1) * counted).sum(axis=1, dtype=np.float64)
        most = ((lengths[1:] + lengths[:-1]) * counted).sum(axis=1, dtype=np.float64)
        curve = [None] * min(2, len(self.alive)) + [
            float(c / m) if m else None for c, m in zip(changes, most, strict=True)
        ]
        enough = int(counted.sum()) >= MIN_TRACKS
        return Roughness(float(changes.sum() / most.sum()) if enough else None, curve)


def follow(images: np.ndarray) -> Tracks:
    """Follow the corners of the first image (Shi and Tomasi 1994) through all images by pyramidal Lucas-Kanade.

    A track ends where following it back to the image before misses its point there by more than 1 px (Kalal, Mikolajczyk and Matas
    2010, "Forward-backward error").

    Args:
        images: uint8 (T, h, w).
    """
    corners = cv2.goodFeaturesToTrack(images[0], **_CORNERS)  # type: ignore[call-overload]
    points = np.zeros((0, 2), np.float32) if corners is None else corners.reshape(-1, 2)
    alive, left = np.ones(len(points), bool), np.zeros(len(points), bool)
    tracks = [(points, alive, left)]
    for a, b in itertools.pairwise(images):
        if len(points):
            points, alive, left = _step(a, b, points, alive, left)
        tracks.append((points, alive, left))
    positions, lives, lefts = zip(*tracks, strict=True)
    return Tracks(np.stack(positions), np.stack(lives), np.stack(lefts))


def _step(
    a: np.ndarray, b: np.ndarray, points: np.ndarray, alive: np.ndarray, left: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    ahead, found, _ = cv2.calcOpticalFlowPyrLK(a, b, points, None, **_FOLLOW)  # type: ignore[call-overload]
    back, found_back, _ = cv2.calcOpticalFlowPyrLK(b, a, ahead, None, **_FOLLOW)  # type: ignore[call-overload]
    missed = np.linalg.norm(back - points, axis=1) > _FORWARD_BACKWARD
    height, width = a.shape
    outside = ((ahead < 0) | (ahead > (width - 1, height - 1))).any(axis=1)
    survives = alive & found.ravel().astype(bool) & found_back.ravel().astype(bool) & ~missed & ~outside
    return ahead, survives, left | (alive & outside)
