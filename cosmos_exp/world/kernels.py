"""Which kernels a GPU is to use, and which it takes."""

from __future__ import annotations

import torch
from torch.nn.attention import SDPBackend

_SWITCHES = {
    "cudnn": torch.backends.cuda.enable_cudnn_sdp,
    "flash": torch.backends.cuda.enable_flash_sdp,
    "efficient": torch.backends.cuda.enable_mem_efficient_sdp,
    "math": torch.backends.cuda.enable_math_sdp,
}


def choose_kernels(attention: str, tf32: bool) -> None:
    """For this process: the attention kernel ("auto": PyTorch chooses among all) and TF32 for fp32 matrix products."""
    for name, switch in _SWITCHES.items():
        switch(attention in ("auto", name))
    torch.set_float32_matmul_precision("high" if tf32 else "highest")


def attention_kernel(heads: int, channels: int, dtype: torch.dtype, device: torch.device) -> str:
    """The name of the kernel that attention of this kind gets here, e.g. FLASH_ATTENTION."""
    probe = torch.empty(1, heads, 64, channels, dtype=dtype, device=device)
    return SDPBackend(torch._fused_sdp_choice(probe, probe, probe)).name
