"""What a step asks of the hardware: sizes of latents, floating-point operations, memory. Arithmetic, no torch.

The row counts of the memory estimate come from benchmarks/memory.py on the 2B model's blocks. A row is tokens x hidden
values at the activations' precision.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

from cosmos_exp.config.layers import Layers, TransformerConfig, linear_layers
from cosmos_exp.config.schema import Config, Hardware
from cosmos_exp.errors import UserError

LatentShape = tuple[int, int, int, int]  # channels, frames, rows, columns


def latent_shape(config: Config) -> LatentShape:
    """Shape of a clip's latent at the VAE's compression: 4x in time, 8x8 in space."""
    data = config.data
    return config.model.z_dim, (data.num_frames - 1) // 4 + 1, data.height // 8, data.width // 8


def num_tokens(shape: LatentShape) -> int:
    """Transformer tokens of a latent: patches of 1x2x2."""
    return shape[1] * (shape[2] // 2) * (shape[3] // 2)


# Dense bf16 matrix rates from the vendors' data sheets, FLOP/s. The first name contained in the device's name counts.
PEAK_FLOPS = {
    "B200": 2250e12,
    "H200": 989e12,
    "H100 PCIe": 756e12,
    "H100": 989e12,
    "A100": 312e12,
    "L40S": 362e12,
    "RTX 4090": 165e12,
    "RTX 3090": 71e12,
    "A6000": 155e12,
}


def training_flops(
    keys: TransformerConfig,
    shape: LatentShape,
    text_tokens: int,
    layers: Layers,
    ranks: Mapping[str, int],
    full: bool = False,
) -> float:
    """Floating-point operations that one training sample requires, forward and backward, with no recomputation.

    A multiplication and an addition count as two. Frozen weights need a gradient for their input only, so the backward
    pass of a linear layer costs as much as its forward pass; that of attention costs twice its forward pass, and of a
    linear layer whose weights are trained, too; an adapter costs three times its forward pass in all. Norms, activations and modulations (one row per frame) are left out:
    together under 1 %.

    Args:
        keys: the transformer's configuration.
        shape: of the latent.
        text_tokens: of the prompt.
        layers: adapted layers, name -> (in, out).
        ranks: of the layers (`config.layers.layer_ranks`).
        full: all weights are trained.
    """
    tokens = num_tokens(shape)
    linear, attention = _forward(keys, tokens, text_tokens)
    adapter = 0
    for name, (size_in, size_out) in layers.items():
        adapter += 6 * _rows(name, tokens, text_tokens) * ranks[name] * (size_in + size_out)
    return float((2 + full) * linear + 3 * attention + adapter)


def forward_flops(keys: TransformerConfig, shape: LatentShape, text_tokens: int) -> float:
    """Floating-point operations of one forward pass of the transformer, its adapter merged; counted as in training."""
    return float(sum(_forward(keys, num_tokens(shape), text_tokens)))


def _forward(keys: TransformerConfig, tokens: int, text_tokens: int) -> tuple[int, int]:
    """Operations of the linear layers and of the attention in a forward pass."""
    hidden = keys["num_attention_heads"] * keys["attention_head_dim"]
    linear = 0
    for name, (size_in, size_out) in linear_layers(keys).items():
        if name.startswith("transformer_blocks.") and ".norm" not in name:
            linear += 2 * _rows(name, tokens, text_tokens) * size_in * size_out
    return linear, keys["num_layers"] * 4 * tokens * (tokens + text_tokens) * hidden


def _rows(layer: str, tokens: int, text_tokens: int) -> int:
    """Rows that a layer multiplies."""
    if layer.endswith(("attn2.to_k", "attn2.to_v")):
        return text_tokens
    return tokens


def peak_flops(device_name: str) -> float | None:
    """A GPU's dense bf16 rate, FLOP/s; None if it is not in the table."""
    return next((rate for name, rate in PEAK_FLOPS.items() if name in device_name), None)


DRIVER_RECORD = Path("/proc/driver/nvidia/version")
OLDEST_DRIVER = {"13": "580.65", "12": "525.60"}  # NVIDIA driver by version of CUDA, from its release notes

# Checkpointing policies from most memory to least (world/activation_checkpointing.py says what each keeps).
POLICIES = ("none", "pointwise", "selective", "full")

# Rows that a block keeps for the backward pass, by compile and policy; and rows that the running block needs besides.
KEPT_ROWS = {
    False: {"none": 29.0, "pointwise": 25.0, "selective": 2.0, "full": 1.0},
    True: {"none": 24.5, "pointwise": 13.5, "selective": 2.0, "full": 1.0},
}
WORKING_ROWS = {False: 37.0, True: 30.0}

# What DoRA adds: the output of each layer before its magnitude.
DORA_ROWS = {False: {"none": 11.0}, True: {"none": 4.0, "pointwise": 2.5}}
DORA_WORKING_ROWS = {False: 18.0, True: 4.0}

