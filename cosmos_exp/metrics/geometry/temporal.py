"""Temporal Sampson error: does one view move like one rigid scene?"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np

from cosmos_exp.config.schema import Sampson
from cosmos_exp.metrics.geometry.epipolar import NO_FIT, cookbook_errors, cookbook_repeats, robust_fit
from cosmos_exp.metrics.geometry.matching import Features, Matcher
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
MOST_WAITING = 512  # frame pairs, 64 KB each, that wait for the first one that moves
STILL = "camera and scene stand still: too few matches move"


@dataclass
class Frame:
    """The keypoints of a frame.

    points: float64 (N, 2), undistorted if there is a camera.
    moving: which of them move to or from a matched frame, bool (N,).
    """

    features: Features
    points: np.ndarray
    moving: np.ndarray


class Track:
    """One view over time. A few batches of its frames are in memory, however many it has.

    Args:
        camera: None: not known.
        threads: the result does not depend on it.
    """

    def __init__(self, view: View, matcher: Matcher, settings: Sampson, camera: ViewCalibration | None, threads: int):
        self.view, self.matcher, self.settings, self.camera, self.threads = view, matcher, settings, camera, threads
        # Whole batches, so that the matcher forms the same ones as of all frames at once; two frames keep a thread busy.
        self.batch = settings.batch_frames * math.ceil(2 * threads / settings.batch_frames)
        self.moves, self.errors = False, list[FrameError]()
        self._waiting: list[tuple[np.ndarray, np.ndarray]] = []  # matched points of pairs after those of `errors`

    def batches(self) -> Iterator[list[Frame]]:
        """Find the keypoints of each frame, once, and match the frames that are `gap` apart.

        Yields:
            the frames in order, as soon as it is known which keypoints move.
        """
        pictures, frames, more = iter(self.view), list[Frame](), True
        while more:
            greys = [cv2.cvtColor(f, cv2.COLOR_RGB2GRAY) for f in itertools.islice(pictures, self.batch)]
            more = len(greys) == self.batch
            for features in self.matcher.features(greys) if greys else ():
                # The matcher gets the pixels as recorded; the geometry gets undistorted points.
                points = self.camera.undistorted(features.points) if self.camera else features.points
                frames.append(Frame(features, points, np.zeros(len(points), dtype=bool)))
            pairs = max(0, len(frames) - self.settings.gap)
            if more:
                pairs -= pairs % self.batch
            self._match(list(zip(frames[:pairs], frames[self.settings.gap :], strict=False)))
            done = pairs if more else len(frames)
            yield frames[:done]
            del frames[:done]

    def _match(self, pairs: list[tuple[Frame, Frame]]) -> None:
        matches = self.matcher.match([(a.features, b.features) for a, b in pairs], self.view.size)
        for (a, b), indices in zip(pairs, matches, strict=True):
            first, second = indices[:, 0], indices[:, 1]
            x, y = a.points[first], b.points[second]
            moves = moving_matches(x, y, self.settings)
            a.moving[first[moves]] = True
            b.moving[second[moves]] = True
            self.moves = self.moves or bool(moves.sum() >= self.settings.min_matches)
            self._waiting.append((x, y))
        # Where no pair has enough moving matches, every robust error is undefined: no fit is needed.
        if self.moves or len(self._waiting) > MOST_WAITING:
            self._measure(True)

    def _measure(self, robust_too: bool) -> None:
        first, gap = len(self.errors), self.settings.gap

        def error(k: int) -> FrameError:
            return pair_error(*self._waiting[k], self.settings, (first + k, first + k + gap), robust_too)

        with ThreadPoolExecutor(self.threads) as pool:
            self.errors += pool.map(error, range(len(self._waiting)))
        self._waiting.clear()

    def result(self) -> Result:
        """The errors of the view over time, after the last batch."""
        self._measure(False)
        return summarize(self.view.name, tuple(self.errors), self.settings)


def moving_matches(x: np.ndarray, y: np.ndarray, settings: Sampson) -> np.ndarray:
    """Which matches move by `sampson.static_pixels` or more, bool (N,)."""
    moves: np.ndarray = np.linalg.norm(y - x, axis=1) >= settings.static_pixels
    return moves


def pair_error(
    x: np.ndarray, y: np.ndarray, settings: Sampson, frames: tuple[int, int], robust_too: bool = True
) -> FrameError:
    """The errors of one frame pair.

    Args:
        x, y: matched points in the first and the second frame, (N, 2).
        frames: the indices of the two frames; the first one seeds the random choices.
        robust_too: False: only the cookbook's error, of a pair in a view where nothing moves.
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


def summarize(view: str, errors: tuple[FrameError, ...], settings: Sampson) -> Result:
    """Medians over the frame pairs that could be measured; the others are counted, never averaged."""
    values = {"tse_mean": mean(column(errors, "tse_mean"))}
    for name in (*TEMPORAL, "static_share", "planar_share", "inlier_share", "matches", "moving_matches"):
        values[name] = median(column(errors, name))
    repeatability = repeated(errors, TEMPORAL)
    moves = max(column(errors, "moving_matches"), default=0) >= settings.min_matches
    if not moves:  # any F fits a static scene: 0.000 would be meaningless
        values |= dict.fromkeys(("tse", "tse_mean", "tse_robust"))
        repeatability = dict.fromkeys(TEMPORAL)
        for error in errors:
            error.values.pop("tse_robust", None)
            if "static_share" in error.values:
                error.lost |= dict.fromkeys(TEMPORAL[1:], STILL)
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
