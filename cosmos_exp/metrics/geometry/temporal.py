"""Temporal Sampson error: does one view move like one rigid scene?"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from cosmos_exp.config.schema import Sampson as SampsonSettings
from cosmos_exp.metrics.geometry.calibration import ViewCalibration
from cosmos_exp.metrics.geometry.epipolar import (
    Fit,
    estimate_fundamental,
    fundamental_from_intrinsics,
    sampson_distance,
)
from cosmos_exp.metrics.geometry.matching import Features, Matcher, Matches
from cosmos_exp.metrics.geometry.results import FrameError, ViewResult, median
from cosmos_exp.metrics.geometry.views import View

# Above this median share of static matches, the median over all matches is that of matches that any F fits.
MOSTLY_STATIC = 0.5


@dataclass(frozen=True)
class Track:
    """One view over time: the keypoints of its frames and the matches between frames.

    size: (height, width).
    points: per frame, float64 (N, 2), undistorted if there is a camera.
    pairs: indices of the two frames of each pair, `gap` frames apart.
    matches: per pair, int (M, 2): indices into the points of the first and the second frame.
    """

    name: str
    size: tuple[int, int]
    camera: ViewCalibration | None
    features: list[Features]
    points: list[np.ndarray]
    pairs: list[tuple[int, int]]
    matches: list[Matches]

    def matched_points(self) -> tuple[list[np.ndarray], list[np.ndarray]]:
        """Per pair, the matched points in the first and in the second frame, (M, 2) each."""
        matched = list(zip(self.pairs, self.matches, strict=True))
        x = [self.points[i][found[:, 0]] for (i, _), found in matched]
        return x, [self.points[j][found[:, 1]] for (_, j), found in matched]

    def moving(self, frame: int, gap: int, static_pixels: float) -> np.ndarray:
        """Which keypoints of a frame move by at least `static_pixels` to or from a matched frame, bool (N,)."""
        out = np.zeros(len(self.points[frame]), dtype=bool)
        for k, side in ((frame, 0), (frame - gap, 1)):
            if 0 <= k < len(self.pairs):
                (i, j), found = self.pairs[k], self.matches[k]
                distance = np.linalg.norm(self.points[j][found[:, 1]] - self.points[i][found[:, 0]], axis=1)
                out[found[distance >= static_pixels, side]] = True
        return out


def track_view(view: View, matcher: Matcher, gap: int, camera: ViewCalibration | None) -> Track:
    """Find the keypoints of each frame, once, and match the frames that are `gap` apart."""
    features = matcher.features([cv2.cvtColor(f, cv2.COLOR_RGB2GRAY) for f in view.frames])
    # The matcher gets the pixels as recorded; the geometry gets undistorted points.
    points = [camera.undistorted(f.points) if camera else f.points for f in features]
    size = (view.frames.shape[1], view.frames.shape[2])
    pairs = [(i, i + gap) for i in range(len(features) - gap)]
    matches = matcher.match([(features[i], features[j]) for i, j in pairs], size)
    return Track(view.name, size, camera, features, points, pairs, matches)


def pair_error(
    x: np.ndarray,
    y: np.ndarray,
    settings: SampsonSettings,
    frames: tuple[int, int],
    camera: ViewCalibration | None = None,
) -> FrameError:
    """The errors of one frame pair.

    Args:
        x, y: matched points in the first and the second frame, (N, 2).
        frames: the indices of the two frames; the first one seeds OpenCV's random choices.
        camera: required by `sampson.estimator=five_point`.
    """
    count = len(x)
    if count < settings.min_matches:
        return FrameError.undefined(frames, count, f"fewer than {settings.min_matches} matches")
    static = np.linalg.norm(y - x, axis=1) < settings.static_pixels
    share = float(static.mean())
    plain = estimate_fundamental(x, y, "ransac", settings.threshold, frames[0])
    cookbook = None if plain is None else float(np.median(sampson_distance(x, y, plain.fundamental)))
    reason = None if plain else "no fundamental matrix fits"
    moving = inliers = None
    # Any F fits static matches. They would pull the estimate to one that is wrong for the moving ones.
    if (~static).sum() >= settings.min_matches:
        fit = _fit(x[~static], y[~static], settings, frames[0], camera)
        if fit is not None:
            moving = float(np.median(sampson_distance(x[~static], y[~static], fit.fundamental)))
            inliers = float(fit.inliers.mean())
    return FrameError(frames, cookbook, moving, share, inliers, count, reason)


def _fit(
    x: np.ndarray, y: np.ndarray, settings: SampsonSettings, seed: int, camera: ViewCalibration | None
) -> Fit | None:
    if settings.estimator == "five_point":
        assert camera is not None
        return fundamental_from_intrinsics(x, y, camera.intrinsics, settings.threshold, seed)
    return estimate_fundamental(x, y, settings.estimator, settings.threshold, seed)


def summarize(view: str, pairs: tuple[FrameError, ...], gap: int = 1) -> ViewResult:
    """Medians over the frame pairs that could be measured; the others are counted, never averaged."""
    tse = median(p.cookbook for p in pairs)
    moving = [p.moving for p in pairs if p.moving is not None]
    share = median(p.static_share for p in pairs)
    if not pairs:
        reason = "a single frame has no motion" if gap == 1 else f"no two frames {gap} apart"
    elif tse is None:
        reason = "no frame pair has enough matches: no texture, or no two frames alike"
    elif not moving:
        reason = "camera and scene stand still: too few matches move"
    else:
        reason = None
    note = None
    if reason is None and share is not None and share > MOSTLY_STATIC:
        note = (
            f"the camera stands still or nearly so: {share:.0%} of the matches do not move, so tse is near 0 whatever "
            "the video; tse_moving speaks of the rest"
        )
    return ViewResult(
        view=view,
        tse=tse if moving else None,  # any F fits a static scene: 0.000 would be meaningless
        tse_moving=median(moving),
        static_share=share,
        inlier_share=median(p.inlier_share for p in pairs),
        matches=median(p.matches for p in pairs),
        pairs=len(pairs),
        pairs_measured=sum(p.cookbook is not None for p in pairs),
        pairs_moving=len(moving),
        reason=reason,
        note=note,
        per_pair=pairs,
    )
