"""What an optimizer step leaves behind: figures on the device, read when they are there, so that nobody waits for them."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch

from cosmos_exp.errors import RunError


@dataclass
class StepFigures:
    """One step's losses (one a sample of the global batch), gradient norm and stop flag, on their way to the CPU.

    number: of the step, from 0. batch: its (sample number, video index). began: when, by time.perf_counter.
    """

    number: int
    batch: list[tuple[int, int]]
    rate: float
    began: float
    host: torch.Tensor = field(init=False)
    arrived: Any = field(init=False, default=None)

    def send(self, losses: torch.Tensor, norm: torch.Tensor, asked: torch.Tensor) -> None:
        """Start the copy to the CPU."""
        packed = torch.cat([losses, norm.detach().view(1).to(losses), asked.view(1).to(losses)])
        if packed.device.type != "cuda":
            self.host = packed
            return
        self.host = torch.empty(packed.shape, dtype=packed.dtype, pin_memory=True).copy_(packed, non_blocking=True)
        self.arrived = torch.cuda.Event()
        self.arrived.record()

    def read(self, path_of: Any) -> tuple[float, float, bool]:
        """(mean loss, gradient norm, whether anybody was asked to stop).

        Args:
            path_of: video index to the file it came from.

        Raises:
            RunError: the loss or the gradient is not finite.
        """
        if self.arrived is not None:
            self.arrived.synchronize()
        *losses, norm, asked = self.host.tolist()
        bad = [i for i, loss in enumerate(losses) if not math.isfinite(loss)]
        if bad:
            number, video = self.batch[bad[0]]
            raise RunError(
                f"the loss is not finite at step {self.number + 1}, sample {number} "
                f"({path_of(video)}); the checkpoints before it are kept. "
                "A lower training.learning_rate or training.max_grad_norm may mend it."
            )
        if not math.isfinite(norm):
            raise RunError(
                f"the gradient is not finite at step {self.number + 1}; the checkpoints before it are kept. "
                "training.zero_nonfinite_grads=true sets such entries to zero, as the official recipe does."
            )
        return self.host[: len(losses)].mean().item(), norm, asked > 0
