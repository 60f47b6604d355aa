"""Temporal Sampson error: does one view move like one rigid scene?"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np

from cosmos_exp.config.schema import Sampson as SampsonSettings
from cosmos_exp.metrics.geometry.epipolar import NO_FIT, cookbook_errors, cookbook_repeats, robust_fit
from cosmos_exp.metrics.geometry.matching import Features, Matcher, Matches
from cosmos_exp.metrics.geometry.results import (
    TEMPORAL,
    FrameError,
    Result,
    column,
    lower_median,
    mean,
    median,
    repeated,
)
from cosmos_exp.metrics.geometry.views import View, ViewCalibration

# Above this median share of static matches, the median over all matches is that of matches that any F fits.
MOSTLY_STATIC = 0.5
# Above this median share of moving matches on one homography, F is undetermined: each F = [e]x H fits, whatever the epipole e
# (Hartley and Zisserman, section 11.9.2). Recordings of robots have 0.2 to 0.75, a camera that only turns 0.99.
MOSTLY_PLANAR = 0.9
STILL = "camera and scene stand still: too few matches move"


@dataclass(frozen=True)
class Track:
    """One view over time: the keypoints of its frames and the matches between frames `gap` apart.

    points: per frame, float64 (N, 2), undistorted if there is a camera.
    matches: per pair of frames k and k + gap, int (M, 2): indices into the points of the first and the second frame.
    """

    view: View
    features: list[Features]
    points: list[np.ndarray]
    gap: int
    matches: list[Matches]

    def matched_points(self) -> list[tuple[np.ndarray, np.ndarray]]:
        """Per pair, the matched points in the first and in the second frame, (M, 2) each."""
        matched = []
        for first, second, indices in zip(self.points, self.points[self.gap :], self.matches, strict=False):
            matched.append((first[indices[:, 0]], second[indices[:, 1]]))
        return matched

    def moving(self, settings: SampsonSettings) -> list[np.ndarray]:
        """Per frame, which of its keypoints move to or from a matched frame, bool (N,)."""
        moving = [np.zeros(len(points), dtype=bool) for points in self.points]
        for k, (x, y) in enumerate(self.matched_points()):
            indices = self.matches[k][moving_matches(x, y, settings)]
            moving[k][indices[:, 0]] = True
            moving[k + self.gap][indices[:, 1]] = True
        return moving


def track_view(view: View, matcher: Matcher, gap: int, camera: ViewCalibration | None) -> Track:
    """Find the keypoints of each frame, once, and match the frames that are `gap` apart."""
    features = matcher.features([cv2.cvtColor(f, cv2.COLOR_RGB2GRAY) for f in view.frames])
    # The matcher gets the pixels as recorded; the geometry gets undistorted points.
    points = [feature.points for feature in features]
    if camera:
        points = list(map(camera.undistorted, points))
    matches = matcher.match(list(zip(features, features[gap:], strict=False)), view.size)
    return Track(view, features, points, gap, matches)


def moving_matches(x: np.ndarray, y: np.ndarray, settings: SampsonSettings) -> np.ndarray:
    """Which matches move by `sampson.static_pixels` or more, bool (N,)."""
    moves: np.ndarray = np.linalg.norm(y - x, axis=1) >= settings.static_pixels
    return moves


def view_error(track: Track, settings: SampsonSettings, threads: int) -> Result:
    """The errors of a view over time."""
    matched, moves = track.matched_points(), False
    for x, y in matched:
        # Where no pair has enough moving matches, every error is undefined: no robust fit is needed.
        moves = moves or moving_matches(x, y, settings).sum() >= settings.min_matches

    def error(k: int) -> FrameError:
        return pair_error(*matched[k], settings, (k, k + track.gap), moves)

    with ThreadPoolExecutor(threads) as pool:
        return summarize(track.view.name, tuple(pool.map(error, range(len(matched)))), settings)


def pair_error(
    x: np.ndarray, y: np.ndarray, settings: SampsonSettings, frames: tuple[int, int], robust_too: bool = True
) -> FrameError:
    """The errors of one frame pair.

    Args:
        x, y: matched points in the first and the second frame, (N, 2).
        frames: the indices of the two frames; the first one seeds the random choices.
        robust_too: False: only the cookbook's error.
    """
    moves = moving_matches(x, y, settings)
    moving = int(moves.sum())
    error = FrameError(frames, {"matches": len(x), "moving_matches": moving})
    if len(x) < settings.min_matches:
        error.lost = dict.fromkeys(TEMPORAL, f"fewer than {settings.min_matches} matches")
        return error
    error.values["static_share"] = 1 - moving / len(x)
    plain = cookbook_errors(x, y)
    if plain is None:
        error.lost["tse"] = NO_FIT
    else:
        error.values |= {"tse": lower_median(plain), "tse_mean": float(plain.mean())}
    if not robust_too:
        error.lost |= dict.fromkeys(TEMPORAL[1:], STILL)
        return error
    error.repeats["tse"] = list(map(lower_median, cookbook_repeats(x, y, settings.repeats, frames[0])))
    fit = robust_fit(x, y, settings, frames[0])
    error.add_fit("tse_robust", fit)
    if moving < settings.min_matches:
        error.lost["tse_moving"] = f"fewer than {settings.min_matches} moving matches"
        return error
    if not moves.all():
        # Any F fits static matches. They would pull the estimate to one that is wrong for the moving ones.
        fit = robust_fit(x[moves], y[moves], settings, frames[0])
    error.add_fit("tse_moving", fit)
    error.values["planar_share"] = planar_share(x[moves], y[moves], settings.threshold)
    if fit is not None:
        error.values["inlier_share"] = float((fit.errors < settings.threshold).mean())
    return error


def planar_share(x: np.ndarray, y: np.ndarray, threshold: float) -> float:
    """The share of matches (N, 2) that one homography moves to within `threshold` pixels of the second image's points."""
    _, inliers = cv2.findHomography(x, y, cv2.RANSAC, threshold)
    return 0.0 if inliers is None else float(inliers.mean())


