"""What a run costs, from arithmetic and the meta device: parameters, tokens, memory, work. Loads no weights."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from cosmos_exp.config.layers import (
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
    forward_flops,
    latent_shape,
    memory_estimate,
    num_tokens,
    training_flops,
    training_memory_gib,
)

MAX_SIZE = (128, 240, 240)  # latent frames, height, width: diffusers' default for the rotary embedding
FITS = 0.92  # of a device's memory: above it, the rest is too little for fragments and workspaces

Rows = list[tuple[str, str]]  # (what, value)


@dataclass(frozen=True)
class Counts:
    """Parameters of the base and of the adapter, and adapted layers."""

    base: int
    trainable: int
    layers: int


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
        base, trainable = sum(p.numel() for p in model.parameters()), 0
        if adapter.kind != "none":
            trainable = sum(p.numel() for p in inject(model.requires_grad_(False), adapter, 0).values())
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
    file = folder / "transformer" / "config.json" if folder else None
    content = json.loads(file.read_text()) if file and file.is_file() else {}
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
    data, hardware = config.data, config.hardware
    shape = latent_shape(config.model.z_dim, data.num_frames, data.height, data.width)
    sizes = {"num_frames": shape[1], "height": shape[2] // 2, "width": shape[3] // 2}
    most = {"num_frames": 4 * (limit - 1) + 1, "height": 16 * limit, "width": 16 * limit}
    problems = [
        f"data.{key}={getattr(data, key)}: needs {size:,} positions of the transformer, which has {limit}. Set it to at "
        f"most {most[key]}."
        for key, size in sizes.items()
        if size > limit
    ]
    processes = hardware.num_processes if hardware.device == "cpu" else 1
    there = here_gib if hardware.device == "cpu" else (hardware.memory_gb or math.inf) * 1e9 / 2**30
    need = _least_memory_gib(config) * processes
    if need > there:
        count = f" in {processes} processes" if processes > 1 else ""
        problems.append(
            f"memory: training needs at least {need:,.0f} GiB{count} ({num_tokens(shape):,} tokens per sample, "
            f"{hardware.samples_per_forward} samples per forward pass, checkpointing {hardware.checkpointing}); there are "
            f"{there:,.0f} GiB. Lower data.num_frames, data.height, data.width or hardware.samples_per_forward, or set "
            "hardware.checkpointing=full."
        )
    if problems:
        raise UserError("\n".join(problems))
    return f"{num_tokens(shape):,} tokens per sample"


def _least_memory_gib(config: Config) -> float:
    """A lower bound of a training process's memory, without the model's smaller parts; 0 if nothing is trained."""
    if config.adapter.kind == "none" or config.adapter.truncate_from:
        return 0.0
    data, hardware, keys = config.data, config.hardware, transformer_config(config.model)
    tokens = num_tokens(latent_shape(config.model.z_dim, data.num_frames, data.height, data.width))
    base = sum(i * o for i, o in linear_layers(keys).values())
    batch = config.training.global_batch_size
    return training_memory_gib(memory_estimate(keys, base, 0, tokens, hardware, batch, config.adapter.kind == "dora"))


def cost_rows(config: Config, counts: Counts) -> Rows:
    """Sizes of a sample, and memory and work of training."""
    data = config.data
    shape = latent_shape(config.model.z_dim, data.num_frames, data.height, data.width)
    rate = "the file's frame rate" if data.fps is None else f"{data.fps:g} fps"
    keys = transformer_config(config.model)
    layers = adapted_layers(keys, config.adapter.target_modules)
    flops = training_flops(keys, shape, config.model.prompt_tokens, layers, layer_ranks(layers, config.adapter))
    return [
        ("video", f"{data.num_frames} frames, {data.height}x{data.width}, {rate}"),
        ("latent", f"{shape[0]} channels x {shape[1]} latent frames x {shape[2]} x {shape[3]}"),
        ("tokens", f"{num_tokens(shape):,} per sample"),
        ("memory", memory_row(config, counts)),
        ("work per sample", f"{flops:.3g} floating-point operations, without recomputation"),
    ]


def video_flops(config: Config) -> float:
    """Floating-point operations of the transformer for one generated video: all chunks, steps and guidance."""
    data, generation = config.data, config.generation
    shape = latent_shape(config.model.z_dim, data.num_frames, data.height, data.width)
    passes = generation.chunks * generation.num_steps * (2 if generation.guidance_scale > 1 else 1)
    return passes * forward_flops(transformer_config(config.model), shape, config.model.prompt_tokens)


def memory_row(config: Config, counts: Counts) -> str:
    """The estimated memory of a training process, its checkpointing, and whether it fits the device."""
    hardware = config.hardware
    need, buffers, policies = training_need(config, counts)
    fits = ""
    if hardware.memory_gb is not None:
        verdict = "fits" if need + buffers < FITS * hardware.memory_gb else "MAY NOT FIT"
        fits = f" - {verdict} {hardware.memory_gb:g} GB"
    return (
        f"about {need:.1f} GiB per process in training, checkpointing {hardware.checkpointing} ({policies}), and at most "
        f"{buffers:.2g} GiB for the sum of the gradients{fits}"
    )


def check_memory(config: Config, counts: Counts, free_gib: float) -> None:
    """Compare the estimate with the device's memory; on a CPU with what is free.

    Raises:
        UserError: it does not fit; with both numbers.
    """
    hardware = config.hardware
    if config.adapter.kind == "none":
        return
    need = sum(training_need(config, counts)[:2])
    fix = "Choose a smaller model, hardware.checkpointing=full, or another hardware=… (1xh100, 8xh100)."
    if hardware.device == "cpu" and need * hardware.num_processes > free_gib:
        of_all = f" for each of {hardware.num_processes} processes" if hardware.num_processes > 1 else ""
        raise UserError(f"training needs about {need:.1f} GiB{of_all}, and {free_gib:.1f} GiB are free. {fix}")
    if hardware.memory_gb is not None and need >= FITS * hardware.memory_gb:
        raise UserError(f"{memory_row(config, counts)}. {fix}")


def training_need(config: Config, counts: Counts) -> tuple[float, float, str]:
    """The estimated GiB of a training process and of the sum of its gradients, and the checkpointing of its blocks in words."""
    data, hardware = config.data, config.hardware
    shape = latent_shape(config.model.z_dim, data.num_frames, data.height, data.width)
    batch = config.training.global_batch_size
    estimate = memory_estimate(
        transformer_config(config.model),
        counts.base,
        counts.trainable,
        num_tokens(shape),
        hardware,
        batch,
        config.adapter.kind == "dora",
    )
    policies = ", ".join(f"{n} blocks {p}" for p, n in Counter(estimate["checkpointing"]).items())
    buffers = num_buffers(-(-batch // hardware.samples_per_forward)) * counts.trainable * 4 / 2**30
    return training_memory_gib(estimate), buffers, policies
