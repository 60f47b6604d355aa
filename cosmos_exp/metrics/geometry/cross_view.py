"""Cross-view Sampson error: do two simultaneous views show the same scene?"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from cosmos_exp.config.schema import Sampson as SampsonSettings
from cosmos_exp.errors import UserError
from cosmos_exp.metrics.geometry.calibration import ViewCalibration, fundamental_from_calibration
from cosmos_exp.metrics.geometry.epipolar import NO_FIT, cookbook_errors, cookbook_fundamental, sampson_distance
from cosmos_exp.metrics.geometry.matching import Matcher
from cosmos_exp.metrics.geometry.results import (
    ACROSS,
    CrossResult,
    FrameError,
    lower_median,
    mean,
    median,
    repeatability_of,
    repeated,
)
from cosmos_exp.metrics.geometry.robust import RobustFit, fixed_fit, robust_fit
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
    source = f"{settings.estimator.replace('five_point', 'magsac')} over all frames"
    # With static cameras and a static scene the same few points come back in every frame. They add no information on F.
    distinct = len(np.unique(np.rint(np.hstack([x, y])), axis=0))
    if distinct < settings.min_matches:
        few = f"the views share {distinct} different matches, fewer than {settings.min_matches}"
        return ViewGeometry(None, [], None, source, few if matches.x else "no frame")
    fundamental = cookbook_fundamental(x, y)
    plain = None if fundamental is None else sampson_distance(y, x, fundamental)
    rng = np.random.RandomState(0)
    repeats = [cookbook_errors(x, y, rng.permutation(len(x))) for _ in range(settings.repeats)]
    a, b = cameras
    if a is not None and b is not None and a.rotation is not None and b.rotation is not None:
        try:
            f = fundamental_from_calibration(a, b)
        except ValueError as error:
            raise UserError(f"sampson.calibration, views {' and '.join(matches.names)}: {error}") from error
        ours: RobustFit | str = fixed_fit(x, y, f, settings.repeats)
        source = "calibration"
    else:
        uncalibrated = replace(settings, estimator=settings.estimator.replace("five_point", "magsac"))
        ours = robust_fit(x, y, uncalibrated, 0)
    fit, failed = (None, ours) if isinstance(ours, str) else (ours, NO_FIT if plain is None else None)
    return ViewGeometry(plain, [r for r in repeats if r is not None], fit, source, failed)


def cross_error(matches: ViewMatches, geometry: ViewGeometry, settings: SampsonSettings) -> CrossResult:
    """The errors of two views under their geometry: medians over the matches of a frame, then over frames."""
    counts = [len(x) for x in matches.x]
    if geometry.plain is None and geometry.ours is None:
        return _undefined(matches.names, counts, geometry)
    ends = np.cumsum([0, *counts])
    per_frame = tuple(
        _frame_error(t, slice(ends[t], ends[t + 1]), matches.moving[t], geometry, settings) for t in range(len(counts))
    )
    measured = [f for f in per_frame if not f.lost]
    # One frame has few moving matches, so those of all frames are pooled, as for F.
    moving = matches.pooled()[2]
    ours = geometry.ours if measured else None
    moved = ours if moving.sum() >= settings.min_matches else None
    of_moving = np.zeros(0) if moved is None else np.median(moved.all_errors[:, moving], axis=1)
    repeatability = {m: repeated(per_frame, m) for m in ACROSS[:2]}
    return CrossResult(
        views=matches.names,
        cse=median(f.cookbook for f in per_frame),
        cse_mean=mean(f.mean for f in per_frame),
        cse_robust=median(f.robust for f in per_frame),
        cse_moving=None if moved is None else float(np.median(moved.errors[moving])),
        inlier_share=None if geometry.ours is None else float((geometry.ours.errors < settings.threshold).mean()),
        matches=median(counts),
        frames=len(counts),
        frames_measured=len(measured),
        repeatability=repeatability | {"cse_moving": repeatability_of(of_moving.tolist())},
        geometry=geometry.source,
        reason=geometry.reason if measured else f"no frame has {FEW} matches",
        per_frame=per_frame,
    )


def _frame_error(
    t: int, part: slice, moving: np.ndarray, geometry: ViewGeometry, settings: SampsonSettings
) -> FrameError:
    """The errors of frame t, whose matches are this part of the pooled ones."""
    count = len(moving)
    if count < FEW:
        few = f"fewer than {FEW} matches"
        return FrameError((t, t), count, moving_matches=int(moving.sum()), lost=dict.fromkeys(ACROSS, few))
    plain = None if geometry.plain is None else geometry.plain[part]
    errors = None if geometry.ours is None else geometry.ours.errors[part]
    repeats = {"cse": tuple(lower_median(r[part]) for r in geometry.plain_repeats)}
    if geometry.ours is not None:
        repeats["cse_robust"] = tuple(np.median(geometry.ours.all_errors[:, part], axis=1).tolist())
    return FrameError(
        (t, t),
        count,
        cookbook=None if plain is None else lower_median(plain),
        mean=None if plain is None else float(plain.mean()),
        robust=None if errors is None else float(np.median(errors)),
        moving=None if errors is None or moving.sum() < FEW else float(np.median(errors[moving])),
        static_share=float(1 - moving.mean()),
        inlier_share=None if errors is None else float((errors < settings.threshold).mean()),
        moving_matches=int(moving.sum()),
        repeats=repeats,
    )


def _undefined(names: tuple[str, str], counts: list[int], geometry: ViewGeometry) -> CrossResult:
    frames = tuple(FrameError((t, t), n, lost=dict.fromkeys(ACROSS, "too few matches")) for t, n in enumerate(counts))
    return CrossResult(
        views=names,
        cse=None,
        cse_mean=None,
        cse_robust=None,
        cse_moving=None,
        inlier_share=None,
        matches=median(counts),
        frames=len(counts),
        frames_measured=0,
        repeatability=dict.fromkeys(ACROSS),
        geometry=geometry.source,
        reason=geometry.reason,
        per_frame=frames,
    )
