"""Floating-point operations of a training sample, and the peak rates of GPUs. No torch."""

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
    tokens, hidden = num_tokens(shape), keys["num_attention_heads"] * keys["attention_head_dim"]

    def rows(layer: str) -> int:
        return text_tokens if layer.endswith(("attn2.to_k", "attn2.to_v")) else tokens

    linear = sum(
        2 * rows(name) * size_in * size_out
        for name, (size_in, size_out) in linear_layers(keys).items()
        if name.startswith("transformer_blocks.") and ".norm" not in name
    )
    attention = keys["num_layers"] * 4 * tokens * (tokens + text_tokens) * hidden
    adapter = sum(6 * rows(name) * rank_of(rank, name) * (i + o) for name, (i, o) in layers.items())
    return float(2 * linear + 3 * attention + adapter)


def peak_flops(device_name: str) -> float | None:
    """A GPU's dense bf16 rate, FLOP/s; None if it is not in the table."""
    return next((rate for name, rate in PEAK_FLOPS.items() if name in device_name), None)
