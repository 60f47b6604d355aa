"""Which kernels PyTorch may use, which attention kernel it chooses, what its results depend on, and 8-bit base weights."""

from __future__ import annotations

import contextlib
import os
import platform
import re
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import torch
from diffusers import CosmosTransformer3DModel
from torch import nn
from torch.nn.attention import SDPBackend

from cosmos_exp.config.schema import Config
from cosmos_exp.errors import RunError, UserError
from cosmos_exp.files import JsonObject

ARITHMETIC = 2
"""Version of the arithmetic of training: raised with each change that moves the golden losses or the order of a sum.

2: gradients are added along the tree of `training.gradients`. 1: in sequence, and by all_reduce.
"""

_SWITCHES = {
    "cudnn": torch.backends.cuda.enable_cudnn_sdp,
    "flash": torch.backends.cuda.enable_flash_sdp,
    "efficient": torch.backends.cuda.enable_mem_efficient_sdp,
    "math": torch.backends.cuda.enable_math_sdp,
}


def choose_kernels(config: Config) -> None:
    """Set the attention kernel and TF32 for this process. Call it before CUDA starts.

    With hardware.attention=auto PyTorch chooses among all kernels. Since torch 2.11 that is cuDNN's on H100, H200 and B200, unless
    it must be deterministic. Older cuDNN is left out for its errors.
    """
    if config.training.deterministic:  # cuBLAS's reproducible products need workspaces of a fixed size
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    for name, switch in _SWITCHES.items():
        switch(config.hardware.attention in ("auto", name))
    torch.set_float32_matmul_precision("high" if config.approximate.tf32 else "highest")


def attention_kernel(
    transformer: CosmosTransformer3DModel, dtype: torch.dtype, device: torch.device, deterministic: bool = False
) -> str:
    """The name of the kernel that PyTorch chooses, e.g. FLASH_ATTENTION.

    Args:
        deterministic: inside `deterministic_kernels`, where PyTorch leaves cuDNN's out.
    """
    # `torch._fused_sdp_choice` is private: PyTorch has no public way to ask which kernel it chooses. The result is only
    # recorded in the manifest. Checked with torch 2.6 to 2.12.
    heads, channels = transformer.config.num_attention_heads, transformer.config.attention_head_dim
    probe = torch.empty(1, heads, 64, channels, dtype=dtype, device=device)
    with deterministic_kernels(deterministic):
        return SDPBackend(torch._fused_sdp_choice(probe, probe, probe)).name


@contextlib.contextmanager
def deterministic_kernels(on: bool = True) -> Iterator[None]:
    """Use PyTorch's deterministic kernels inside the block, and compile without choosing kernels by their time.

    Not `warn_only`: flash and efficient attention then keep a backward pass that adds in any order.

    Raises:
        RunError: an operation has no deterministic kernel.
    """
    if not on:
        yield
        return
    import torch._inductor.config as inductor  # as torch.compile imports it; the key came with torch 2.9
    from torch.utils import deterministic as settings

    patch = inductor.patch(deterministic=True) if hasattr(inductor, "deterministic") else contextlib.nullcontext()
    before = torch.are_deterministic_algorithms_enabled()
    fill = settings.fill_uninitialized_memory  # type: ignore[attr-defined]  # a property of the module's own class
    torch.use_deterministic_algorithms(True)
    # It finds reads of memory that nothing wrote, and costs time.
    settings.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        with patch:
            yield
    except RuntimeError as error:
        if "deterministic" not in str(error):
            raise
        raise RunError(f"{str(error).splitlines()[0]} Set training.deterministic=false to train without.") from error
    finally:
        torch.use_deterministic_algorithms(before)
        settings.fill_uninitialized_memory = fill  # type: ignore[attr-defined]


def conditions(config: Config, device: torch.device, attention: str) -> JsonObject:
    """What the bits of a training depend on besides configuration, data and model. The number of processes is not here.

    Args:
        attention: the kernel that PyTorch chose.
    """
    hardware = config.hardware
    on_gpu = device.type == "cuda"
    return {
        "arithmetic": ARITHMETIC,
        "torch": version("torch"),
        "processor": torch.cuda.get_device_name(device) if on_gpu else _cpu_name(),
        "threads": None if on_gpu else torch.get_num_threads(),
        "mixed_precision": hardware.mixed_precision,
        "samples_per_forward": min(hardware.samples_per_forward, config.training.global_batch_size),
        "attention": attention,
        "compile": f"checkpointing {hardware.checkpointing}, {hardware.memory_gb} GB" if hardware.compile else False,
        "deterministic": config.training.deterministic,
    }


def _cpu_name() -> str:
    """The processor and the instruction set that PyTorch uses."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.is_file() and (model := re.search(r"^model name\s*:(.*)$", info.read_text(), re.MULTILINE)):
        name = model[1].strip()
    return f"{name}, {torch.backends.cpu.get_cpu_capability()}"


def shrink_base(transformer: nn.Module) -> None:
    """Store the frozen linear weights of the blocks in 8-bit floating point, one scale per row; products stay bf16.

    It changes numbers, so it is off by default and a run that uses it records it.

    Raises:
        UserError: torchao is not installed.
    """
    try:
        from torchao.quantization import Float8WeightOnlyConfig, quantize_
    except ImportError as error:
        raise UserError(
            "approximate.fp8_base=true requires torchao: run pip install 'cosmos-exp[approximate]', or set it to false"
        ) from error

    def frozen_block_layer(module: nn.Module, name: str) -> bool:
        inside = "transformer_blocks." in name and ".norm" not in name and "lora_" not in name
        return inside and isinstance(module, nn.Linear) and not module.weight.requires_grad

    quantize_(transformer, Float8WeightOnlyConfig(), filter_fn=frozen_block_layer)
