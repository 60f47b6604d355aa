"""Cross-view Sampson error: do two simultaneous views show the same scene?"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cosmos_exp.config.schema import Sampson as SampsonSettings
from cosmos_exp.errors import UserError
from cosmos_exp.metrics.geometry.calibration import ViewCalibration, fundamental_from_calibration
from cosmos_exp.metrics.geometry.epipolar import Fit, estimate_fundamental, sampson_distance
from cosmos_exp.metrics.geometry.matching import Matcher
from cosmos_exp.metrics.geometry.results import CrossResult, FrameError, median
from cosmos_exp.metrics.geometry.temporal import Track

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
        x, y = (np.concatenate([*p, np.zeros((0, 2))]) for p in (self.x, self.y))
        return x, y, np.concatenate([*self.moving, np.zeros(0, dtype=bool)])


@dataclass(frozen=True)
class ViewGeometry:
    """The epipolar geometry of two views of a fixed rig: one F for all frames.

    plain: F by RANSAC, for `cse`. ours: F for `cse_robust` and `cse_moving`, and `source` its origin.
    reason: why there is no F, if there is none.
    """

    plain: Fit | None
    ours: Fit | None
    source: str
    reason: str | None = None


def match_views(a: Track, b: Track, matcher: Matcher, settings: SampsonSettings) -> ViewMatches:
    """Match the simultaneous frames of two views."""
    count = min(len(a.features), len(b.features))
    # One size for both: LightGlue normalises by it. Views of different sizes keep their proportions in pixels.
    size = (max(a.size[0], b.size[0]), max(a.size[1], b.size[1]))
    found = matcher.match([(a.features[t], b.features[t]) for t in range(count)], size)
    moving = [
        a.moving(t, settings.gap, settings.static_pixels)[found[t][:, 0]]
        | b.moving(t, settings.gap, settings.static_pixels)[found[t][:, 1]]
        for t in range(count)
    ]
    x = [a.points[t][found[t][:, 0]] for t in range(count)]
    y = [b.points[t][found[t][:, 1]] for t in range(count)]
    return ViewMatches((a.name, b.name), x, y, moving)


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
    source = f"{settings.estimator} over all frames"
    # With static cameras and a static scene the same few points come back in every frame. They add no information on F.
    distinct = len(np.unique(np.rint(np.hstack([x, y])), axis=0))
    if distinct < settings.min_matches:
        few = f"the views share {distinct} different matches, fewer than {settings.min_matches}"
        return ViewGeometry(None, None, source, few if matches.x else "no frame")
    plain = estimate_fundamental(x, y, "ransac", settings.threshold, 0)
    a, b = cameras
    if a is not None and b is not None and a.rotation is not None and b.rotation is not None:
        try:
            f = fundamental_from_calibration(a, b)
        except ValueError as error:
            raise UserError(f"sampson.calibration, views {' and '.join(matches.names)}: {error}") from error
        ours: Fit | None = Fit(f, sampson_distance(x, y, f) < settings.threshold)
        source = "calibration"
    else:
        method = settings.estimator.replace("five_point", "magsac")
        ours = estimate_fundamental(x, y, method, settings.threshold, 0)
    return ViewGeometry(plain, ours, source, None if plain and ours else "no fundamental matrix fits")


def cross_error(matches: ViewMatches, geometry: ViewGeometry, settings: SampsonSettings) -> CrossResult:
    """The errors of two views under their geometry: medians over the matches of a frame, then over frames."""
    counts = [len(x) for x in matches.x]
    if geometry.plain is None or geometry.ours is None:
        return _undefined(matches.names, counts, geometry)
    plain, ours = geometry.plain.fundamental, geometry.ours.fundamental
    per_frame, robust = [], []
    for t, (x, y, moving) in enumerate(zip(matches.x, matches.y, matches.moving, strict=True)):
        if len(x) < FEW:
            per_frame.append(FrameError.undefined((t, t), len(x), f"fewer than {FEW} matches"))
            continue
        cookbook = float(np.median(sampson_distance(x, y, plain)))
        errors = sampson_distance(x, y, ours)
        robust.append(float(np.median(errors)))
        moved = float(np.median(errors[moving])) if moving.sum() >= FEW else None
        inliers = float((errors < settings.threshold).mean())
        per_frame.append(FrameError((t, t), cookbook, moved, float(1 - moving.mean()), inliers, len(x)))
    # One frame has few moving matches, so those of all frames are pooled, as for F.
    x, y, moving = matches.pooled()
    errors = sampson_distance(x[moving], y[moving], ours)
    cse_moving = float(np.median(errors)) if len(errors) >= settings.min_matches else None
    return CrossResult(
        views=matches.names,
        cse=median(f.cookbook for f in per_frame),
        cse_robust=median(robust),
        cse_moving=cse_moving if robust else None,
        inlier_share=float(geometry.ours.inliers.mean()),
        matches=median(counts),
        frames=len(counts),
        frames_measured=len(robust),
        geometry=geometry.source,
        reason=None if robust else f"no frame has {FEW} matches",
        per_frame=tuple(per_frame),
    )


def _undefined(names: tuple[str, str], counts: list[int], geometry: ViewGeometry) -> CrossResult:
    frames = tuple(FrameError.undefined((t, t), n, "too few matches") for t, n in enumerate(counts))
    return CrossResult(
        views=names,
        cse=None,
        cse_robust=None,
        cse_moving=None,
        inlier_share=None,
        matches=median(counts),
        frames=len(counts),
        frames_measured=0,
        geometry=geometry.source,
        reason=geometry.reason,
        per_frame=frames,
    )
