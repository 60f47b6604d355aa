"""Sampson error of videos: does each view move like one rigid scene, and do several views show the same one?

Two definitions stand side by side. The cookbook's, for numbers that compare with published ones: F by plain RANSAC, the
error over all matches, outliers too; median over matches, median over frames (`tse`, `cse`). Ours: the error of moving
matches alone under a MAGSAC++ geometry of their own (`tse_moving`, `cse_moving`), with the share of matches that do not
move, the share of inliers and the number of matches beside it, since a still, blurred or torn video can score well.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from cosmos_exp.errors import UserError
from cosmos_exp.metrics.geometry import (
    Fit,
    ViewCalibration,
    estimate_fundamental,
    fundamental_from_calibration,
    fundamental_from_intrinsics,
    sampson_distance,
)
from cosmos_exp.metrics.matching import Features, Matcher, load_matcher
from cosmos_exp.metrics.views import View, parse_layout, parse_pairs, split_views

FEW = 5  # matches that a frame of two views needs for a value of its own, under an F that is fitted to many frames
STILL = (
    0.5  # a median share of static matches above it: the median over all matches is that of matches any geometry fits
)


@dataclass(frozen=True)
class FrameError:
    """One frame pair, or one frame of two views; errors in pixels, None with the reason when it cannot be said."""

    frames: tuple[int, int]
    cookbook: float | None
    moving: float | None
    static_share: float | None
    inlier_share: float | None
    matches: int
    reason: str | None = None


@dataclass(frozen=True)
class ViewResult:
    """A view's temporal figures. `pairs_measured` of `pairs` frame pairs had enough matches; the rest are not averaged."""

    view: str
    tse: float | None
    tse_moving: float | None
    static_share: float | None
    inlier_share: float | None
    matches: float | None
    pairs: int
    pairs_measured: int
    pairs_moving: int
    reason: str | None
    note: str | None = None
    per_pair: tuple[FrameError, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class CrossResult:
    """Two views' figures. geometry: where F of `cse_robust` and `cse_moving` came from; `cse` is pooled plain RANSAC."""

    views: tuple[str, str]
    cse: float | None
    cse_robust: float | None
    cse_moving: float | None
    inlier_share: float | None
    matches: float | None
    frames: int
    frames_measured: int
    geometry: str
    reason: str | None
    per_frame: tuple[FrameError, ...] = field(default=(), repr=False)


@dataclass(frozen=True)
class VideoResult:
    """A video's views and view pairs, and notes on tiles that were left out."""

    views: tuple[ViewResult, ...]
    crosses: tuple[CrossResult, ...]
    notes: tuple[str, ...] = ()

    def measures(self) -> dict[str, tuple[float | None, str | None]]:
        """A run's measures with the reason of each that is missing: the mean over the views that could be measured."""
        reasons = [f"{v.view}: {v.reason}" if len(self.views) > 1 else v.reason for v in self.views if v.reason]
        reason = "; ".join(reasons) or (None if self.views else "; ".join(self.notes) or "no view")
        out = {m: (_mean([getattr(v, m) for v in self.views]), reason) for m in ("tse", "tse_moving", "static_share")}
        if self.crosses:
            why = "; ".join(f"{':'.join(c.views)}: {c.reason}" for c in self.crosses if c.reason) or None
            out |= {m: (_mean([getattr(c, m) for c in self.crosses]), why) for m in ("cse", "cse_moving")}
        return out

    def detail(self) -> dict[str, Any]:
        """All figures but the single frames', as plain JSON."""

        def plain(result: Any) -> dict[str, Any]:
            return {k: v for k, v in vars(result).items() if k not in ("per_pair", "per_frame")}

        return {"views": [plain(v) for v in self.views], "crosses": [plain(c) for c in self.crosses],
                "notes": list(self.notes)}  # fmt: skip


def _mean(values: list[float | None]) -> float | None:
    there = [v for v in values if v is not None]
    return float(np.mean(there)) if there else None


def _median(values: Any) -> float | None:
    there = [v for v in values if v is not None]
    return float(np.median(there)) if there else None


# --- one video --------------------------------------------------------------------------------------------------
def measure_video(
    frames: np.ndarray, settings: Any, calibration: dict[str, ViewCalibration] | None = None, threads: int = 1
) -> VideoResult:
    """All figures of uint8 (T, H, W, 3) RGB whose tiles are laid out as `settings.layout` says.

    Raises:
        UserError: a layout, view name, pair or calibration that does not fit the video.
    """
    layout = parse_layout(settings.layout) if settings.layout else (1, 1)
    names = list(settings.views) or (["video"] if layout == (1, 1) else [])
    views, notes = split_views(frames, layout, names)
    return measure_views(views, settings, calibration, threads, notes)


def measure_views(
    views: list[View], settings: Any, calibration: dict[str, ViewCalibration] | None = None, threads: int = 1,
    notes: list[str] | None = None,
) -> VideoResult:  # fmt: skip
    """The same for views already apart; their frames are simultaneous. Keypoints are found once a frame."""
    pairs = parse_pairs(settings.pairs, [v.name for v in views], [n.split(" ")[0] for n in notes or []])
    matcher = load_matcher(settings, threads)
    tracks = [_Track(v, matcher, settings, _camera(v, calibration, settings)) for v in views]
    by_name = {t.name: t for t in tracks}
    with ThreadPoolExecutor(threads) as pool:
        measured = tuple(t.measure(pool.map) for t in tracks)
        crosses = tuple(_cross(by_name[a], by_name[b], matcher, settings) for a, b in pairs)
    return VideoResult(measured, crosses, tuple(notes or []))


def temporal_sampson(frames: np.ndarray, settings: Any, threads: int = 1) -> ViewResult:
    """The temporal figures of one view, uint8 (T, H, W, 3) RGB."""
    return measure_views([View("video", frames)], settings, threads=threads).views[0]


def _camera(view: View, calibration: dict[str, ViewCalibration] | None, settings: Any) -> ViewCalibration | None:
    camera = (calibration or {}).get(view.name)
    if calibration and camera is None:
        raise UserError(f"the calibration has no view {view.name!r}; it has {', '.join(calibration)}")
    if settings.estimator == "five_point" and camera is None:
        raise UserError("sampson.estimator=five_point needs each view's intrinsic matrix: give a calibration")
    return None if camera is None else camera.scaled(*view.frames.shape[1:3])


class _Track:
    """One view through time: its keypoints and how far each moves to the next frame."""

    def __init__(self, view: View, matcher: Matcher, settings: Any, camera: ViewCalibration | None):
        self.name, self.settings, self.camera = view.name, settings, camera
        self.size = (view.frames.shape[1], view.frames.shape[2])
        self.features: list[Features] = matcher.features([cv2.cvtColor(f, cv2.COLOR_RGB2GRAY) for f in view.frames])
        # The matcher sees pixels as they are, the geometry sees them undistorted.
        self.points = [camera.undistorted(f.points) if camera else f.points for f in self.features]
        gap = settings.gap
        self.index = [(i, i + gap) for i in range(len(self.features) - gap)]
        self.matches = matcher.match([(self.features[i], self.features[j]) for i, j in self.index], self.size)

    def measure(self, spread: Callable) -> ViewResult:
        return summarize(self.name, tuple(spread(self._pair, range(len(self.index)))), self.settings.gap)

    def _pair(self, k: int) -> FrameError:
        (i, j), found = self.index[k], self.matches[k]
        x, y = self.points[i][found[:, 0]], self.points[j][found[:, 1]]
        return pair_error(x, y, self.settings, (i, j), self.camera)

    def moves(self, frame: int) -> np.ndarray:
        """Which keypoints of a frame are known to move to or from a neighbour, (N,) bool."""
        out = np.zeros(len(self.points[frame]), dtype=bool)
        for k, side in ((frame, 0), (frame - self.settings.gap, 1)):
            if 0 <= k < len(self.index):
                (i, j), found = self.index[k], self.matches[k]
                far = np.linalg.norm(self.points[j][found[:, 1]] - self.points[i][found[:, 0]], axis=1)
                out[found[far >= self.settings.static_pixels, side]] = True
        return out


def _fit(x: np.ndarray, y: np.ndarray, settings: Any, seed: int, camera: ViewCalibration | None) -> Fit | None:
    if settings.estimator == "five_point":
        assert camera is not None
        return fundamental_from_intrinsics(x, y, camera.intrinsics, settings.threshold, seed)
    return estimate_fundamental(x, y, settings.estimator, settings.threshold, seed)


def pair_error(
    x: np.ndarray, y: np.ndarray, settings: Any, frames: tuple[int, int], camera: ViewCalibration | None = None
) -> FrameError:
    """The figures of one frame pair from its matches x, y (N, 2). OpenCV's random choices are seeded by the first frame."""
    count = len(x)
    if count < settings.min_matches:
        return FrameError(frames, None, None, None, None, count, f"fewer than {settings.min_matches} matches")
    still = np.linalg.norm(y - x, axis=1) < settings.static_pixels
    share = float(still.mean())
    plain = estimate_fundamental(x, y, "ransac", settings.threshold, frames[0])
    everything = None if plain is None else float(np.median(sampson_distance(x, y, plain.fundamental)))
    reason = None if plain else "no fundamental matrix fits"
    moving = inliers = None
    # Matches that stand still fit any geometry and would pull F to one that says nothing about the rest.
    if (~still).sum() >= settings.min_matches:
        ours = _fit(x[~still], y[~still], settings, frames[0], camera)
        if ours is not None:
            moving = float(np.median(sampson_distance(x[~still], y[~still], ours.fundamental)))
            inliers = float(ours.inliers.mean())
    return FrameError(frames, everything, moving, share, inliers, count, reason)


def summarize(view: str, pairs: tuple[FrameError, ...], gap: int = 1) -> ViewResult:
    """Medians over the frame pairs that could be measured; the others are counted, never averaged in."""
    tse = _median(p.cookbook for p in pairs)
    moving = [p.moving for p in pairs if p.moving is not None]
    share = _median(p.static_share for p in pairs)
    if not pairs:
        reason = "a single frame has no motion" if gap == 1 else f"no two frames {gap} apart"
    elif tse is None:
        reason = "no frame pair has enough matches: no texture, or no two frames alike"
    elif not moving:
        reason = "camera and scene stand still: too few matches move"
    else:
        reason = None
    note = None
    if reason is None and share is not None and share > STILL:
        note = (
            f"the camera stands still or nearly so: {share:.0%} of the matches do not move, so tse is near 0 whatever "
            "the video; tse_moving speaks of the rest"
        )
    return ViewResult(
        # Standing still fits any geometry; 0.000 would say nothing, so it is not said.
        view, tse if moving else None, _median(moving), share, _median(p.inlier_share for p in pairs),
        _median(p.matches for p in pairs), len(pairs), sum(p.cookbook is not None for p in pairs), len(moving), reason,
        note, pairs,
    )  # fmt: skip


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
    names: tuple[str, str], x: list[np.ndarray], y: list[np.ndarray], moving: list[np.ndarray], settings: Any,
    cameras: tuple[ViewCalibration | None, ViewCalibration | None] = (None, None),
) -> CrossResult:  # fmt: skip
    """The figures of two views from each frame's matches x, y (N, 2) and which of them move in time (N,) bool."""
    sizes = [len(p) for p in x]
    every_x, every_y = (np.concatenate([*p, np.zeros((0, 2))]) for p in (x, y))
    plain = ours = None
    geometry = f"{settings.estimator} over all frames"
    # Where cameras and scene stand, the same few points come back in every frame; they do not make F better known.
    distinct = len(np.unique(np.rint(np.hstack([every_x, every_y])), axis=0))
    if distinct >= settings.min_matches:
        plain = estimate_fundamental(every_x, every_y, "ransac", settings.threshold, 0)
        ours = estimate_fundamental(every_x, every_y, settings.estimator.replace("five_point", "magsac"), settings.threshold, 0)  # fmt: skip
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
        names, _median(f.cookbook for f in per_frame), _median(robust), moves if robust else None,
        float(ours.inliers.mean()), _median(sizes), len(sizes), len(robust), geometry,
        None if robust else f"no frame has {FEW} matches", tuple(per_frame),
    )  # fmt: skip
