"""Batches prepared ahead of time by one thread: read, normalise, draw noise, pin. Order and content do not change."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Generic, TypeVar

import torch

from cosmos_exp.world.rectified_flow import FlowBatch

Work = TypeVar("Work")


class Prefetcher(Generic[Work]):
    """Yields (work, batch) for each piece of work, in order; `ahead` batches are prepared while one is used.

    Args:
        make: makes a batch on the CPU from one piece of work.
        work: pieces of work; drawn only as far as needed.
        device: where batches go; copies to a GPU are asynchronous.
        ahead: 0 makes each batch when it is asked for, in the caller's thread.
    """

    def __init__(self, make: Callable[[Work], FlowBatch], work: Iterator[Work], device: torch.device, ahead: int = 2):
        self.make, self.work, self.device, self.ahead = make, work, device, ahead
        self.pool = ThreadPoolExecutor(1, "prefetch") if ahead else None
        self.waiting: deque[tuple[Work, Future[FlowBatch]]] = deque()

    def __iter__(self) -> Prefetcher[Work]:
        return self

    def __next__(self) -> tuple[Work, FlowBatch]:
        if self.pool is None:
            piece = next(self.work)
            return piece, self.make(piece).to(self.device)
        while len(self.waiting) <= self.ahead:
            try:
                piece = next(self.work)
            except StopIteration:
                break
            self.waiting.append((piece, self.pool.submit(self._prepare, piece)))
        if not self.waiting:
            raise StopIteration
        piece, future = self.waiting.popleft()
        return piece, future.result().to(self.device)

    def _prepare(self, piece: Work) -> FlowBatch:
        batch = self.make(piece)
        return batch.pin() if self.device.type == "cuda" else batch

    def close(self) -> None:
        """Cancel what has not begun and wait for the rest."""
        if self.pool is not None:
            self.pool.shutdown(wait=True, cancel_futures=True)
