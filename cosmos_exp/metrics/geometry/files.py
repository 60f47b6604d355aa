"""Sampson error of video files, several at a time: one process a file, threads inside where files are few."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import cv2

from cosmos_exp.data.video import read_video
from cosmos_exp.errors import RunError, UserError
from cosmos_exp.metrics.geometry.calibration import load_calibration
from cosmos_exp.metrics.geometry.results import VideoResult
from cosmos_exp.metrics.geometry.sampson import measure_video, measure_views
from cosmos_exp.metrics.geometry.views import View, parse_layout

START_PAYS = 4  # a further process is started for each so many files; it costs about a second


@dataclass(frozen=True)
class Source:
    """A video of one or more tiles, or several files that are simultaneous views of one scene."""

    name: str
    files: tuple[Path, ...]


def check_settings(settings: Any) -> None:
    """What can be known to be wrong before any video is read.

    Raises:
        UserError: the layout, the calibration or the matcher's weights.
    """
    from cosmos_exp.hub import local_folder

    if settings.layout:
        rows, columns = parse_layout(settings.layout)
        if settings.views and len(settings.views) != rows * columns:
            raise UserError(
                f"sampson.views: {len(settings.views)} names for the {rows * columns} tiles of {settings.layout}"
            )
    if settings.calibration:
        load_calibration(Path(settings.calibration))
    if settings.matcher == "superpoint_lightglue":
        local_folder(settings.matcher_source, settings.matcher_revision, "sampson.matcher_source")


def measure(source: Source, settings: Any, threads: int = 1) -> VideoResult:
    """All figures of a source.

    Raises:
        RunError: a file that does not decode. UserError: settings that do not fit the video.
    """
    calibration = load_calibration(Path(settings.calibration)) if settings.calibration else None
    if len(source.files) == 1:
        return measure_video(read_video(source.files[0]), settings, calibration, threads)
    names = settings.views or [f.stem for f in source.files]
    views = [View(n, read_video(f)) for n, f in zip(names, source.files, strict=True)]
    return measure_views(views, settings, calibration, threads)


def measure_all(sources: list[Source], settings: Any, workers: int = 0) -> Iterator[VideoResult | str]:
    """Each source's figures in order, or why it could not be read; the same numbers for any number of workers.

    Args:
        workers: processes; 0: one a core, fewer for few sources. LightGlue stays in this process.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = min(workers or cores, len(sources) // START_PAYS + 1)
    if workers <= 1 or settings.matcher != "sift":
        for source in sources:
            yield _safely(source, settings, cores)
        return
    with ProcessPoolExecutor(workers, get_context("spawn")) as pool:
        yield from pool.map(_one_of_many, sources, [settings] * len(sources), [max(1, cores // workers)] * len(sources))


def _one_of_many(source: Source, settings: Any, threads: int) -> VideoResult | str:
    cv2.setNumThreads(threads)
    return _safely(source, settings, threads)


def _safely(source: Source, settings: Any, threads: int) -> VideoResult | str:
    try:
        return measure(source, settings, threads)
    except RunError as error:
        return str(error)


def from_data(settings: Any, data_views: list[str]) -> Any:
    """The settings with the data's own layout where none is given: its views stand side by side."""
    if settings.layout or not data_views:
        return settings
    return replace(settings, layout=f"1x{len(data_views)}", views=list(data_views))
