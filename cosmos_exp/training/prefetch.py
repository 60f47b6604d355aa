"""Batches made ready ahead of time by one thread: read, normalise, draw noise, pin. Order and content are the plan's own."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import torch

from cosmos_exp.world.rectified_flow import FlowBatch


class Prefetcher:
    """Yields (work, batch) for each piece of work, in order, `ahead` of them being made while one is used.

    Args:
        make: makes a batch on the CPU from one piece of work.
        work: pieces of work; drawn from only as far as needed.
        device: where batches go; on a GPU the copy waits for nothing.
        ahead: 0 makes each when it is asked for, in the caller's thread.
    """

    def __init__(self, make: Callable[[Any], FlowBatch], work: Iterator[Any], device: torch.device, ahead: int = 2):
        self.make, self.work, self.device, self.ahead = make, work, device, ahead
        self.pool = ThreadPoolExecutor(1, "prefetch") if ahead else None
        self.waiting: deque[tuple[Any, Future]] = deque()

    def __iter__(self) -> Prefetcher:
        return self

    def __next__(self) -> tuple[Any, FlowBatch]:
        if self.pool is None:
            piece = next(self.work)
            return piece, self.make(piece).to(self.device)
        while len(self.waiting) <= self.ahead and (piece := next(self.work, None)) is not None:
            self.waiting.append((piece, self.pool.submit(self._ready, piece)))
        if not self.waiting:
            raise StopIteration
        piece, future = self.waiting.popleft()
        return piece, future.result().to(self.device)

    def _ready(self, piece: Any) -> FlowBatch:
        batch = self.make(piece)
        return batch.pin() if self.device.type == "cuda" else batch

    def close(self) -> None:
        """Leave what has not begun; wait for what has."""
        if self.pool is not None:
            self.pool.shutdown(wait=True, cancel_futures=True)
