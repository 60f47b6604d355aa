"""Sampson error of a video: temporal for each view, across views for each pair of views."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat

import numpy as np

from cosmos_exp.config.registry import MATCHERS
from cosmos_exp.config.schema import Sampson as SampsonSettings
from cosmos_exp.errors import UserError
from cosmos_exp.metrics.geometry.calibration import ViewCalibration, fundamental_from_calibration
from cosmos_exp.metrics.geometry.cross_view import cross_error, match_views, view_geometry
from cosmos_exp.metrics.geometry.results import VideoResult, ViewResult
from cosmos_exp.metrics.geometry.temporal import moving_matches, pair_error, summarize, track_view
from cosmos_exp.metrics.geometry.views import View, parse_pairs, views_of

Calibration = dict[str, ViewCalibration]  # by view name


def measure_views(
    views: list[View],
    settings: SampsonSettings,
    calibration: Calibration | None = None,
    threads: int = 1,
    notes: list[str] | None = None,
) -> VideoResult:
    """All figures of a video's views, whose frames are simultaneous. Keypoints are found once per frame.

    Args:
        calibration: the cameras by view name; None: not known.
        threads: the result does not depend on it.
        notes: on tiles that were left out, from `views_of`.

    Raises:
        UserError: a pair or the calibration does not fit the views.
    """
    pairs = parse_pairs(settings.pairs, [v.name for v in views], [n.split(" ")[0] for n in notes or []])
    matcher = MATCHERS.get(settings.matcher)(settings, threads)
    tracks = [track_view(v, matcher, settings.gap, _camera(v, calibration, settings)) for v in views]
    by_name = {t.name: t for t in tracks}
    temporal, crosses = [], []
    with ThreadPoolExecutor(threads) as pool:
        for track in tracks:
            x, y = track.matched_points()
            # Where no pair has enough moving matches, every error is undefined: no robust fit is needed.
            moves = any(moving_matches(a, b, settings).sum() >= settings.min_matches for a, b in zip(x, y, strict=True))
            errors = pool.map(pair_error, x, y, repeat(settings), track.pairs, repeat(track.camera), repeat(moves))
            temporal.append(summarize(track.name, tuple(errors), settings.gap))
    for a, b in ((by_name[a], by_name[b]) for a, b in pairs):
        matches = match_views(a, b, matcher, settings)
        geometry = view_geometry(matches, settings, (a.camera, b.camera))
        crosses.append(cross_error(matches, geometry, settings))
    return VideoResult(tuple(temporal), tuple(crosses), tuple(notes or []))


def measure_video(
    frames: np.ndarray, settings: SampsonSettings, calibration: Calibration | None = None, threads: int = 1
) -> VideoResult:
    """All figures of a video, uint8 (T, H, W, 3) RGB, whose tiles are laid out as `sampson.layout` says.

    Raises:
        UserError: a layout, view name, pair or calibration does not fit the video.
    """
    views, notes = views_of(frames, settings)
    return measure_views(views, settings, calibration, threads, notes)


def temporal_sampson(frames: np.ndarray, settings: SampsonSettings, threads: int = 1) -> ViewResult:
    """The temporal figures of one view, uint8 (T, H, W, 3) RGB."""
    return measure_views([View("video", frames)], settings, threads=threads).views[0]


def check_views(views: Sequence[View], settings: SampsonSettings, calibration: Calibration | None) -> None:
    """Check the pairs and the cameras of views without measuring them.

    Raises:
        UserError: a pair names no views, a view has no camera, or two cameras define no fundamental matrix.
    """
    cameras = {v.name: _camera(v, calibration, settings) for v in views}
    for names in parse_pairs(settings.pairs, list(cameras), []):
        a, b = (cameras[name] for name in names)
        if a is not None and b is not None and a.rotation is not None and b.rotation is not None:
            try:
                fundamental_from_calibration(a, b)
            except ValueError as error:
                raise UserError(f"sampson.calibration, views {' and '.join(names)}: {error}") from error


def _camera(view: View, calibration: Calibration | None, settings: SampsonSettings) -> ViewCalibration | None:
    camera = (calibration or {}).get(view.name)
    if calibration and camera is None:
        raise UserError(f"sampson.calibration: no view {view.name!r}; the file has {', '.join(calibration)}")
    if settings.estimator == "five_point" and camera is None:
        raise UserError("sampson.estimator=five_point needs the intrinsic matrix of each view; set sampson.calibration")
    return None if camera is None else camera.scaled(*view.frames.shape[1:3])
