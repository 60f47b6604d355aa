"""Which attention kernel PyTorch may use, and which one it chooses."""

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
    """Set the attention kernel and TF32 for this process.

    Args:
        attention: "auto" (PyTorch chooses among all), "cudnn", "flash", "efficient" or "math".
        tf32: whether fp32 matrix products use TF32.
    """
    for name, switch in _SWITCHES.items():
        switch(attention in ("auto", name))
    torch.set_float32_matmul_precision("high" if tf32 else "highest")


def attention_kernel(heads: int, channels: int, dtype: torch.dtype, device: torch.device) -> str:
    """The name of the kernel that PyTorch chooses, e.g. FLASH_ATTENTION.

    Args:
        heads: number of attention heads.
        channels: of one head.
    """
    # `torch._fused_sdp_choice` is private: PyTorch has no public way to ask which kernel it chooses. The result is only
    # recorded in the manifest. Checked with torch 2.6 to 2.12.
    probe = torch.empty(1, heads, 64, channels, dtype=dtype, device=device)
    return SDPBackend(torch._fused_sdp_choice(probe, probe, probe)).name
