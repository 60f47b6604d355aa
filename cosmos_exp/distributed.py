"""The processes of one run: accelerate's state, and the exchanges that the sum of gradients along a tree needs."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import TypeVar

import torch
import torch.distributed as dist
from accelerate import PartialState

from cosmos_exp.errors import RunError
from cosmos_exp.provenance import available_cores

Item = TypeVar("Item")


class PeerLost(RunError):
    """Another process of this run ended, so that this one cannot continue."""


@contextlib.contextmanager
def _together() -> Iterator[None]:
    """Turn the group's error into one that says what it means: libraries report it in many lines.

    Raises:
        PeerLost: another process ended.
    """
    try:
        yield
    except RuntimeError as error:  # of gloo; dist.DistBackendError of NCCL is one, too
        raise PeerLost("another process of this run ended") from error


class Processes:
    """This process among those of the run.

    Args:
        device: "cpu" or "cuda".
        expected: number of processes that the configuration asks for, on all machines.
        num_threads: CPU threads of this process; None divides all cores evenly.

    Raises:
        RunError: another number of processes is running.
    """

    def __init__(self, device: str, expected: int, num_threads: int | None = None):
        here = int(os.environ.get("LOCAL_WORLD_SIZE", expected))
        threads = num_threads or max(1, available_cores() // here)
        self._state = PartialState(cpu=device == "cpu")
        self.rank: int = self._state.process_index
        self.size: int = self._state.num_processes
        if self.size != expected:
            raise RunError(f"{self.size} processes are running, but the configuration asks for {expected}")
        self.device = self._state.device
        if self.device.type == "cuda":
            self.device = torch.device("cuda", torch.cuda.current_device())
        torch.set_num_threads(threads)

    @property
    def is_main(self) -> bool:
        """Whether this is the process that writes records."""
        return self.rank == 0

    def all_reduce_(self, tensor: torch.Tensor) -> torch.Tensor:
        """Sum a tensor over all processes, in place.

        The order of the sum depends on the backend and the number of processes. The result is the same to the bit only
        where each entry differs from zero in at most one process, or where all sums are exact.
        """
        if self.size > 1:
            with _together():
                dist.all_reduce(tensor)
        return tensor

    @_together()
    def swap(self, tensor: torch.Tensor, partner: int, received: torch.Tensor) -> torch.Tensor:
        """Send a tensor to a process that does the same. Returns `received`, filled with the partner's tensor."""
        both = [dist.P2POp(dist.isend, tensor, partner), dist.P2POp(dist.irecv, received, partner)]
        for request in dist.batch_isend_irecv(both):
            request.wait()
        return received

    @_together()
    def send(self, tensor: torch.Tensor, partner: int) -> None:
        """Send a tensor to a process, which calls `receive`."""
        dist.send(tensor, partner)

    @_together()
    def receive(self, received: torch.Tensor, partner: int) -> torch.Tensor:
        """Fill a tensor with the one that a process sends."""
        dist.recv(received, partner)
        return received

    @_together()
    def broadcast_(self, tensor: torch.Tensor, source: int) -> torch.Tensor:
        """Copy the tensor of one process to all, in place."""
        dist.broadcast(tensor, source)
        return tensor

    @_together()
    def same(self, text: str) -> str:
        """The text of the first process, in all of them."""
        texts = [text]
        if self.size > 1:
            dist.broadcast_object_list(texts, 0)
        return texts[0]

    @_together()
    def barrier(self) -> None:
        """Wait until all processes are here."""
        self._state.wait_for_everyone()

    def shard(self, items: Sequence[Item]) -> Sequence[Item]:
        """This process's part of a list of independent work."""
        return items[self.rank :: self.size]

    def close(self) -> None:
        """Leave the process group."""
        with contextlib.suppress(RuntimeError):
            self._state.destroy_process_group()
        PartialState._reset_state()  # the next run of this process may have another device
