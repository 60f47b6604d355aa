"""What a run costs, from arithmetic: tokens, memory, operations. Loads nothing."""

from __future__ import annotations

from dataclasses import dataclass

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
    if adapter.kind == "full":
        trainable, frozen = base, 0
    elif adapter.kind == "peft":
        from cosmos_exp.world.adapter import count_parameters

        trainable = count_parameters(adapter, keys)
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
