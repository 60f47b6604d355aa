"""Sampson error of videos: temporal for each view, across views for each pair of views.

result = measure_source(Source("name", (path,)), settings)      one video, or one file per view
measure_sampson(videos, config, workers)                        the videos of a run
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from cosmos_exp.config.registry import MATCHERS
from cosmos_exp.config.schema import Config, Data, Sampson
from cosmos_exp.config.tiling import tiling_of
from cosmos_exp.data.video import VideoFrames
from cosmos_exp.errors import RunError
from cosmos_exp.hub import ensure_folder, find_folder
from cosmos_exp.metrics.geometry.cross_view import FrameMatches, cross_error, match_views, pooled
from cosmos_exp.metrics.geometry.results import Result, VideoResult
from cosmos_exp.metrics.geometry.temporal import Track
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
    settings: Sampson,
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
    tracks, sizes, matches = [], {}, defaultdict[tuple[str, str], list[FrameMatches]](list)
    for view in views:
        sizes[view.name] = view.size
        tracks.append(Track(view, matcher, settings, camera_of(view, calibration), threads))
    for batches in itertools.zip_longest(*map(Track.batches, tracks), fillvalue=()):
        frames = dict(zip(sizes, batches, strict=True))
        for a, b in pairs:
            height, width = np.maximum(sizes[a], sizes[b]).tolist()
            matches[a, b] += match_views(frames[a], frames[b], matcher, (height, width))
    crosses = [cross_error(pooled(f"{a}:{b}", matches[a, b]), settings) for a, b in pairs]
    return VideoResult(tuple(map(Track.result, tracks)), tuple(crosses), tuple(notes))


def temporal_sampson(frames: np.ndarray, settings: Sampson, threads: int = 1) -> Result:
    """The temporal errors of one view, uint8 (T, H, W, 3) RGB."""
    return measure_views([View("video", frames)], settings, threads=threads).views[0]


def read_views(source: Source, settings: Sampson) -> tuple[list[View], list[str]]:
    """The views of a source and notes on tiles that were left out.

    Raises:
        RunError: a file is no video, or the files are not simultaneous.
        UserError: the layout or the view names do not fit the video.
    """
    films = [VideoFrames(file, source.span) for file in source.files]
    if len(films) == 1:
        return views_of(films[0], settings)
    names = settings.views or [file.stem for file in source.files]
    for film in films[1:]:
        _check_simultaneous(films[0], film)
    return list(map(View, names, films)), []


def _check_simultaneous(a: VideoFrames, b: VideoFrames) -> None:
    """Refuse files of which frames of the same number are not of the same time.

    Raises:
        RunError: their lengths differ by more than a frame, or two frames by more than half a frame's time.
    """
    common = min(a.info.num_frames, b.info.num_frames)
    apart = [abs(a.info.second(k) - b.info.second(k)) for k in range(common)]
    worst = int(np.argmax(apart))
    if abs(a.info.num_frames - b.info.num_frames) <= 1 and apart[worst] <= 0.5 / a.info.fps + 1e-6:
        return
    described = []
    for film in (a, b):
        described.append(
            f"{film.path} has {film.info.num_frames} frames at {film.info.fps:g} fps, frame {worst} at {film.info.second(worst):.3f} s"
        )
    raise RunError(
        f"{'; '.join(described)}: views are compared frame by frame. Bring them to one rate and length, e.g. "
        f"ffmpeg -i IN.mp4 -vf fps={a.info.fps:g} -frames:v {common} OUT.mp4"
    )


def measure_source(source: Source, settings: Sampson, threads: int = 1) -> VideoResult | str:
    """All errors of a source, or the error message if a file cannot be read.

    Raises:
        UserError: the settings do not fit the video.
    """
    calibration = load_calibration(settings)
    try:
        views, notes = read_views(source, settings)
        return measure_views(views, settings, calibration, threads, notes)
    except RunError as error:
        return str(error)


def measure_sources(sources: Sequence[Source], settings: Sampson, workers: int = 0) -> Iterator[VideoResult | str]:
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
    detail, once = result.detail(), {}
    for key in ("pairs_lost", "views", "crosses", "notes"):
        once[key] = detail.pop(key)
    return Measured(result.measures(), detail, result.curves(video.conditioning), once)


def with_data_views(settings: Sampson, data: Data) -> Sampson:
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


def ensure_matcher(settings: Sampson) -> None:
    """Download the weights of the matcher if it has any and they are not on this machine.

    Raises:
        UserError: they cannot be downloaded.
    """
    if settings.matcher == LIGHTGLUE:
        ensure_folder(settings.matcher_source, settings.matcher_revision, "sampson.matcher_source")
