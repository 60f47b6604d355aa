"""Sampson error of videos: does each view move like one rigid scene, and do several views show the same one?

Two definitions stand side by side. The cookbook's, for numbers that compare with published ones: F by plain RANSAC, the
error over all matches, outliers too; median over matches, median over frames (`tse`, `cse`). Ours: the error of moving
matches alone under a MAGSAC++ geometry of their own (`tse_moving`, `cse_moving`), with the share of matches that do not
move, the share of inliers and the number of matches beside it, since a still, blurred or torn video can score well."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

from cosmos_exp.metrics.geometry.calibration import ViewCalibration
from cosmos_exp.metrics.geometry.epipolar import (
    Fit,
    estimate_fundamental,
    fundamental_from_intrinsics,
    sampson_distance,
)
from cosmos_exp.metrics.geometry.matching import Features, Matcher
from cosmos_exp.metrics.geometry.results import FrameError, ViewResult, _median
from cosmos_exp.metrics.geometry.views import View

STILL = (
    0.5  # a median share of static matches above it: the median over all matches is that of matches any geometry fits
)


class _Track:
    """One view through time: its keypoints and how far each moves to the next frame."""

    def __init__(self, view: View, matcher: Matcher, settings: Any, camera: ViewCalibration | None):
        self.name, self.settings, self.camera = view.name, settings, camera
        self.size = (view.frames.shape[1], view.frames.shape[2])
        self.features: list[Features] = matcher.features([cv2.cvtColor(f, cv2.COLOR_RGB2GRAY) for f in view.frames])
        # The matcher sees pixels as they are, the geometry sees them undistorted.
        self.points = [camera.undistorted(f.points) if camera else f.points for f in self.features]
        gap = settings.gap
        self.index = [(i, i + gap) for i in range(len(self.features) - gap)]
        self.matches = matcher.match([(self.features[i], self.features[j]) for i, j in self.index], self.size)

    def measure(self, spread: Callable) -> ViewResult:
        return summarize(self.name, tuple(spread(self._pair, range(len(self.index)))), self.settings.gap)

    def _pair(self, k: int) -> FrameError:
        (i, j), found = self.index[k], self.matches[k]
        x, y = self.points[i][found[:, 0]], self.points[j][found[:, 1]]
        return pair_error(x, y, self.settings, (i, j), self.camera)

    def moves(self, frame: int) -> np.ndarray:
        """Which keypoints of a frame are known to move to or from a neighbour, (N,) bool."""
        out = np.zeros(len(self.points[frame]), dtype=bool)
        for k, side in ((frame, 0), (frame - self.settings.gap, 1)):
            if 0 <= k < len(self.index):
                (i, j), found = self.index[k], self.matches[k]
                far = np.linalg.norm(self.points[j][found[:, 1]] - self.points[i][found[:, 0]], axis=1)
                out[found[far >= self.settings.static_pixels, side]] = True
        return out


def _fit(x: np.ndarray, y: np.ndarray, settings: Any, seed: int, camera: ViewCalibration | None) -> Fit | None:
    if settings.estimator == "five_point":
        assert camera is not None
        return fundamental_from_intrinsics(x, y, camera.intrinsics, settings.threshold, seed)
    return estimate_fundamental(x, y, settings.estimator, settings.threshold, seed)


def pair_error(
    x: np.ndarray, y: np.ndarray, settings: Any, frames: tuple[int, int], camera: ViewCalibration | None = None
) -> FrameError:
    """The figures of one frame pair from its matches x, y (N, 2). OpenCV's random choices are seeded by the first frame."""
    count = len(x)
    if count < settings.min_matches:
        return FrameError(frames, None, None, None, None, count, f"fewer than {settings.min_matches} matches")
    still = np.linalg.norm(y - x, axis=1) < settings.static_pixels
    share = float(still.mean())
    plain = estimate_fundamental(x, y, "ransac", settings.threshold, frames[0])
    everything = None if plain is None else float(np.median(sampson_distance(x, y, plain.fundamental)))
    reason = None if plain else "no fundamental matrix fits"
    moving = inliers = None
    # Matches that stand still fit any geometry and would pull F to one that says nothing about the rest.
    if (~still).sum() >= settings.min_matches:
        ours = _fit(x[~still], y[~still], settings, frames[0], camera)
        if ours is not None:
            moving = float(np.median(sampson_distance(x[~still], y[~still], ours.fundamental)))
            inliers = float(ours.inliers.mean())
    return FrameError(frames, everything, moving, share, inliers, count, reason)


def summarize(view: str, pairs: tuple[FrameError, ...], gap: int = 1) -> ViewResult:
    """Medians over the frame pairs that could be measured; the others are counted, never averaged in."""
    tse = _median(p.cookbook for p in pairs)
    moving = [p.moving for p in pairs if p.moving is not None]
    share = _median(p.static_share for p in pairs)
    if not pairs:
        reason = "a single frame has no motion" if gap == 1 else f"no two frames {gap} apart"
    elif tse is None:
        reason = "no frame pair has enough matches: no texture, or no two frames alike"
    elif not moving:
        reason = "camera and scene stand still: too few matches move"
    else:
        reason = None
    note = None
    if reason is None and share is not None and share > STILL:
        note = (
            f"the camera stands still or nearly so: {share:.0%} of the matches do not move, so tse is near 0 whatever "
            "the video; tse_moving speaks of the rest"
        )
    return ViewResult(
        # Standing still fits any geometry; 0.000 would say nothing, so it is not said.
        view,
        tse if moving else None,
        _median(moving),
        share,
        _median(p.inlier_share for p in pairs),
        _median(p.matches for p in pairs),
        len(pairs),
        sum(p.cookbook is not None for p in pairs),
        len(moving),
        reason,
        note,
        pairs,
    )
