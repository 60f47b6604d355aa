"""The processes of one run: who this one is, sums over all, waiting for all. One process needs no set-up."""

from __future__ import annotations

import contextlib
import os
from typing import Any

import torch
import torch.distributed as dist

from cosmos_exp.errors import RunError


class Processes:
    """Rank and size as `accelerate launch` (torchrun) left them in the environment; `expected` many, or it is an error."""

    def __init__(self, device: str, expected: int, num_threads: int | None = None):
        self.rank, self.size = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
        if self.size != expected:
            raise RunError(f"check failed: {self.size} processes are running, hardware.num_processes={expected}")
        local = int(os.environ.get("LOCAL_RANK", 0))
        self.device = torch.device(f"cuda:{local}" if device == "cuda" else "cpu")
        if device == "cuda":
            torch.cuda.set_device(self.device)
        torch.set_num_threads(num_threads or max(1, (os.cpu_count() or 1) // self.size))
        if self.size > 1 and not dist.is_initialized():
            dist.init_process_group("nccl" if device == "cuda" else "gloo")

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def all_reduce_(self, tensor: torch.Tensor) -> torch.Tensor:
        """Sum a tensor over all processes, in place."""
        if self.size > 1:
            dist.all_reduce(tensor)
        return tensor

    def barrier(self) -> None:
        """Go on when all processes are here."""
        if self.size > 1:
            dist.barrier()

    def shard(self, items: list[Any]) -> list[Any]:
        """This process's part of a list of independent work."""
        return items[self.rank :: self.size]

    def close(self) -> None:
        """Leave the process group."""
        if self.size > 1 and dist.is_initialized():
            with contextlib.suppress(RuntimeError):
                dist.destroy_process_group()
