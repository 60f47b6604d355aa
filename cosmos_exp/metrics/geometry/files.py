"""Sampson error of video files: reading their views, sharing them among processes, and the measures of a run."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np

from cosmos_exp.config.schema import Config, Data
from cosmos_exp.config.schema import Sampson as SampsonSettings
from cosmos_exp.config.tiling import tiling_of
from cosmos_exp.data.video import read_video
from cosmos_exp.errors import RunError, UserError
from cosmos_exp.hub import ensure_folder, find_folder
from cosmos_exp.metrics.geometry.calibration import load_calibration
from cosmos_exp.metrics.geometry.results import VideoResult
from cosmos_exp.metrics.geometry.sampson import check_views, measure_views
from cosmos_exp.metrics.geometry.views import View, parse_layout, views_of
from cosmos_exp.metrics.interface import Measured, ScoredVideo

SOURCES_PER_PROCESS = 4  # starting a process costs about a second, so it must have this many sources to measure


@dataclass(frozen=True)
class Source:
    """One video of one or more views, or several files that are simultaneous views of one scene.

    span: the frames to measure, stop excluded; None: all.
    """

    name: str
    files: tuple[Path, ...]
    span: tuple[int, int] | None = None


# `map` over sources: a function of a source and the sources, to the results in order.
SourceMap = Callable[[Callable[[Source], VideoResult | str], Sequence[Source]], Iterable[VideoResult | str]]


def check_settings(settings: SampsonSettings) -> None:
    """Find errors in the settings before any video is read. Downloads nothing.

    Raises:
        UserError: the layout, the view names, the calibration, or the folder of the matcher's weights.
    """
    if settings.layout:
        rows, columns = parse_layout(settings.layout)
        if settings.views and len(settings.views) != rows * columns:
            raise UserError(
                f"sampson.views: {len(settings.views)} names for the {rows * columns} tiles of {settings.layout}. Name every tile; - skips one."
            )
    if settings.calibration:
        load_calibration(Path(settings.calibration))
    if settings.matcher == "superpoint_lightglue":
        find_folder(settings.matcher_source, settings.matcher_revision, "sampson.matcher_source")


def check_run_settings(config: Config) -> None:
    """Find errors in the settings of a run before its first video is made: do they fit the videos that it will make?

    Raises:
        UserError: as `check_settings`; the layout does not divide the frames, a pair or a camera of the calibration is
            missing.
    """
    settings, data = with_data_views(config.sampson, config.data), config.data
    check_settings(settings)
    calibration = load_calibration(Path(settings.calibration)) if settings.calibration else None
    # Noise, so that no tile counts as empty.
    frame = np.random.default_rng(0).integers(0, 256, (1, data.height, data.width, 3)).astype(np.uint8)
    check_views(views_of(frame, settings)[0], settings, calibration)


def ensure_matcher(settings: SampsonSettings) -> None:
    """Download the weights of the matcher if it has any and they are not on this machine.

    Raises:
        UserError: they cannot be downloaded.
    """
    if settings.matcher == "superpoint_lightglue":
        ensure_folder(settings.matcher_source, settings.matcher_revision, "sampson.matcher_source")


def read_views(source: Source, settings: SampsonSettings) -> tuple[list[View], list[str]]:
    """The views of a source and notes on tiles that were left out.

    Raises:
        RunError: a file does not decode.
        UserError: the layout or the view names do not fit the video.
    """
    videos = [read_video(f)[slice(*(source.span or (None,)))] for f in source.files]
    if len(videos) == 1:
        return views_of(videos[0], settings)
    names = settings.views or [f.stem for f in source.files]
    return [View(n, v) for n, v in zip(names, videos, strict=True)], []


def measure_source(source: Source, settings: SampsonSettings, threads: int = 1) -> VideoResult | str:
    """All figures of a source, or the error message if a file cannot be read.

    Raises:
        UserError: the settings do not fit the video.
    """
    calibration = load_calibration(Path(settings.calibration)) if settings.calibration else None
    try:
        views, notes = read_views(source, settings)
    except RunError as error:
        return str(error)
    return measure_views(views, settings, calibration, threads, notes)


@contextlib.contextmanager
def source_pool(count: int, settings: SampsonSettings, workers: int = 0) -> Iterator[tuple[SourceMap, int]]:
    """A `map` over `count` sources and the number of threads for each; processes end with the block.

    Args:
        workers: processes; 0: one per core, fewer for few sources. LightGlue stays in this process.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = min(workers or cores, count // SOURCES_PER_PROCESS + 1)
    if workers <= 1 or settings.matcher != "sift":
        yield map, cores
        return
    threads = max(1, cores // workers)
    with ProcessPoolExecutor(workers, get_context("spawn"), cv2.setNumThreads, (threads,)) as pool:
        yield pool.map, threads


def with_data_views(settings: SampsonSettings, data: Data) -> SampsonSettings:
    """The settings with the data's tiles as layout if none is set: those of data.cameras, or data.views in one row."""
    if settings.layout or not (data.cameras or data.views):
        return settings
    tiling = tiling_of(data)
    return replace(settings, layout=str(tiling), views=list(tiling.names))


def measure_sampson(videos: Sequence[ScoredVideo], config: Config, workers: int) -> Iterator[Measured] | None:
    """The Sampson measures of a run's videos (see `metrics.interface.MeasureFunction`).

    Raises:
        RunError: a video cannot be read.
    """
    if not config.sampson.enabled:
        return None
    return _measure_sampson(videos, with_data_views(config.sampson, config.data), workers)


def _measure_sampson(videos: Sequence[ScoredVideo], settings: SampsonSettings, workers: int) -> Iterator[Measured]:
    sources = [Source(str(v.path), (v.path,), _measured_span(v)) for v in videos]
    with source_pool(len(sources), settings, workers) as (pool_map, threads):
        results = pool_map(partial(measure_source, settings=settings, threads=threads), sources)
        for video, result in zip(videos, results, strict=True):
            if isinstance(result, str):
                raise RunError(result)
            yield Measured(result.measures(), result.detail(), result.curves(video.conditioning))


def _measured_span(video: ScoredVideo) -> tuple[int, int] | None:
    """Of a chunk the frames from its last conditioning frame on: the pairs before it are those of the chunk before."""
    return (video.span[0] + video.conditioning - 1, video.span[1]) if video.span else None
