"""CosmosTransformer3DModel's linear layers, sizes and costs by arithmetic alone; no torch.

So a wrong `adapter.target_modules` is told in a blink, and a plan can be printed on any machine. A test holds the
names and shapes against the real class on the meta device."""

from __future__ import annotations

from typing import Any

from cosmos_exp.config.layers import linear_layers
from cosmos_exp.world.sizes import num_tokens


def training_flops(
    keys: dict[str, Any], shape: tuple[int, int, int, int], text_tokens: int, layers: dict, rank: int
) -> float:
    """Floating-point operations that one training sample cannot do without: forward and backward, nothing computed twice.

    Two a multiplication and addition. Frozen weights need a gradient for their input only, so a linear layer's backward
    costs as much as its forward; attention's costs twice its forward; an adapter's three times in all. Norms,
    activations and the modulations (one row a frame) are left out: under 1 % together.

    Args:
        keys: the transformer's configuration.
        shape: latent (C, T, H, W).
        layers: adapted layers, name -> (in, out).
    """
    tokens, hidden = num_tokens(shape), keys["num_attention_heads"] * keys["attention_head_dim"]
    linear = 0
    for name, (wide, out) in linear_layers(keys).items():
        if name.startswith("transformer_blocks.") and ".norm" not in name:
            rows = text_tokens if name.endswith(("attn2.to_k", "attn2.to_v")) else tokens
            linear += 2 * rows * wide * out
    attention = keys["num_layers"] * 4 * tokens * (tokens + text_tokens) * hidden
    adapter = sum(
        6 * (text_tokens if n.endswith(("attn2.to_k", "attn2.to_v")) else tokens) * rank * (i + o)
        for n, (i, o) in layers.items()
    )
    return float(2 * linear + 3 * attention + adapter)


# Dense bf16 matrix rates of vendors' data sheets, FLOP/s; the first name found in the device's wins.
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


def peak_flops(device_name: str) -> float | None:
    """A GPU's dense bf16 rate, or None where it is not known."""
    return next((rate for name, rate in PEAK_FLOPS.items() if name in device_name), None)
