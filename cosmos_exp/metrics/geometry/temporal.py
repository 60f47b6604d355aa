"""Temporal Sampson error: does one view move like one rigid scene?"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import cv2
import numpy as np

from cosmos_exp.config.schema import Sampson as SampsonSettings
from cosmos_exp.metrics.geometry.calibration import ViewCalibration
from cosmos_exp.metrics.geometry.epipolar import NO_FIT, cookbook_errors, cookbook_fundamental, sampson_distance
from cosmos_exp.metrics.geometry.matching import Features, Matcher, Matches
from cosmos_exp.metrics.geometry.results import TEMPORAL, FrameError, ViewResult, lower_median, mean, median, repeated
from cosmos_exp.metrics.geometry.robust import RobustFit, robust_fit
from cosmos_exp.metrics.geometry.views import View

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
    robust_too: bool = True,
) -> FrameError:
    """The errors of one frame pair.

    Args:
        x, y: matched points in the first and the second frame, (N, 2).
        frames: the indices of the two frames; the first one seeds the random choices.
        camera: required by `sampson.estimator=five_point`.
        robust_too: False: only the cookbook's error.
    """
    count, moves = len(x), moving_matches(x, y, settings)
    moving_count = int(moves.sum())
    if count < settings.min_matches:
        few = f"{FEWER} {settings.min_matches} matches"
        return FrameError(frames, count, moving_matches=moving_count, lost=dict.fromkeys(TEMPORAL, few))
    fundamental = cookbook_fundamental(x, y)
    plain = None if fundamental is None else sampson_distance(y, x, fundamental)
    fits: dict[str, RobustFit | str] = dict.fromkeys(TEMPORAL[1:], STILL)
    if robust_too:
        fits = _robust_fits(x, y, moves, settings, frames[0], None if camera is None else camera.intrinsics)
    found = {m: fit for m, fit in fits.items() if isinstance(fit, RobustFit)}
    robust, moving = found.get("tse_robust"), found.get("tse_moving")
    repeats = {"tse": cookbook_repeats(x, y, settings.repeats if robust_too else 0, frames[0])}
    repeats |= {m: fit.medians for m, fit in found.items()}
    return FrameError(
        frames,
        count,
        cookbook=None if plain is None else lower_median(plain),
        mean=None if plain is None else float(plain.mean()),
        robust=None if robust is None else robust.median,
        moving=None if moving is None else moving.median,
        static_share=1 - moving_count / count,
        inlier_share=None if moving is None else float((moving.errors < settings.threshold).mean()),
        moving_matches=moving_count,
        moves=moving_count >= settings.min_matches,
        lost={
            m: fit
            for m, fit in {"tse": NO_FIT if plain is None else "", **fits}.items()
            if isinstance(fit, str) and fit
        },
        repeats={m: values for m, values in repeats.items() if values},
    )


def _robust_fits(
    x: np.ndarray, y: np.ndarray, moves: np.ndarray, settings: SampsonSettings, seed: int, intrinsics: np.ndarray | None
) -> dict[str, RobustFit | str]:
    """The fits of `tse_robust` and `tse_moving` to a pair's matches, or why there is none."""
    robust = robust_fit(x, y, settings, seed, intrinsics)
    if moves.all():
        return {"tse_robust": robust, "tse_moving": robust}
    if moves.sum() < settings.min_matches:
        return {"tse_robust": robust, "tse_moving": f"{FEWER} {settings.min_matches} moving matches"}
    # Any F fits static matches. They would pull the estimate to one that is wrong for the moving ones.
    return {"tse_robust": robust, "tse_moving": robust_fit(x[moves], y[moves], settings, seed, intrinsics)}


def moving_matches(x: np.ndarray, y: np.ndarray, settings: SampsonSettings) -> np.ndarray:
    """Which matches move by `sampson.static_pixels` or more, bool (N,)."""
    moves: np.ndarray = np.linalg.norm(y - x, axis=1) >= settings.static_pixels
    return moves


def cookbook_repeats(x: np.ndarray, y: np.ndarray, repeats: int, seed: int) -> tuple[float, ...]:
    """The cookbook's median error of the same matches in several random orders, pixels."""
    rng = np.random.RandomState(seed)
    errors = (cookbook_errors(x, y, rng.permutation(len(x))) for _ in range(repeats))
    return tuple(lower_median(e) for e in errors if e is not None)


def summarize(view: str, pairs: tuple[FrameError, ...], gap: int = 1) -> ViewResult:
    """Medians over the frame pairs that could be measured; the others are counted, never averaged."""
    tse = median(p.cookbook for p in pairs)
    moving = [p.moving for p in pairs if p.moving is not None]
    share = median(p.static_share for p in pairs)
    defined = any(p.moves for p in pairs)  # any F fits a static scene: 0.000 would be meaningless
    reason, note = _reason_and_note(tse, defined, share, len(pairs), gap)
    return ViewResult(
        view=view,
        tse=tse if defined else None,
        tse_mean=mean(p.mean for p in pairs) if defined else None,
        tse_robust=median(p.robust for p in pairs) if defined else None,
        tse_moving=median(moving),
        static_share=share,
        inlier_share=median(p.inlier_share for p in pairs),
        matches=median(p.matches for p in pairs),
        moving_matches=median(p.moving_matches for p in pairs),
        pairs=len(pairs),
        pairs_measured=sum(p.cookbook is not None for p in pairs),
        pairs_moving=len(moving),
        pairs_lost={m: dict(Counter(p.lost[m] for p in pairs if m in p.lost)) for m in TEMPORAL},
        repeatability={m: repeated(pairs, m) if defined else None for m in TEMPORAL},
        reason=reason,
        note=note,
        per_pair=pairs,
    )


def _reason_and_note(
    tse: float | None, moves: bool, share: float | None, pairs: int, gap: int
) -> tuple[str | None, str | None]:
    """Why the errors are undefined, and a warning where they mean little."""
    if not pairs:
        return ("a single frame has no motion" if gap == 1 else f"no two frames {gap} apart"), None
    if tse is None:
        return "no frame pair has enough matches: no texture, or no two frames alike", None
    if not moves:
        return STILL, None
    if share is not None and share > MOSTLY_STATIC:
        return None, (
            f"the camera stands still or nearly so: {share:.0%} of the matches do not move, so tse and tse_robust are near 0 "
            "whatever the video; tse_moving speaks of the rest"
        )
    return None, None
