"""The forward pass of peft's LoRA and DoRA layers with less work and the same result. The layers themselves are peft's.

LoRA: y = W x + b + s B A x. The scale s multiplies A x, which has only rank columns; the product with B and the sum are
one operation. DoRA (Liu et al. 2024, arXiv:2402.09353): y = m / |W + s B A| (W x + s B A x) + b. The norm is per row and,
as in the paper's section 4.3 and in peft, a constant for the gradient. It does not require B A:
|W + s B A|^2 = |W|^2 + 2 s <B, W A^T> + s^2 <B A A^T, B> in each row.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from peft.tuners.lora.layer import Linear as LoraLinear
from peft.tuners.lora.variants import DoraLinearVariant
from torch import nn


@torch.no_grad()
def dora_norm(weight: torch.Tensor, down: torch.Tensor, up: torch.Tensor, scaling: float) -> torch.Tensor:
    """The norm |W + s B A| of each row, fp32 (out,).

    Args:
        weight: W (out, in), any precision.
        down: A (rank, in).
        up: B (out, rank).
        scaling: s.
    """
    with torch.autocast(weight.device.type, enabled=False):
        if hasattr(weight, "qdata"):  # torchao's 8 bits
            weight = weight.dequantize()
        weight, down, up = weight.float(), down.float(), up.float()
        square = weight.square().sum(dim=1)
        cross = ((weight @ down.T) * up).sum(dim=1)
        update = ((up @ (down @ down.T)) * up).sum(dim=1)
        # If the adapter cancels a row, rounding may give a small negative number.
        return (square + 2 * scaling * cross + scaling**2 * update).clamp_min(0).sqrt()


def _plain_adapter(layer: nn.Module) -> str | None:
    """Name of the layer's adapter if the short forward pass is valid: one active LoRA or DoRA, not merged, no dropout."""
    if not isinstance(layer, LoraLinear) or layer.disable_adapters or layer.merged or len(layer.active_adapters) != 1:
        return None
    name = layer.active_adapters[0]
    if name not in layer.lora_A or (layer.training and not isinstance(layer.lora_dropout[name], nn.Identity)):
        return None
    known = isinstance(layer.lora_variant.get(name), DoraLinearVariant | None)
    return name if known and isinstance(layer.get_base_layer(), nn.Linear) else None


def adapted(layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """`layer(x)` for any linear layer, with less work if it has an adapter.

    Args:
        layer: a linear layer, peft's or plain.
        x: (..., in).

    Returns:
        (..., out).
    """
    name = _plain_adapter(layer)
    if name is None:
        flat = x.flatten(1, -2) if x.ndim > 3 else x  # peft's OFT takes four dimensions for an image
        result: torch.Tensor = layer(flat)
        return result.view(*x.shape[:-1], -1)
    peft_layer: LoraLinear = layer
    down, up, scaling = peft_layer.lora_A[name], peft_layer.lora_B[name], peft_layer.scaling[name]
    base = peft_layer.get_base_layer()
    inputs = x if torch.is_autocast_enabled(x.device.type) else x.to(down.weight.dtype)
    small = down(inputs) * scaling
    if name not in peft_layer.lora_magnitude_vector:
        return _add_product(base(x), small, up, scaling)
    dora = peft_layer.lora_magnitude_vector[name]
    norm = dora_norm(base.weight, down.weight, up.weight, scaling)
    y = _add_product(F.linear(x, base.weight), small, up, scaling)
    # The factor stays in fp32: in bf16 the small changes of a magnitude would be lost to rounding.
    scaled = y * (dora.weight / norm)
    if base.bias is not None:
        scaled = scaled + base.bias
    return scaled.to(y.dtype)


def _add_product(base: torch.Tensor, small: torch.Tensor, up: nn.Linear, scaling: float) -> torch.Tensor:
    """base (..., out) + B small (..., rank) in one operation, and the adapter's bias if it has one."""
    if not torch.is_autocast_enabled(base.device.type) and base.dtype != small.dtype:
        result = (base.to(small.dtype) + F.linear(small, up.weight)).to(base.dtype)
    else:
        flat = torch.addmm(base.flatten(0, -2), small.flatten(0, -2), up.weight.T)
        result = flat.view(base.shape)
    if up.bias is not None:
        result = result + (up.bias * scaling).to(result.dtype)
    return result
