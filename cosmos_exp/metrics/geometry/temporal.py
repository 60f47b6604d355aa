"""Temporal Sampson error: does one view move like one rigid scene?"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from cosmos_exp.config.schema import Sampson as SampsonSettings
from cosmos_exp.metrics.geometry.epipolar import NO_FIT, cookbook_errors, cookbook_repeats, robust_fit
from cosmos_exp.metrics.geometry.matching import Features, Matcher, Matches
from cosmos_exp.metrics.geometry.results import (
    TEMPORAL,
    FrameError,
    ViewResult,
    column,
    count_lost,
    lower_median,
    mean,
    median,
    repeated,
)
from cosmos_exp.metrics.geometry.views import View, ViewCalibration

# Above this median share of static matches, the median over all matches is that of matches that any F fits.
MOSTLY_STATIC = 0.5
FEWER = "fewer than"  # how the reasons begin that are no failure of a fit
STILL = "camera and scene stand still: too few matches move"


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
        x, y = [], []
        for (i, j), matches in zip(self.pairs, self.matches, strict=True):
            x.append(self.points[i][matches[:, 0]])
            y.append(self.points[j][matches[:, 1]])
        return x, y

    def moving(self, frame: int, gap: int, static_pixels: float) -> np.ndarray:
        """Which keypoints of a frame move by at least `static_pixels` to or from a matched frame, bool (N,)."""
        moves = np.zeros(len(self.points[frame]), dtype=bool)
        for pair, side in ((frame, 0), (frame - gap, 1)):
            if 0 <= pair < len(self.pairs):
                (i, j), matches = self.pairs[pair], self.matches[pair]
                distance = np.linalg.norm(self.points[j][matches[:, 1]] - self.points[i][matches[:, 0]], axis=1)
                moves[matches[distance >= static_pixels, side]] = True
        return moves


def track_view(view: View, matcher: Matcher, gap: int, camera: ViewCalibration | None) -> Track:
    """Find the keypoints of each frame, once, and match the frames that are `gap` apart."""
    features = matcher.features([cv2.cvtColor(f, cv2.COLOR_RGB2GRAY) for f in view.frames])
    # The matcher gets the pixels as recorded; the geometry gets undistorted points.
    points = column(features, "points")
    if camera:
        points = list(map(camera.undistorted, points))
    size = (view.frames.shape[1], view.frames.shape[2])
    numbers = range(len(features))
    pairs = list(zip(numbers, numbers[gap:], strict=False))
    matches = matcher.match(list(zip(features, features[gap:], strict=False)), size)
    return Track(view.name, size, camera, features, points, pairs, matches)


def pair_error(
    x: np.ndarray,
    y: np.ndarray,
    settings: SampsonSettings,
    frames: tuple[int, int],
    camera: ViewCalibration | None = None,
    robust_too: bool = True,
) -> FrameError:
    """The errors of one frame pair.

    Args:
        x, y: matched points in the first and the second frame, (N, 2).
        frames: the indices of the two frames; the first one seeds the random choices.
        camera: required by `sampson.estimator=five_point`.
        robust_too: False: only the cookbook's error.
    """
    moves = moving_matches(x, y, settings)
    error = FrameError(frames, len(x), moving_matches=int(moves.sum()))
    if len(x) < settings.min_matches:
        error.lost = dict.fromkeys(TEMPORAL, f"{FEWER} {settings.min_matches} matches")
        return error
    error.static_share = 1 - error.moving_matches / len(x)
    plain = cookbook_errors(x, y)
    if plain is None:
        error.lost["tse"] = NO_FIT
    else:
        error.cookbook, error.mean = lower_median(plain), float(plain.mean())
    if not robust_too:
        error.lost |= dict.fromkeys(TEMPORAL[1:], STILL)
        return error
    error.repeats["tse"] = list(map(lower_median, cookbook_repeats(x, y, settings.repeats, frames[0])))
    intrinsics = camera.intrinsics if camera else None
    fit = robust_fit(x, y, settings, frames[0], intrinsics)
    if fit is None:
        error.lost["tse_robust"] = NO_FIT
    else:
        error.robust, error.repeats["tse_robust"] = fit.median, fit.medians
    if error.moving_matches < settings.min_matches:
        error.lost["tse_moving"] = f"{FEWER} {settings.min_matches} moving matches"
        return error
    if not moves.all():
        # Any F fits static matches. They would pull the estimate to one that is wrong for the moving ones.
        fit = robust_fit(x[moves], y[moves], settings, frames[0], intrinsics)
    if fit is None:
        error.lost["tse_moving"] = NO_FIT
    else:
        error.moving, error.repeats["tse_moving"] = fit.median, fit.medians
        error.inlier_share = float((fit.errors < settings.threshold).mean())
    return error


def moving_matches(x: np.ndarray, y: np.ndarray, settings: SampsonSettings) -> np.ndarray:
    """Which matches move by `sampson.static_pixels` or more, bool (N,)."""
    moves: np.ndarray = np.linalg.norm(y - x, axis=1) >= settings.static_pixels
    return moves


def summarize(view: str, pairs: tuple[FrameError, ...], settings: SampsonSettings) -> ViewResult:
    """Medians over the frame pairs that could be measured; the others are counted, never averaged."""
    share, errors, means = median(column(pairs, "static_share")), column(pairs, "cookbook"), column(pairs, "mean")
    moves = max(column(pairs, "moving_matches"), default=0) >= settings.min_matches
    values, repeatability = dict.fromkeys(("tse", "tse_mean", "tse_robust")), dict.fromkeys(TEMPORAL)
    if moves:  # any F fits a static scene: 0.000 would be meaningless
        values = {"tse": median(errors), "tse_mean": mean(means), "tse_robust": median(column(pairs, "robust"))}
        repeatability = {measure: repeated(pairs, measure) for measure in TEMPORAL}
    reason = note = None
    if not pairs:
        reason = "a single frame has no motion" if settings.gap == 1 else f"no two frames {settings.gap} apart"
    elif not errors:
        reason = "no frame pair has enough matches: no texture, or no two frames alike"
    elif not moves:
        reason = STILL
    elif share is not None and share > MOSTLY_STATIC:
        note = (
            f"the camera stands still or nearly so: {share:.0%} of the matches do not move, so tse and tse_robust are near 0 "
            "whatever the video; tse_moving speaks of the rest"
        )
    return ViewResult(
        view=view,
        **values,
        tse_moving=median(column(pairs, "moving")),
        static_share=share,
        inlier_share=median(column(pairs, "inlier_share")),
        matches=median(column(pairs, "matches")),
        moving_matches=median(column(pairs, "moving_matches")),
        pairs=len(pairs),
        pairs_measured=len(errors),
        pairs_moving=len(column(pairs, "moving")),
        pairs_lost=count_lost(pairs),
        repeatability=repeatability,
        reason=reason,
        note=note,
        errors=pairs,
    )
