"""Sampson error of videos: temporal for each view, across views for each pair of views.

result = measure_source(Source("name", (path,)), settings)      one video, or one file per view
measure_sampson(videos, config, workers)                        the videos of a run
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from cosmos_exp.config.registry import MATCHERS
from cosmos_exp.config.schema import Config, Data
from cosmos_exp.config.schema import Sampson as SampsonSettings
from cosmos_exp.config.tiling import tiling_of
from cosmos_exp.data.video import read_video
from cosmos_exp.errors import RunError
from cosmos_exp.hub import ensure_folder, find_folder
from cosmos_exp.metrics.geometry.cross_view import cross_error, match_views
from cosmos_exp.metrics.geometry.results import Result, VideoResult
from cosmos_exp.metrics.geometry.temporal import track_view, view_error
from cosmos_exp.metrics.geometry.views import View, ViewCalibration, camera_of, load_calibration, parse_pairs, views_of
from cosmos_exp.metrics.interface import Measured, ScoredVideo, video_pool

LIGHTGLUE = "superpoint_lightglue"
SOURCES_PER_PROCESS = 4  # starting a process costs about a second, so it must have this many sources to measure


@dataclass(frozen=True)
class Source:
    """One video of one or more views, or several files that are simultaneous views of one scene.

    span: the frames to measure, stop excluded; None: all.
    """

    name: str
    files: tuple[Path, ...]
    span: tuple[int, int] | None = None


def measure_views(
    views: list[View],
    settings: SampsonSettings,
    calibration: Mapping[str, ViewCalibration] | None = None,
    threads: int = 1,
    notes: Sequence[str] = (),
) -> VideoResult:
    """All errors of a video's views, whose frames are simultaneous. Keypoints are found once per frame.

    Args:
        calibration: the cameras by view name; None: not known.
        threads: the result does not depend on it.
        notes: on tiles that were left out, from `views_of`.

    Raises:
        UserError: a pair or the calibration does not fit the views.
    """
    pairs = parse_pairs(settings.pairs, [view.name for view in views], [note.split(" ")[0] for note in notes])
    matcher = MATCHERS.get(settings.matcher)(settings, threads)
    tracks, temporal, crosses = {}, [], []
    for view in views:
        track = tracks[view.name] = track_view(view, matcher, settings.gap, camera_of(view, calibration))
        temporal.append(view_error(track, settings, threads))
    for names in pairs:
        a, b = tracks[names[0]], tracks[names[1]]
        crosses.append(cross_error(match_views(a, b, matcher, settings), settings))
    return VideoResult(tuple(temporal), tuple(crosses), tuple(notes))


def temporal_sampson(frames: np.ndarray, settings: SampsonSettings, threads: int = 1) -> Result:
    """The temporal errors of one view, uint8 (T, H, W, 3) RGB."""
    return measure_views([View("video", frames)], settings, threads=threads).views[0]


def read_views(source: Source, settings: SampsonSettings) -> tuple[list[View], list[str]]:
    """The views of a source and notes on tiles that were left out.

    Raises:
        RunError: a file does not decode.
        UserError: the layout or the view names do not fit the video.
    """
    span = slice(*(source.span or (None,)))
    if len(source.files) == 1:
        return views_of(read_video(source.files[0])[span], settings)
    names = settings.views or [file.stem for file in source.files]
    return [View(name, read_video(f)[span]) for name, f in zip(names, source.files, strict=True)], []


def measure_source(source: Source, settings: SampsonSettings, threads: int = 1) -> VideoResult | str:
    """All errors of a source, or the error message if a file cannot be read.

    Raises:
        UserError: the settings do not fit the video.
    """
    calibration = load_calibration(settings)
    try:
        views, notes = read_views(source, settings)
    except RunError as error:
        return str(error)
    return measure_views(views, settings, calibration, threads, notes)


def measure_sources(
    sources: Sequence[Source], settings: SampsonSettings, workers: int = 0
) -> Iterator[VideoResult | str]:
    """`measure_source` of each source, in order, shared among processes.

    Args:
        workers: the most processes; 0: one per core. LightGlue stays in this process.
    """
    if settings.matcher == LIGHTGLUE:
        workers = 1
    with video_pool(len(sources), workers, SOURCES_PER_PROCESS) as (pool_map, threads):
        yield from pool_map(partial(measure_source, settings=settings, threads=threads), sources)


def measure_sampson(videos: Sequence[ScoredVideo], config: Config, workers: int) -> Iterator[Measured] | None:
    """The Sampson measures of a run's videos (see `metrics.interface.MeasureFunction`).

    Raises:
        RunError: a video cannot be read.
    """
    if not config.sampson.enabled:
        return None
    sources = []
    for video in videos:
        span = video.span
        if span:  # of a chunk, the pairs before its last conditioning frame are those of the chunk before
            span = (span[0] + video.conditioning - 1, span[1])
        sources.append(Source(str(video.path), (video.path,), span))
    results = measure_sources(sources, with_data_views(config.sampson, config.data), workers)
    return map(_measured, results, videos)


def _measured(result: VideoResult | str, video: ScoredVideo) -> Measured:
    if isinstance(result, str):
        raise RunError(result)
    return Measured(result.measures(), result.detail(), result.curves(video.conditioning))


def with_data_views(settings: SampsonSettings, data: Data) -> SampsonSettings:
    """The settings with the data's tiles as layout if none is set: those of data.cameras, or data.views in one row."""
    if settings.layout or not (data.cameras or data.views):
        return settings
    tiling = tiling_of(data)
    return settings.updated({"layout": str(tiling), "views": list(tiling.names)})


def check_run_settings(config: Config) -> None:
    """Find errors in the settings of a run before its first video is made: do they fit the videos that it will make?

    Raises:
        UserError: the layout does not divide the frames, a view, a pair or a camera of the calibration is missing, or the
            folder of the matcher's weights is.
    """
    settings, data = with_data_views(config.sampson, config.data), config.data
    if settings.matcher == LIGHTGLUE:
        find_folder(settings.matcher_source, settings.matcher_revision, "sampson.matcher_source")
    calibration = load_calibration(settings)
    # Noise, so that no tile counts as empty.
    frame = np.random.default_rng(0).integers(0, 256, (1, data.height, data.width, 3)).astype(np.uint8)
    views, _ = views_of(frame, settings)
    for view in views:
        camera_of(view, calibration)
    parse_pairs(settings.pairs, [view.name for view in views], [])


def ensure_matcher(settings: SampsonSettings) -> None:
    """Download the weights of the matcher if it has any and they are not on this machine.

    Raises:
        UserError: they cannot be downloaded.
    """
    if settings.matcher == LIGHTGLUE:
        ensure_folder(settings.matcher_source, settings.matcher_revision, "sampson.matcher_source")
