"""Temporal Sampson error: does a video move like one rigid scene under a moving camera?

For matched points x, x' of two frames and their fundamental matrix F (Hartley and Zisserman, eq. 11.9):
e^2 = (x'^T F x)^2 / ((F x)_1^2 + (F x)_2^2 + (F^T x')_1^2 + (F^T x')_2^2), reported as e in pixels.
`tse` is the published definition: median over all matches, median over frame pairs. Where camera and scene stand still
any F fits and it is 0 whatever the video; so the error of the moving matches and the share of static ones stand beside.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np


@dataclass(frozen=True)
class PairError:
    """One frame pair: median error over all and over moving matches (None when it cannot be said), pixels."""

    all: float | None
    moving: float | None
    static_share: float | None
    matches: int
    reason: str | None = None


@dataclass(frozen=True)
class SampsonResult:
    """A video's figures; None with a `reason` when the measure cannot say anything."""

    tse: float | None
    tse_moving: float | None
    static_share: float | None
    pairs: int
    pairs_measured: int
    reason: str | None
    per_pair: tuple[PairError, ...] = ()

    def detail(self) -> dict[str, Any]:
        """All figures but the pairs' own."""
        return {k: v for k, v in asdict(self).items() if k != "per_pair"}


def sampson_distance(x: np.ndarray, y: np.ndarray, fundamental: np.ndarray) -> np.ndarray:
    """e for points x, y (N, 2) in pixels and F (3, 3) with y^T F x = 0; returns (N,)."""
    one = np.ones((len(x), 1))
    xh, yh = np.hstack([x, one]), np.hstack([y, one])
    fx, fty = xh @ fundamental.T, yh @ fundamental
    numerator = np.sum(yh * fx, axis=1) ** 2
    denominator = fx[:, 0] ** 2 + fx[:, 1] ** 2 + fty[:, 0] ** 2 + fty[:, 1] ** 2
    return np.sqrt(numerator / np.maximum(denominator, 1e-24))


class SiftMatcher:
    """SIFT features, once a frame, and ratio-tested mutual matches between frames."""

    def __init__(self, settings: Any):
        self.ratio = settings.ratio
        self.detector = cv2.SIFT.create(nfeatures=settings.max_keypoints)
        self.matcher = cv2.BFMatcher(cv2.NORM_L2)

    def features(self, gray: np.ndarray) -> tuple[np.ndarray, np.ndarray | None]:
        """Points (N, 2) in pixels and descriptors."""
        keypoints, descriptors = self.detector.detectAndCompute(gray, None)
        return np.array([k.pt for k in keypoints], dtype=np.float64).reshape(-1, 2), descriptors

    def match(self, a: tuple, b: tuple) -> tuple[np.ndarray, np.ndarray]:
        """Matched points of two frames, each (N, 2)."""
        if a[1] is None or b[1] is None or len(a[0]) < 2 or len(b[0]) < 2:
            return np.zeros((0, 2)), np.zeros((0, 2))
        there, back = self._good(a[1], b[1]), self._good(b[1], a[1])
        pairs = sorted((i, j) for i, j in there.items() if back.get(j) == i)
        if not pairs:
            return np.zeros((0, 2)), np.zeros((0, 2))
        i, j = np.array(pairs).T
        return a[0][i], b[0][j]

    def _good(self, a: np.ndarray, b: np.ndarray) -> dict[int, int]:
        return {
            p[0].queryIdx: p[0].trainIdx
            for p in self.matcher.knnMatch(a, b, k=2)
            if len(p) == 2 and p[0].distance < self.ratio * p[1].distance
        }


def pair_error(x: np.ndarray, y: np.ndarray, settings: Any, seed: int) -> PairError:
    """The figures of one frame pair from its matches; OpenCV's random choices are seeded by `seed`."""
    count = len(x)
    if count < settings.min_matches:
        return PairError(None, None, None, count, f"fewer than {settings.min_matches} matches")
    still = np.linalg.norm(y - x, axis=1) < settings.static_pixels
    share = float(still.mean())
    cv2.setRNGSeed(seed)
    try:
        fundamental, _ = cv2.findFundamentalMat(x, y, cv2.FM_RANSAC, settings.ransac_threshold, 0.999, 2000)
    except cv2.error:
        fundamental = None
    if fundamental is None or fundamental.shape[0] < 3:
        return PairError(None, None, share, count, "no fundamental matrix fits")
    errors = sampson_distance(x, y, fundamental[:3])
    moving = float(np.median(errors[~still])) if (~still).sum() >= settings.min_matches else None
    return PairError(float(np.median(errors)), moving, share, count)


def temporal_sampson(frames: np.ndarray, settings: Any) -> SampsonResult:
    """Sampson error between consecutive frames of uint8 (T, H, W, 3) RGB."""
    matcher = SiftMatcher(settings)
    gray = (cv2.cvtColor(f, cv2.COLOR_RGB2GRAY) for f in frames)
    features = [matcher.features(g) for g in gray]
    pairs = tuple(
        pair_error(*matcher.match(features[i], features[i + 1]), settings, seed=i) for i in range(len(features) - 1)
    )
    return summarize(pairs)


def summarize(pairs: tuple[PairError, ...]) -> SampsonResult:
    """Medians over the frame pairs that could be measured; the others are counted, never averaged in."""
    everything = [p.all for p in pairs if p.all is not None]
    moving = [p.moving for p in pairs if p.moving is not None]
    shares = [p.static_share for p in pairs if p.static_share is not None]
    share = float(np.mean(shares)) if shares else None
    if not pairs:
        reason = "a single frame has no motion"
    elif not everything:
        reason = "no frame pair has enough matches: no texture, or no two frames alike"
    elif not moving:
        reason = "camera and scene stand still: too few matches move"
    else:
        reason = None
    return SampsonResult(
        # Standing still fits any geometry; 0.000 would say nothing, so it is not said.
        float(np.median(everything)) if everything and moving else None,
        float(np.median(moving)) if moving else None, share, len(pairs), len(everything), reason, pairs,
    )  # fmt: skip
