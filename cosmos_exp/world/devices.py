"""The GPUs of this machine."""

from __future__ import annotations

from cosmos_exp.config.schema import Hardware
from cosmos_exp.errors import UserError


def check_gpus(hardware: Hardware) -> int:
    """The number of GPUs here; 0 for hardware.device=cpu. Does not initialise CUDA.

    Raises:
        UserError: fewer than hardware.num_processes, one process per GPU.
    """
    if hardware.device == "cpu":
        return 0
    import torch

    count = torch.cuda.device_count()
    if count < hardware.num_processes:
        raise UserError(
            f"hardware.num_processes={hardware.num_processes}: this machine has {count} GPUs. "
            "Choose another hardware=… (cpu, 1xh100, 8xh100, 1x24gb) or lower hardware.num_processes."
        )
    return count
