"""Cross-view Sampson error: do two simultaneous views show the same scene?"""

from __future__ import annotations

from dataclasses import dataclass, replace

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
    """Matches between two views, per frame.

    x, y: points in the first and the second view, (N, 2).
    moving: whether a match moves over time in either view, bool (N,).
    """

    names: tuple[str, str]
    x: list[np.ndarray]
    y: list[np.ndarray]
    moving: list[np.ndarray]

    def pooled(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """x, y and moving of all frames together."""
        none = np.zeros((0, 2))
        return (
            np.concatenate([*self.x, none]),
            np.concatenate([*self.y, none]),
            np.concatenate([*self.moving, none[:, 0].astype(bool)]),
        )


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
    reason: str | None = None


def match_views(a: Track, b: Track, matcher: Matcher, settings: SampsonSettings) -> ViewMatches:
    """Match the simultaneous frames of two views."""
    # One size for both: LightGlue normalises by it. Views of different sizes keep their proportions in pixels.
    size = (max(a.size[0], b.size[0]), max(a.size[1], b.size[1]))
    matched = matcher.match(list(zip(a.features, b.features, strict=False)), size)
    matches = ViewMatches((a.name, b.name), [], [], [])
    for t, indices in enumerate(matched):
        first, second = indices[:, 0], indices[:, 1]
        matches.x.append(a.points[t][first])
        matches.y.append(b.points[t][second])
        moves_a = a.moving(t, settings.gap, settings.static_pixels)[first]
        moves_b = b.moving(t, settings.gap, settings.static_pixels)[second]
        matches.moving.append(moves_a | moves_b)
    return matches


def view_geometry(
    matches: ViewMatches,
    settings: SampsonSettings,
    cameras: tuple[ViewCalibration | None, ViewCalibration | None] = (None, None),
) -> ViewGeometry:
    """F of two views, from the matches of all frames, or from the calibration if both cameras have a pose.

    Raises:
        UserError: the calibration defines no F.
    """
    x, y, _ = matches.pooled()
    estimator = settings.estimator.replace("five_point", "magsac")
    source = f"{estimator} over all frames"
    # With static cameras and a static scene the same few points come back in every frame. They add no information on F.
    distinct = len(np.unique(np.rint(np.hstack([x, y])), axis=0))
    if distinct < settings.min_matches:
        few = f"the views share {distinct} different matches, fewer than {settings.min_matches}"
        return ViewGeometry(None, [], None, source, few if matches.x else "no frame")
    plain, repeats = cookbook_errors(x, y), cookbook_repeats(x, y, settings.repeats, 0)
    known = fundamental_of_views(matches.names, *cameras)
    if known is None:
        ours = robust_fit(x, y, settings.updated({"estimator": estimator}), 0)
    else:
        source, ours = "calibration", fixed_fit(x, y, known, settings.repeats)
    if ours is None or plain is None:
        return ViewGeometry(plain, repeats, ours, source, NO_FIT)
    return ViewGeometry(plain, repeats, ours, source)


def cross_error(matches: ViewMatches, geometry: ViewGeometry, settings: SampsonSettings) -> CrossResult:
    """The errors of two views under their geometry: medians over the matches of a frame, then over frames."""
    frames, measured, start = [], 0, 0
    for t, moving in enumerate(matches.moving):
        part = slice(start, start + len(moving))
        frames.append(_frame_error(t, part, moving, geometry, settings))
        start = part.stop
        measured += not frames[-1].lost
    ours, moving = geometry.ours, matches.pooled()[2]
    result = CrossResult(
        views=matches.names,
        geometry=geometry.source,
        matches=median(column(frames, "matches")),
        frames=len(frames),
        frames_measured=measured,
        repeatability={m: repeated(frames, m) for m in ACROSS},
        cse=median(column(frames, "cookbook")),
        cse_mean=mean(column(frames, "mean")),
        cse_robust=median(column(frames, "robust")),
        inlier_share=float((ours.errors < settings.threshold).mean()) if ours else None,
        reason=geometry.reason,
        per_frame=tuple(frames),
    )
    if geometry.plain is None and ours is None:
        return result
    if not measured:
        return replace(result, reason=f"no frame has {FEW} matches")
    if ours is None or moving.sum() < settings.min_matches:
        return result
    # One frame has few moving matches, so those of all frames are pooled, as for F.
    repeats = np.median(ours.all_errors[:, moving], axis=1).tolist()
    repeatability = {**result.repeatability, "cse_moving": repeatability_of(repeats)}
    return replace(result, cse_moving=float(np.median(ours.errors[moving])), repeatability=repeatability)


def _frame_error(
    t: int, part: slice, moving: np.ndarray, geometry: ViewGeometry, settings: SampsonSettings
) -> FrameError:
    """The errors of frame t, whose matches are this part of the pooled ones."""
    error = FrameError((t, t), len(moving))
    if geometry.plain is None and geometry.ours is None:
        error.lost = dict.fromkeys(ACROSS, "too few matches")
        return error
    error.moving_matches = int(moving.sum())
    if len(moving) < FEW:
        error.lost = dict.fromkeys(ACROSS, f"fewer than {FEW} matches")
        return error
    error.static_share = float(1 - moving.mean())
    error.repeats["cse"] = tuple(lower_median(r[part]) for r in geometry.plain_repeats)
    if geometry.plain is not None:
        plain = geometry.plain[part]
        error.cookbook, error.mean = lower_median(plain), float(plain.mean())
    if geometry.ours is not None:
        errors = geometry.ours.errors[part]
        error.repeats["cse_robust"] = tuple(np.median(geometry.ours.all_errors[:, part], axis=1).tolist())
        error.robust = float(np.median(errors))
        error.inlier_share = float((errors < settings.threshold).mean())
        if error.moving_matches >= FEW:
            error.moving = float(np.median(errors[moving]))
    return error
