"""Floating-point operations of a training sample and of a generated video, and the peak rates of GPUs. No torch."""

from __future__ import annotations

from collections.abc import Mapping

from cosmos_exp.config.layers import Layers, TransformerConfig, linear_layers, rank_of
from cosmos_exp.world.sizes import LatentShape, num_tokens

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
    keys: TransformerConfig, shape: LatentShape, text_tokens: int, layers: Layers, rank: int | Mapping[str, int]
) -> float:
    """Floating-point operations that one training sample requires, forward and backward, with no recomputation.

    A multiplication and an addition count as two. Frozen weights need a gradient for their input only, so the backward
    pass of a linear layer costs as much as its forward pass; that of attention costs twice its forward pass; an adapter
    costs three times its forward pass in all. Norms, activations and modulations (one row per frame) are left out:
    together under 1 %.

    Args:
        keys: the transformer's configuration.
        shape: of the latent.
        text_tokens: of the prompt.
        layers: adapted layers, name -> (in, out).
        rank: of all layers, or of each (`config.layers.layer_ranks`).
    """
    tokens = num_tokens(shape)
    linear, attention = _forward(keys, tokens, text_tokens)
    adapter = sum(
        6 * _rows(name, tokens, text_tokens) * rank_of(rank, name) * (i + o) for name, (i, o) in layers.items()
    )
    return float(2 * linear + 3 * attention + adapter)


def forward_flops(keys: TransformerConfig, shape: LatentShape, text_tokens: int) -> float:
    """Floating-point operations of one forward pass of the transformer, its adapter merged; counted as in training."""
    return float(sum(_forward(keys, num_tokens(shape), text_tokens)))


def _forward(keys: TransformerConfig, tokens: int, text_tokens: int) -> tuple[int, int]:
    """Operations of the linear layers and of the attention in a forward pass."""
    hidden = keys["num_attention_heads"] * keys["attention_head_dim"]
    linear = sum(
        2 * _rows(name, tokens, text_tokens) * size_in * size_out
        for name, (size_in, size_out) in linear_layers(keys).items()
        if name.startswith("transformer_blocks.") and ".norm" not in name
    )
    return linear, keys["num_layers"] * 4 * tokens * (tokens + text_tokens) * hidden


def _rows(layer: str, tokens: int, text_tokens: int) -> int:
    """Rows that a layer multiplies."""
    return text_tokens if layer.endswith(("attn2.to_k", "attn2.to_v")) else tokens


def peak_flops(device_name: str) -> float | None:
    """A GPU's dense bf16 rate, FLOP/s; None if it is not in the table."""
    return next((rate for name, rate in PEAK_FLOPS.items() if name in device_name), None)
