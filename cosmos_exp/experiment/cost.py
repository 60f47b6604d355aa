"""What a run costs, from arithmetic and the meta device: parameters, tokens, memory, operations. Loads no weights."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from cosmos_exp.config.layers import (
    TransformerConfig,
    adapted_layers,
    layer_ranks,
    linear_layers,
    trainable_parameters,
    transformer_config,
)
from cosmos_exp.config.schema import Config
from cosmos_exp.errors import RunError, UserError
from cosmos_exp.training.gradients import num_buffers
from cosmos_exp.world.hardware import (
    LatentShape,
    forward_flops,
    latent_shape,
    memory_estimate,
    num_tokens,
    training_flops,
)

MAX_SIZE = (128, 240, 240)  # latent frames, height, width: diffusers' default for the rotary embedding
FITS = 0.92  # of a device's memory: above it, the rest is too little for fragments and workspaces


@dataclass(frozen=True)
class Counts:
    """Parameters of the base and of the adapter, and adapted layers."""

    base: int
    trainable: int
    layers: int


@dataclass(frozen=True)
class Cost:
    """The work and memory of a run.

    shape: of a sample's latent. tokens: of one sample.
    memory_gib: of one training process. buffers_gib: at most, for its sum of the gradients.
    checkpointing: the activation checkpointing policy of each block.
    sample_flops: floating-point operations of a training sample, without recomputation.
    video_flops: of the transformer for one generated video: all chunks, steps and guidance.
    """

    shape: LatentShape
    tokens: int
    memory_gib: float
    buffers_gib: float
    checkpointing: list[str]
    sample_flops: float
    video_flops: float


def estimate_cost(config: Config, base: int, trainable: int, keys: TransformerConfig | None = None) -> Cost:
    """The cost of a configuration.

    Args:
        base, trainable: number of frozen and of trained parameters.
        keys: of a loaded transformer; None: those of config.model.
    """
    data, hardware, model, generation = config.data, config.hardware, config.model, config.generation
    keys, batch = keys or transformer_config(model), config.training.global_batch_size
    shape = latent_shape(model.z_dim, data.num_frames, data.height, data.width)
    tokens, dora = num_tokens(shape), config.adapter.kind == "dora"
    memory_gib, checkpointing = memory_estimate(keys, base, trainable, tokens, hardware, batch, dora)
    layers = adapted_layers(keys, config.adapter.target_modules)
    ranks = layer_ranks(layers, config.adapter)
    passes = generation.chunks * generation.num_steps * (2 if generation.guidance_scale > 1 else 1)
    return Cost(
        shape=shape,
        tokens=tokens,
        memory_gib=memory_gib,
        buffers_gib=num_buffers(-(-batch // hardware.samples_per_forward)) * trainable * 4 / 2**30,
        checkpointing=checkpointing,
        sample_flops=training_flops(keys, shape, model.prompt_tokens, layers, ranks),
        video_flops=passes * forward_flops(keys, shape, model.prompt_tokens),
    )


def count_parameters(config: Config) -> Counts:
    """Counts of the real classes, built on the meta device.

    Raises:
        RunError: they differ from the arithmetic of `config.layers`.
    """
    import torch
    from diffusers import CosmosTransformer3DModel
    from peft.tuners.lora import LoraLayer

    from cosmos_exp.world.adapter import inject

    keys, adapter = transformer_config(config.model), config.adapter
    with torch.device("meta"):
        model = CosmosTransformer3DModel(
            **keys,
            extra_pos_embed_type=None,
            use_crossattn_projection=True,
            crossattn_proj_in_channels=config.model.text_channels,
            encoder_hidden_states_channels=keys["text_embed_dim"],
        )
        base, trainable = model.num_parameters(), 0
        if adapter.kind != "none":
            for parameter in inject(model.requires_grad_(False), adapter, 0).values():
                trainable += parameter.numel()
    layers = adapted_layers(keys, adapter.target_modules)
    expected = trainable_parameters(layers, adapter.kind, layer_ranks(layers, adapter), adapter.bias)
    if trainable != expected:
        raise RunError(f"check failed: {trainable} trainable parameters, {expected} by arithmetic")
    return Counts(base, trainable, sum(isinstance(m, LoraLayer) for m in model.modules()))


def positions(folder: Path | None) -> int:
    """Positions of the transformer's rotary embedding along each axis.

    Args:
        folder: of the model; None: not known yet, which gives diffusers' default.
    """
    content = {}
    if folder and (folder / "transformer" / "config.json").is_file():
        content = json.loads((folder / "transformer" / "config.json").read_text())
    patch = content.get("patch_size") or (1, 2, 2)
    return int(max(size // p for size, p in zip(content.get("max_size") or MAX_SIZE, patch, strict=True)))


def check_sizes(config: Config, here_gib: float, limit: int) -> str:
    """Check what certainly cannot work: a video beyond the transformer's positions, or a training beyond the memory.

    Args:
        here_gib: memory of this machine, which counts with hardware.device=cpu. A GPU has hardware.memory_gb.
        limit: positions of the transformer, from `positions`.

    Returns:
        the sizes in words.

    Raises:
        UserError: it names each key that is too large, with the numbers.
    """
    data, hardware, adapter = config.data, config.hardware, config.adapter
    base = sum(size_in * size_out for size_in, size_out in linear_layers(transformer_config(config.model)).values())
    least = estimate_cost(config, base, 0)
    problems = []
    for key, size, unit, first in (
        ("num_frames", least.shape[1], 4, -3),
        ("height", least.shape[2] // 2, 16, 0),
        ("width", least.shape[3] // 2, 16, 0),
    ):
        if size > limit:
            problems.append(
                f"data.{key}={getattr(data, key)}: needs {size:,} positions of the transformer, which has {limit}. Set it "
                f"to at most {unit * limit + first}."
            )
    processes, available = 1, (hardware.memory_gb or math.inf) * 1e9 / 2**30
    if hardware.device == "cpu":
        processes, available = hardware.num_processes, here_gib
    trains = adapter.kind != "none" and not adapter.truncate_from
    if trains and least.memory_gib * processes > available:
        problems.append(
            f"memory: training needs at least {least.memory_gib * processes:,.0f} GiB in {processes} processes "
            f"({least.tokens:,} tokens per sample, {hardware.samples_per_forward} samples per forward pass, checkpointing "
            f"{hardware.checkpointing}); there are {available:,.0f} GiB. Lower data.num_frames, data.height, data.width or "
            "hardware.samples_per_forward, or set hardware.checkpointing=full."
        )
    if problems:
        raise UserError("\n".join(problems))
    return f"{least.tokens:,} tokens per sample"


def memory_in_words(config: Config, cost: Cost) -> str:
    """The estimated memory of a training process, its checkpointing, and whether it fits the device."""
    hardware = config.hardware
    policies = ", ".join(f"{count} blocks {policy}" for policy, count in Counter(cost.checkpointing).items())
    words = (
        f"about {cost.memory_gib:.1f} GiB per process in training, checkpointing {hardware.checkpointing} ({policies}), and "
        f"at most {cost.buffers_gib:.2g} GiB for the sum of the gradients"
    )
    if hardware.memory_gb is None:
        return words
    verdict = "fits" if _fits(cost, hardware.memory_gb) else "MAY NOT FIT"
    return f"{words} - {verdict} {hardware.memory_gb:g} GB"


def check_memory(config: Config, cost: Cost, free_gib: float) -> str:
    """Compare the estimate with the device's memory; on a CPU with what is free.

    Returns:
        the estimate in words.

    Raises:
        UserError: it does not fit; with both numbers.
    """
    hardware, words = config.hardware, memory_in_words(config, cost)
    need = cost.memory_gib + cost.buffers_gib
    fix = "Choose a smaller model, hardware.checkpointing=full, or another hardware=… (1xh100, 8xh100)."
    if config.adapter.kind == "none":
        return words
    if hardware.device == "cpu" and need * hardware.num_processes > free_gib:
        of_all = f" for each of {hardware.num_processes} processes" if hardware.num_processes > 1 else ""
        raise UserError(f"training needs about {need:.1f} GiB{of_all}, and {free_gib:.1f} GiB are free. {fix}")
    if hardware.memory_gb is not None and not _fits(cost, hardware.memory_gb):
        raise UserError(f"{words}. {fix}")
    return words


def _fits(cost: Cost, memory_gb: float) -> bool:
    return cost.memory_gib + cost.buffers_gib < FITS * memory_gb