def summarize(view: str, errors: tuple[FrameError, ...], settings: SampsonSettings) -> Result:
    """Medians over the frame pairs that could be measured; the others are counted, never averaged."""
    values = {"tse_mean": mean(column(errors, "tse_mean"))}
    for name in (*TEMPORAL, "static_share", "planar_share", "inlier_share", "matches", "moving_matches"):
        values[name] = median(column(errors, name))
    repeatability = repeated(errors, TEMPORAL)
    moves = max(column(errors, "moving_matches"), default=0) >= settings.min_matches
    if not moves:  # any F fits a static scene: 0.000 would be meaningless
        values |= dict.fromkeys(("tse", "tse_mean", "tse_robust"))
        repeatability = dict.fromkeys(TEMPORAL)
    reason, note, share = None, None, values["static_share"]
    if not errors:
        reason = "a single frame has no motion" if settings.gap == 1 else f"no two frames {settings.gap} apart"
    elif not column(errors, "tse"):
        reason = "no frame pair has enough matches: no texture, or no two frames alike"
    elif not moves:
        reason = STILL
    elif share is not None and share > MOSTLY_STATIC:
        note = (
            f"the camera stands still or nearly so: {share:.0%} of the matches do not move, so tse and tse_robust are near 0 "
            "whatever the video; tse_moving speaks of the rest"
        )
    elif (values["planar_share"] or 0.0) > MOSTLY_PLANAR:
        note = (
            f"one homography explains {values['planar_share']:.0%} of the moving matches (a camera that only turns, or a flat scene): the "
            "epipolar geometry is undetermined, so tse, tse_robust and tse_moving are near 0 whatever the video"
        )
    return Result(view, values, repeatability, errors, reason, note)
