"""Cross-view Sampson error: do two simultaneous views show the same scene?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cosmos_exp.config.schema import Sampson as SampsonSettings
from cosmos_exp.metrics.geometry.epipolar import (
    NO_FIT,
    RobustFit,
    cookbook_errors,
    cookbook_repeats,
    fixed_fit,
    robust_fit,
)
from cosmos_exp.metrics.geometry.matching import Matcher
from cosmos_exp.metrics.geometry.results import (
    ACROSS,
    CrossResult,
    FrameError,
    column,
    lower_median,
    mean,
    median,
    repeatability_of,
    repeated,
)
from cosmos_exp.metrics.geometry.temporal import Track
from cosmos_exp.metrics.geometry.views import ViewCalibration, fundamental_of_views

# Matches that a frame needs for an error of its own. F comes from all frames, so a few are enough.
FEW = 5


@dataclass(frozen=True)
class ViewMatches:
    """Matches between two views, those of all frames together.

    x, y: points in the first and the second view, (N, 2).
    moving: whether a match moves over time in either view, bool (N,).
    counts: how many of the N matches each frame has.
    """

    names: tuple[str, str]
    x: np.ndarray
    y: np.ndarray
    moving: np.ndarray
    counts: list[int]


@dataclass(frozen=True)
class ViewGeometry:
    """The epipolar geometry of two views of a fixed rig: one F for all frames, and the errors of all matches under it.

    plain: the errors under the cookbook's F, for `cse`, (N,) of the pooled matches.
    plain_repeats: likewise with the matches in other orders, one array per repetition.
    ours: F and errors for `cse_robust` and `cse_moving`, and `source` its origin.
    reason: why one of the two has no F, if so.
    """

    plain: np.ndarray | None
    plain_repeats: list[np.ndarray]
    ours: RobustFit | None
    source: str
    reason: str | None


def match_views(a: Track, b: Track, matcher: Matcher, settings: SampsonSettings) -> ViewMatches:
    """Match the simultaneous frames of two views."""
    # One size for both: LightGlue normalises by it. Views of different sizes keep their proportions in pixels.
    size = (max(a.size[0], b.size[0]), max(a.size[1], b.size[1]))
    matched = matcher.match(list(zip(a.features, b.features, strict=False)), size)
    x, y, moving = [np.zeros((0, 2))], [np.zeros((0, 2))], [np.zeros(0, dtype=bool)]
    for t, indices in enumerate(matched):
        first, second = indices[:, 0], indices[:, 1]
        x.append(a.points[t][first])
        y.append(b.points[t][second])
        moves_a = a.moving(t, settings.gap, settings.static_pixels)[first]
        moves_b = b.moving(t, settings.gap, settings.static_pixels)[second]
        moving.append(moves_a | moves_b)
    names, counts = (a.name, b.name), list(map(len, matched))
    return ViewMatches(names, np.concatenate(x), np.concatenate(y), np.concatenate(moving), counts)


def view_geometry(
    matches: ViewMatches,
    settings: SampsonSettings,
    cameras: tuple[ViewCalibration | None, ViewCalibration | None] = (None, None),
) -> ViewGeometry:
    """F of two views, from the matches of all frames, or from the calibration if both cameras have a pose.

    Raises:
        UserError: the calibration defines no F.
    """
    x, y, reason = matches.x, matches.y, None
    estimator = settings.estimator.replace("five_point", "magsac")
    source = f"{estimator} over all frames"
    # With static cameras and a static scene the same few points come back in every frame. They add no information on F.
    distinct = len(np.unique(np.rint(np.hstack([x, y])), axis=0))
    if distinct < settings.min_matches:
        few = f"the views share {distinct} different matches, fewer than {settings.min_matches}"
        return ViewGeometry(None, [], None, source, few if matches.counts else "no frame")
    plain, repeats = cookbook_errors(x, y), cookbook_repeats(x, y, settings.repeats, 0)
    known = fundamental_of_views(matches.names, *cameras)
    if known is None:
        ours = robust_fit(x, y, settings.updated({"estimator": estimator}), 0)
    else:
        source, ours = "calibration", fixed_fit(x, y, known, settings.repeats)
    if ours is None or plain is None:
        reason = NO_FIT
    return ViewGeometry(plain, repeats, ours, source, reason)


def cross_error(matches: ViewMatches, geometry: ViewGeometry, settings: SampsonSettings) -> CrossResult:
    """The errors of two views under their geometry: medians over the matches of a frame, then over frames."""
    frames, start, moving = [], 0, matches.moving
    for t, count in enumerate(matches.counts):
        part = slice(start, start + count)
        frames.append(_frame_error(t, part, moving[part], geometry, settings))
        start += count
    measured = sum(not frame.lost for frame in frames)
    repeatability = {measure: repeated(frames, measure) for measure in ACROSS}
    reason, ours, cse_moving, inlier_share = geometry.reason, geometry.ours, None, None
    if not measured:
        reason = reason or f"no frame has {FEW} matches"
    elif ours is not None and moving.sum() >= settings.min_matches:
        # One frame has few moving matches, so those of all frames are pooled, as for F.
        cse_moving = float(np.median(ours.errors[moving]))
        repeatability["cse_moving"] = repeatability_of(np.median(ours.all_errors[:, moving], axis=1).tolist())
    if ours is not None:
        inlier_share = float((ours.errors < settings.threshold).mean())
    return CrossResult(
        views=matches.names,
        geometry=geometry.source,
        matches=median(column(frames, "matches")),
        frames=len(frames),
        frames_measured=measured,
        repeatability=repeatability,
        cse=median(column(frames, "cookbook")),
        cse_mean=mean(column(frames, "mean")),
        cse_robust=median(column(frames, "robust")),
        cse_moving=cse_moving,
        inlier_share=inlier_share,
        reason=reason,
        errors=tuple(frames),
    )


def _frame_error(
    t: int, part: slice, moving: np.ndarray, geometry: ViewGeometry, settings: SampsonSettings
) -> FrameError:
    """The errors of frame t, whose matches are this part of the pooled ones."""
    error = FrameError((t, t), len(moving), moving_matches=int(moving.sum()))
    plain, ours = geometry.plain, geometry.ours
    if len(moving) < FEW or (plain is None and ours is None):
        error.lost = dict.fromkeys(ACROSS, f"fewer than {FEW} matches")
        return error
    if plain is not None:
        error.cookbook, error.mean = lower_median(plain[part]), float(plain[part].mean())
    error.repeats["cse"] = [lower_median(repeat[part]) for repeat in geometry.plain_repeats]
    if ours is not None:
        error.robust = float(np.median(ours.errors[part]))
        error.repeats["cse_robust"] = np.median(ours.all_errors[:, part], axis=1).tolist()
        if error.moving_matches >= FEW:
            error.moving = float(np.median(ours.errors[part][moving]))
    return error
