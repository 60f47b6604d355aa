"""Sampson error of videos: does each view move like one rigid scene, and do several views show the same one?

Two definitions stand side by side. The cookbook's, for numbers that compare with published ones: F by plain RANSAC, the
error over all matches, outliers too; median over matches, median over frames (`tse`, `cse`). Ours: the error of moving
matches alone under a MAGSAC++ geometry of their own (`tse_moving`, `cse_moving`), with the share of matches that do not
move, the share of inliers and the number of matches beside it, since a still, blurred or torn video can score well."""

from __future__ import annotations

from typing import Any

import numpy as np

from cosmos_exp.metrics.geometry.calibration import ViewCalibration, fundamental_from_calibration
from cosmos_exp.metrics.geometry.epipolar import Fit, estimate_fundamental, sampson_distance
from cosmos_exp.metrics.geometry.matching import Matcher
from cosmos_exp.metrics.geometry.results import CrossResult, FrameError, _median
from cosmos_exp.metrics.geometry.temporal import _Track

FEW = 5  # matches that a frame of two views needs for a value of its own, under an F that is fitted to many frames


# --- two views --------------------------------------------------------------------------------------------------
def _cross(a: _Track, b: _Track, matcher: Matcher, settings: Any) -> CrossResult:
    """Simultaneous frames of two views: one F for a fixed rig, from its calibration or from all frames' matches pooled."""
    count = min(len(a.features), len(b.features))
    # One size for both: LightGlue normalises by it; views of different sizes keep their own proportions in pixels.
    size = (max(a.size[0], b.size[0]), max(a.size[1], b.size[1]))
    found = matcher.match([(a.features[t], b.features[t]) for t in range(count)], size)
    x = [a.points[t][found[t][:, 0]] for t in range(count)]
    y = [b.points[t][found[t][:, 1]] for t in range(count)]
    moving = [a.moves(t)[found[t][:, 0]] | b.moves(t)[found[t][:, 1]] for t in range(count)]
    return cross_error((a.name, b.name), x, y, moving, settings, (a.camera, b.camera))


def cross_error(
    names: tuple[str, str],
    x: list[np.ndarray],
    y: list[np.ndarray],
    moving: list[np.ndarray],
    settings: Any,
    cameras: tuple[ViewCalibration | None, ViewCalibration | None] = (None, None),
) -> CrossResult:
    """The figures of two views from each frame's matches x, y (N, 2) and which of them move in time (N,) bool."""
    sizes = [len(p) for p in x]
    every_x, every_y = (np.concatenate([*p, np.zeros((0, 2))]) for p in (x, y))
    plain = ours = None
    geometry = f"{settings.estimator} over all frames"
    # Where cameras and scene stand, the same few points come back in every frame; they do not make F better known.
    distinct = len(np.unique(np.rint(np.hstack([every_x, every_y])), axis=0))
    if distinct >= settings.min_matches:
        plain = estimate_fundamental(every_x, every_y, "ransac", settings.threshold, 0)
        ours = estimate_fundamental(
            every_x, every_y, settings.estimator.replace("five_point", "magsac"), settings.threshold, 0
        )
        if all(c is not None and c.rotation is not None for c in cameras):
            geometry = "calibration"
            f = fundamental_from_calibration(*cameras)  # type: ignore[arg-type]
            ours = Fit(f, sampson_distance(every_x, every_y, f) < settings.threshold)
    if plain is None or ours is None:
        empty = tuple(FrameError((t, t), None, None, None, None, n, "too few matches") for t, n in enumerate(sizes))
        why = (
            f"the views share {distinct} different matches, fewer than {settings.min_matches}" if sizes else "no frame"
        )
        matches = _median(sizes)
        return CrossResult(names, None, None, None, None, matches, len(sizes), 0, geometry, why, empty)
    every_moving = np.concatenate(moving)
    errors_moving = sampson_distance(every_x[every_moving], every_y[every_moving], ours.fundamental)
    moves = float(np.median(errors_moving)) if len(errors_moving) >= settings.min_matches else None
    per_frame, robust = [], []
    for t, size in enumerate(sizes):
        if size < FEW:  # F is not this frame's alone, so a few of its matches can say something
            few = f"fewer than {FEW} matches"
            per_frame.append(FrameError((t, t), None, None, None, None, size, few))
            continue
        theirs = float(np.median(sampson_distance(x[t], y[t], plain.fundamental)))
        errors = sampson_distance(x[t], y[t], ours.fundamental)
        robust.append(float(np.median(errors)))
        moved = float(np.median(errors[moving[t]])) if moving[t].sum() >= FEW else None
        within = float((errors < settings.threshold).mean())
        per_frame.append(FrameError((t, t), theirs, moved, float(1 - moving[t].mean()), within, size))
    return CrossResult(
        # One frame has few moving matches, so they are pooled as F is.
        names,
        _median(f.cookbook for f in per_frame),
        _median(robust),
        moves if robust else None,
        float(ours.inliers.mean()),
        _median(sizes),
        len(sizes),
        len(robust),
        geometry,
        None if robust else f"no frame has {FEW} matches",
        tuple(per_frame),
    )
