"""peft's LoRA and DoRA layers, computed with less work and the same numbers. The layers themselves stay peft's own.

LoRA: y = W x + b + s B A x. The scale goes onto A x (rank wide), and B joins in the same matrix product as the sum.
DoRA (Liu et al. 2024, arXiv:2402.09353): y = m / |W + s B A| (W x + s B A x) + b, the norm taken row by row and, as in
the paper's section 4.3 and in peft, constant for the gradient. It needs no product B A of full size:
|W + s B A|^2 = |W|^2 + 2 s <B, W A^T> + s^2 <B A A^T, B> in each row, and |W|^2 never changes.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from peft.tuners.lora.layer import Linear as LoraLinear
from peft.tuners.lora.variants import DoraLinearVariant
from torch import nn


def prepare_adapters(transformer: nn.Module) -> None:
    """Keep |W|^2 of each DoRA layer, so that no step computes it again. Call it once the weights are where they stay."""
    for module in transformer.modules():
        if isinstance(module, LoraLinear):
            for dora in module.lora_magnitude_vector.values():
                dora.register_buffer("base_square", _base_square(module.get_base_layer().weight), persistent=False)


@torch.no_grad()
def _base_square(weight: torch.Tensor) -> torch.Tensor:
    """Squared length of each row of W (out, in), fp32 (out,)."""
    return _fp32(weight).square().sum(dim=1)


def _fp32(weight: torch.Tensor) -> torch.Tensor:
    """A weight of any kind, torchao's 8-bit ones included, as plain fp32."""
    return (weight.dequantize() if hasattr(weight, "qdata") else weight).float()


@torch.no_grad()
def dora_norm(
    weight: torch.Tensor, down: torch.Tensor, up: torch.Tensor, scaling: float, base_square: torch.Tensor | None = None
) -> torch.Tensor:
    """|W + s B A| row by row, fp32 (out,).

    Args:
        weight: W (out, in), any precision.
        down: A (rank, in).
        up: B (out, rank).
        scaling: s.
        base_square: |W|^2 if it is known.
    """
    with torch.autocast(weight.device.type, enabled=False):
        down, up = down.float(), up.float()
        square = _base_square(weight) if base_square is None else base_square
        cross = ((_fp32(weight) @ down.T) * up).sum(dim=1)
        update = ((up @ (down @ down.T)) * up).sum(dim=1)
        # Rounding may leave a row that the adapter cancels a hair below zero.
        return (square + 2 * scaling * cross + scaling**2 * update).clamp_min(0).sqrt()


def _plain_adapter(layer: nn.Module) -> str | None:
    """The layer's one adapter where the shortcut holds: on, not merged, no dropout at work, LoRA or DoRA."""
    if not isinstance(layer, LoraLinear) or layer.disable_adapters or layer.merged or len(layer.active_adapters) != 1:
        return None
    name = layer.active_adapters[0]
    if name not in layer.lora_A or (layer.training and not isinstance(layer.lora_dropout[name], nn.Identity)):
        return None
    known = isinstance(layer.lora_variant.get(name), DoraLinearVariant | None)
    return name if known and isinstance(layer.get_base_layer(), nn.Linear) else None


def adapted(layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """`layer(x)` for any linear layer; adapted ones the short way where it holds.

    Args:
        x: (..., in).
    """
    name = _plain_adapter(layer)
    if name is None:
        return layer(x)
    down, up, scaling = layer.lora_A[name], layer.lora_B[name], layer.scaling[name]
    base = layer.get_base_layer()
    small = _linear_in(x, down) * scaling
    if name not in layer.lora_magnitude_vector:
        return _add_product(base(x), small, up, scaling)
    dora = layer.lora_magnitude_vector[name]
    norm = dora_norm(base.weight, down.weight, up.weight, scaling, getattr(dora, "base_square", None))
    y = _add_product(F.linear(x, base.weight), small, up, scaling)
    # The factor stays fp32: in bf16 the small changes of a magnitude would round away.
    scaled = y * (dora.weight / norm)
    return (scaled if base.bias is None else scaled + base.bias).to(y.dtype)


def _linear_in(x: torch.Tensor, down: nn.Module) -> torch.Tensor:
    """A x; outside autocast, x in bf16 meets an adapter in fp32."""
    if torch.is_autocast_enabled(x.device.type) or x.dtype == down.weight.dtype:
        return down(x)
    return down(x.to(down.weight.dtype))


def _add_product(base: torch.Tensor, small: torch.Tensor, up: Any, scaling: float) -> torch.Tensor:
    """base (..., out) + B small in one matrix product, and the adapter's bias if it has one."""
    if not torch.is_autocast_enabled(base.device.type) and base.dtype != small.dtype:
        result = (base.to(small.dtype) + F.linear(small, up.weight)).to(base.dtype)
    else:
        flat = torch.addmm(base.flatten(0, -2), small.flatten(0, -2), up.weight.T)
        result = flat.view(base.shape)
    return result if up.bias is None else result + (up.bias * scaling).to(result.dtype)
