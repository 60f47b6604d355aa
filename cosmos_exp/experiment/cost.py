"""What a run costs, from arithmetic: tokens, memory, operations. Loads nothing."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass

import psutil

from cosmos_exp.config.layers import (
    UNLIKE_LORA,
    TransformerConfig,
    adapted_layers,
    layer_ranks,
    linear_layers,
    trainable_parameters,
    transformer_config,
)
from cosmos_exp.config.schema import Config
from cosmos_exp.training.plan import num_buffers
from cosmos_exp.world.hardware import (
    LatentShape,
    forward_flops,
    latent_shape,
    memory_estimate,
    num_tokens,
    training_flops,
)

FITS = 0.92  # of a device's memory: above it, the rest is too little for fragments and workspaces


@dataclass(frozen=True)
class Cost:
    """The work and memory of a run.

    shape: of a sample's latent. tokens: of one sample. trainable: parameters that are trained.
    memory_gib: of one training process. state_gib: the part of it that the trained parameters need, by what it is.
    checkpointing: the activation checkpointing policy of each block.
    sample_flops: floating-point operations of a training sample, without recomputation.
    video_flops: of the transformer for one generated video: all chunks, steps and guidance.
    """

    shape: LatentShape
    tokens: int
    trainable: int
    memory_gib: float
    state_gib: dict[str, float]
    checkpointing: list[str]
    sample_flops: float
    video_flops: float


def estimate_cost(config: Config, base: int | None = None, keys: TransformerConfig | None = None) -> Cost:
    """The cost of a configuration.

    Args:
        base: number of the transformer's own parameters; None: of the matrices alone, which are nearly all.
        keys: of a loaded transformer; None: those of config.model.
    """
    hardware, model, generation = config.hardware, config.model, config.generation
    keys, batch, adapter = keys or transformer_config(model), config.training.global_batch_size, config.adapter
    if base is None:
        base = sum(size_in * size_out for size_in, size_out in linear_layers(keys).values())
    layers = adapted_layers(keys, adapter.target_modules)
    ranks = layer_ranks(layers, adapter)
    trainable, frozen = trainable_parameters(layers, adapter.kind, ranks, adapter.bias), base
    if adapter.kind in UNLIKE_LORA:
        ranks = dict.fromkeys(layers, 0)
        trainable, frozen = base, 0
    if adapter.kind == "peft":
        from cosmos_exp.world.adapter import count_parameters

        trainable, frozen = count_parameters(adapter, keys), base
    shape = latent_shape(config)
    tokens = num_tokens(shape)
    each = state_bytes(config)
    memory_gib, checkpointing = memory_estimate(
        keys, frozen, trainable, tokens, hardware, batch, adapter.kind == "dora", sum(each.values())
    )
    passes = generation.chunks * generation.num_steps * (2 if generation.guidance_scale > 1 else 1)
    return Cost(
        shape=shape,
        tokens=tokens,
        trainable=trainable,
        memory_gib=memory_gib,
        state_gib={what: size * trainable / 2**30 for what, size in each.items()},
        checkpointing=checkpointing,
        sample_flops=training_flops(keys, shape, model.prompt_tokens, layers, ranks, adapter.kind == "full"),
        video_flops=passes * forward_flops(keys, shape, model.prompt_tokens),
    )


def state_bytes(config: Config) -> dict[str, float]:
    """Bytes per trained parameter by what they are. Every process has them all: nothing is sharded."""
    slots = -(-config.training.global_batch_size // config.hardware.samples_per_forward)
    parts = {"fp32 weights": 4.0, "gradients": 4.0, "AdamW": 2.03 if config.approximate.adamw_8bit else 8.0}
    parts["sums of gradients"] = 4.0 * num_buffers(slots)  # the most that any number of processes needs
    if config.training.ema_power is not None:
        parts["average"] = 4.0
    if config.adapter.kind == "full" and config.hardware.mixed_precision == "bf16":
        parts["bf16 copy"] = 2.0  # which autocast makes of each weight for a forward pass
    return parts


def memory_verdict(config: Config) -> tuple[str, float]:
    """The estimated memory of training in words, and how many times the device's memory it is.

    On a CPU the device's memory is what is free now; on a GPU it is hardware.memory_gb, and the ratio is 0 if that is null.
    """
    hardware, cost = config.hardware, estimate_cost(config)
    need, device, available = cost.memory_gib, "", math.inf
    if hardware.device == "cpu":
        need *= hardware.num_processes
        available = psutil.virtual_memory().available / 2**30
        device = f"; {available:.1f} GiB are free"
    elif hardware.memory_gb is not None:
        available = hardware.memory_gb * 1e9 / 2**30
        device = f"; a device has {hardware.memory_gb:g} GB"
    policies = ", ".join(f"{count} blocks {policy}" for policy, count in Counter(cost.checkpointing).items())
    processes = f" in {hardware.num_processes} processes" if hardware.device == "cpu" else " per process"
    words = (
        f"training needs about {need:,.1f} GiB{processes}, checkpointing {hardware.checkpointing} ({policies}){device}"
    )
    return words, need / (FITS * available)
