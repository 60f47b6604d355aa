"""The processes of one run: accelerate's state, and the exchanges that the sum of gradients along a tree needs."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import TypeVar

import torch
import torch.distributed as dist
from accelerate import PartialState

from cosmos_exp.errors import RunError, UserError
from cosmos_exp.provenance import available_cores

Item = TypeVar("Item")
# Beginnings of variables that another launcher has left in a shell.
LAUNCHERS = ("RANK", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "WORLD_SIZE", "MASTER_")
MPI = ("OMPI_COMM_WORLD_", "PMI_", "MV2_COMM_WORLD_")


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
        num_threads: CPU threads of this process; None: OMP_NUM_THREADS of a run of one process (Ray sets it), else all cores,
            divided evenly.

    Raises:
        UserError: another number of processes is running.
    """

    def __init__(self, device: str, expected: int, num_threads: int | None = None):
        try:
            running = int(os.environ.get("WORLD_SIZE", 1))
        except ValueError as error:
            raise UserError(
                "WORLD_SIZE: set in the environment to what is no number. Remove with `unset WORLD_SIZE`."
            ) from error
        if running != expected:
            raise UserError(
                f"the launcher started {running} processes, but hardware.num_processes times hardware.num_machines is "
                f"{expected}. Set hardware.num_processes to the launcher's processes per machine."
            )
        for name in list(os.environ):  # accelerate prefers mpirun's to torchrun's, and would wait for a MASTER_ADDR
            if name.startswith(MPI) or (running == 1 and name.startswith(LAUNCHERS)):
                del os.environ[name]
        self._state = PartialState(cpu=device == "cpu")
        self.rank: int = self._state.process_index
        self.size: int = self._state.num_processes
        self.is_main: bool = self._state.is_main_process  # which writes the records
        self.device = self._state.device
        if self.device.type == "cuda":
            self.device = torch.device("cuda", torch.cuda.current_device())
        neighbours = int(os.environ.get("LOCAL_WORLD_SIZE", expected))
        given = running == 1 and os.environ.get("OMP_NUM_THREADS")  # torch has read it; torchrun's 1 is no choice
        if num_threads or not given:
            torch.set_num_threads(num_threads or max(1, available_cores() // neighbours))

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
    def exchange(self, partner: int, sent: torch.Tensor | None, received: torch.Tensor | None) -> None:
        """Send a tensor to a process, and fill another with the one that it sends; None: nothing in this direction."""
        operations = []
        for operation, tensor in ((dist.isend, sent), (dist.irecv, received)):
            if tensor is not None:
                operations.append(dist.P2POp(operation, tensor, partner))
        for request in dist.batch_isend_irecv(operations) if operations else ():
            request.wait()

    @_together()
    def broadcast_(self, tensor: torch.Tensor, source: int) -> torch.Tensor:
        """Copy the tensor of one process to all, in place."""
        dist.broadcast(tensor, source)
        return tensor

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