# Part of a device's memory that a plan may use. The rest covers fragmentation, workspaces and the estimate's error.
USABLE_MEMORY = 0.8


class StepMemory(NamedTuple):
    """What determines a training process's memory, besides checkpointing.

    fixed: bytes of the frozen weights, and of the trained ones with their gradients and AdamW's moments.
    row: bytes of a row: samples of a forward pass x tokens x hidden values.
    num_layers: blocks of the transformer. compiled: they are compiled. dora: the adapter is DoRA.
    """

    fixed: float
    row: float
    num_layers: int
    compiled: bool
    dora: bool

    def gib(self, policies: Sequence[str]) -> float:
        """Estimate of the peak in GiB with one checkpointing policy per block."""
        kept = 0.0
        for policy in policies:
            kept += KEPT_ROWS[self.compiled][policy] + self.dora * DORA_ROWS[self.compiled].get(policy, 0.0)
        working = WORKING_ROWS[self.compiled] + self.dora * DORA_WORKING_ROWS[self.compiled]
        return float((self.fixed + self.row * (kept + working)) / 2**30)


def choose_checkpointing(memory: StepMemory, budget_gib: float | None) -> list[str]:
    """The policies, one per block, that recompute least within the budget.

    Two neighbours of `POLICIES` divide the blocks: as many blocks as fit take the one that keeps more. If nothing fits,
    or the budget is unknown, all blocks take "full".
    """
    count = memory.num_layers
    for more, less in pairwise(POLICIES):
        for kept in range(count, -1, -1):
            policies = [more] * kept + [less] * (count - kept)
            if budget_gib is not None and memory.gib(policies) <= budget_gib:
                return policies
    return ["full"] * count


def memory_estimate(
    keys: TransformerConfig,
    base_parameters: int,
    trainable: int,
    tokens: int,
    hardware: Hardware,
    global_batch_size: int,
    dora: bool,
    trained_bytes: float = 16.0,
) -> tuple[float, list[str]]:
    """Peak of a training process in GiB, and one checkpointing policy per block, hardware.checkpointing=auto resolved.

    Args:
        keys: the transformer's configuration.
        base_parameters, trainable: number of frozen and of trained parameters.
        tokens: of one sample.
        global_batch_size: over all processes. The estimate does not depend on their number, so that all choose alike.
        dora: the adapter is DoRA.
        trained_bytes: of a trained parameter with all that belongs to it, e.g. 16: fp32, its gradient, AdamW's two moments.
    """
    width = 2 if hardware.mixed_precision == "bf16" else 4  # bytes of a base weight and of an activation
    hidden = keys["num_attention_heads"] * keys["attention_head_dim"]
    row = min(global_batch_size, hardware.samples_per_forward) * tokens * hidden * width
    fixed = base_parameters * width + trainable * trained_bytes
    memory = StepMemory(fixed, row, keys["num_layers"], hardware.compile, dora)
    policies: list[str] = [hardware.checkpointing] * memory.num_layers
    if hardware.checkpointing == "auto":
        policies = choose_checkpointing(memory, hardware.memory_gb and USABLE_MEMORY * hardware.memory_gb)
    return memory.gib(policies), policies


def driver_fault(reason: str) -> str:
    """That CUDA does not start: the driver here, what torch needs, what to install.

    Args:
        reason: of CUDA.
    """
    import torch

    version = re.search(r"\d+\.\d+\S*", DRIVER_RECORD.read_text()) if DRIVER_RECORD.is_file() else None
    cuda = str(torch.version.cuda)
    oldest = OLDEST_DRIVER.get(cuda.split(".")[0], "a newer one")
    return (
        f"CUDA does not start ({reason}). The driver is {version[0] if version else 'unknown'}; torch {torch.__version__} is "
        f"built for CUDA {cuda} and needs {oldest} or newer. Install that NVIDIA driver, or a torch for an older CUDA "
        "(pytorch.org/get-started/locally)."
    )


def check_gpus(hardware: Hardware) -> int:
    """The number of GPUs here; 0 for hardware.device=cpu. Does not initialise CUDA.

    Raises:
        UserError: fewer than hardware.num_processes, one process per GPU.
    """
    if hardware.device == "cpu":
        return 0
    import torch

    count = torch.cuda.device_count()
    if count == 0 and DRIVER_RECORD.is_file():
        raise UserError(f"hardware.device=cuda: {driver_fault('it finds no GPU')}")
    if count < hardware.num_processes:
        raise UserError(
            f"hardware.num_processes={hardware.num_processes}: this machine has {count} GPUs. "
            "Choose another hardware=… (cpu, 1xh100, 8xh100, 1x24gb) or lower hardware.num_processes."
        )
    return count
