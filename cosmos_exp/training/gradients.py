"""The gradient of the global batch: summed over the processes in one all-reduce."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import nn

from cosmos_exp.distributed import Processes


def all_reduce_gradients(
    parameters: Mapping[str, nn.Parameter], losses: torch.Tensor, stop: torch.Tensor, processes: Processes
) -> None:
    """Sum gradients, losses (global batch,) and the stop flag (1,) over all processes, in place.

    One all-reduce for all of them: every process then takes the same step and stops at the same step.
    """
    for parameter in parameters.values():
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    if processes.size == 1:
        return
    parts = [*(p.grad for p in parameters.values() if p.grad is not None), losses, stop]
    flat = processes.all_reduce_(torch.cat([p.reshape(-1) for p in parts]))
    for part, piece in zip(parts, flat.split([p.numel() for p in parts]), strict=True):
        part.copy_(piece.view_as(part))
