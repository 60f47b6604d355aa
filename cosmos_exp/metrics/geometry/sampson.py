"""Sampson error of videos: does each view move like one rigid scene, and do several views show the same one?

Two definitions stand side by side. The cookbook's, for numbers that compare with published ones: F by plain RANSAC, the
error over all matches, outliers too; median over matches, median over frames (`tse`, `cse`). Ours: the error of moving
matches alone under a MAGSAC++ geometry of their own (`tse_moving`, `cse_moving`), with the share of matches that do not
move, the share of inliers and the number of matches beside it, since a still, blurred or torn video can score well."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from cosmos_exp.errors import UserError
from cosmos_exp.metrics.geometry.calibration import ViewCalibration
from cosmos_exp.metrics.geometry.cross_view import _cross
from cosmos_exp.metrics.geometry.matcher_registry import load_matcher
from cosmos_exp.metrics.geometry.results import VideoResult, ViewResult
from cosmos_exp.metrics.geometry.temporal import _Track
from cosmos_exp.metrics.geometry.views import View, parse_layout, parse_pairs, split_views


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
    views: list[View],
    settings: Any,
    calibration: dict[str, ViewCalibration] | None = None,
    threads: int = 1,
    notes: list[str] | None = None,
) -> VideoResult:
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
