"""The figures of one optimizer step on their way from the device to the CPU, so that the step does not wait for them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import torch

from cosmos_exp.errors import RunError


@dataclass
class StepFigures:
    """One step's losses (one per sample of the global batch), gradient norm and stop flag.

    step: number of the step, from 0. batch: its (sample number, video index). began: time.perf_counter at its start.
    """

    step: int
    batch: list[tuple[int, int]]
    lr: float
    began: float
    host: torch.Tensor = field(init=False)
    arrived: torch.cuda.Event | None = field(init=False, default=None)

    def send(self, losses: torch.Tensor, norm: torch.Tensor, stop: torch.Tensor) -> None:
        """Start the copy to the CPU."""
        packed = torch.cat([losses, norm.detach().view(1).to(losses), stop.view(1).to(losses)])
        if packed.device.type != "cuda":
            self.host = packed
            return
        self.host = torch.empty(packed.shape, dtype=packed.dtype, pin_memory=True).copy_(packed, non_blocking=True)
        self.arrived = torch.cuda.Event()
        self.arrived.record()

    def read(self, path_of: Callable[[int], object]) -> tuple[float, float, bool]:
        """(mean loss, gradient norm, whether a process was asked to stop); waits for the copy.

        Args:
            path_of: the file of a video index.

        Raises:
            RunError: the loss or the gradient is not finite.
        """
        if self.arrived is not None:
            self.arrived.synchronize()
        *losses, norm, stop = self.host.tolist()
        bad = [i for i, loss in enumerate(losses) if not math.isfinite(loss)]
        if bad:
            number, video = self.batch[bad[0]]
            raise RunError(
                f"the loss is not finite at step {self.step + 1}, sample {number} ({path_of(video)}). Earlier checkpoints "
                "are kept. Try a lower training.learning_rate or training.max_grad_norm."
            )
        if not math.isfinite(norm):
            raise RunError(
                f"the gradient is not finite at step {self.step + 1}. Earlier checkpoints are kept. "
                "training.zero_nonfinite_grads=true sets such entries to zero, as the official recipe does."
            )
        return self.host[: len(losses)].mean().item(), norm, stop > 0
