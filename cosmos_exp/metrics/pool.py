"""A `map` over videos that shares them among processes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import cv2

from cosmos_exp.metrics.interface import Measured, ScoredVideo

VideoMap = Callable[[Callable[[ScoredVideo], Measured], Sequence[ScoredVideo]], Iterable[Measured]]

VIDEOS_PER_PROCESS = 8  # starting a process costs about a second, so it must have this many videos to measure


@contextlib.contextmanager
def video_pool(count: int, workers: int = 0) -> Iterator[VideoMap]:
    """A `map` over `count` videos, results in order; its processes end with the block.

    OpenCV uses one thread throughout: some of its functions (DIS optical flow) depend on the number of threads.

    Args:
        workers: the most processes; 0: one per core. Fewer are started for few videos, none for very few.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    workers = min(workers or cores, count // VIDEOS_PER_PROCESS + 1)
    if workers > 1:
        with ProcessPoolExecutor(workers, get_context("spawn"), cv2.setNumThreads, (1,)) as pool:
            yield pool.map
        return
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        yield map
    finally:
        cv2.setNumThreads(threads)
