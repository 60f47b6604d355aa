"""LoRA and DoRA through peft: adapter kinds, injection into the transformer, merging and removal."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from diffusers import CosmosTransformer3DModel
from peft import LoraConfig
from peft.tuners.lora import LoraLayer
from torch import nn

from cosmos_exp.config.schema import Adapter
from cosmos_exp.errors import UserError
from cosmos_exp.rng import generator

NAME = "default"  # peft's name of the adapter


def lora(adapter: Adapter) -> LoraConfig:
    """LoRA (Hu et al. 2021, arXiv:2106.09685): W + s B A."""
    return LoraConfig(
        r=adapter.rank,
        lora_alpha=_number(adapter.alpha),
        rank_pattern=dict(adapter.rank_pattern),
        alpha_pattern={k: _number(v) for k, v in adapter.alpha_pattern.items()},
        init_lora_weights="gaussian" if adapter.init == "gaussian" else True,
        target_modules=list(adapter.target_modules),
        use_rslora=adapter.scaling == "rslora",
        lora_dropout=adapter.dropout,
        lora_bias=adapter.bias,
    )


def _number(alpha: float) -> float:
    """An integer where it is one, as peft's own alphas are."""
    return int(alpha) if float(alpha).is_integer() else alpha


def dora(adapter: Adapter) -> LoraConfig:
    """DoRA (Liu et al. 2024, arXiv:2402.09353): LoRA, and a trained magnitude for each row of W + s B A."""
    config = lora(adapter)
    config.use_dora = True
    return config


# Adapter kinds by the name that adapter.kind selects. A new kind is one function and one entry.
ADAPTERS: dict[str, Callable[[Adapter], LoraConfig]] = {"lora": lora, "dora": dora}


def lora_config(adapter: Adapter) -> LoraConfig:
    """peft's configuration of an adapter.

    Raises:
        UserError: no such kind.
    """
    if adapter.kind not in ADAPTERS:
        raise UserError(f"adapter.kind={adapter.kind}: choose one of {', '.join(ADAPTERS)}")
    return ADAPTERS[adapter.kind](adapter)


def inject(transformer: CosmosTransformer3DModel, adapter: Adapter, seed: int) -> dict[str, nn.Parameter]:
    """Add a new adapter to a frozen transformer.

    Call it while the transformer is on the CPU, so that the initial values do not depend on the device.

    Returns:
        the adapter's parameters by name, fp32.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(generator(seed, "adapter").randint(2**31 - 1)))
        transformer.add_adapter(lora_config(adapter))
    parameters = {n: p for n, p in transformer.named_parameters() if p.requires_grad}
    for parameter in parameters.values():
        parameter.data = parameter.data.float()
    return parameters


def expected_names(layers: Iterable[str], adapter: Adapter) -> set[str]:
    """Names of exactly those parameters that an adapter on `layers` trains."""
    config = lora_config(adapter)
    ends = [f"lora_A.{NAME}.weight", f"lora_B.{NAME}.weight"]
    ends += [f"lora_magnitude_vector.{NAME}.weight"] if config.use_dora else []
    ends += [f"lora_B.{NAME}.bias"] if config.lora_bias else []
    return {f"{layer}.{end}" for layer in layers for end in ends}


def merge(
    transformer: CosmosTransformer3DModel,
    keep_original: bool = False,
    observe: Callable[[str, torch.Tensor, torch.Tensor], None] | None = None,
) -> dict[str, torch.Tensor]:
    """Add the adapter to the base weights. The sum is computed in fp32; in bf16 small updates would be lost to rounding.

    Args:
        keep_original: copy the base weights to the CPU first, for `remove`.
        observe: gets each layer's name and its weight before and after, (out, in), in fp32: before the sum is rounded to
            the base's precision.

    Returns:
        the copies by layer name; empty without `keep_original`.
    """
    original: dict[str, torch.Tensor] = {}
    for name, module in transformer.named_modules():
        if isinstance(module, LoraLayer) and module.lora_A:
            base = module.get_base_layer()
            weight = base.weight.data
            if keep_original:
                original[name] = weight.to("cpu", copy=True)
            before = weight.float()
            base.weight.data = before
            if base.bias is None and any(
                module.lora_bias.values()
            ):  # the adapter's bias is merged into one of the base
                base.bias = nn.Parameter(base.weight.new_zeros(base.out_features), requires_grad=False)
                base.bias_is_adapters = True
            module.merge(safe_merge=True)  # into a copy
            if observe:
                observe(name, before, base.weight.data)
            base.to(weight.dtype)
            # Back into the old memory. Weights that were loaded are views of a mapped file, which stays in memory as long
            # as one of them does: new tensors would be a second copy of the model.
            base.weight.data = weight.copy_(base.weight.data)
    return original


def remove(transformer: CosmosTransformer3DModel, original: dict[str, torch.Tensor] | None = None) -> None:
    """Remove the adapter.

    Args:
        original: what `merge(keep_original=True)` returned; None or empty if the adapter is not merged.
    """
    modules = dict(transformer.named_modules())
    for name, weight in (original or {}).items():
        layer = modules[name]
        base = layer.get_base_layer()
        base.weight.data.copy_(weight)
        if getattr(base, "bias_is_adapters", False):
            base.bias, base.bias_is_adapters = None, False
        layer.merged_adapters = []
    transformer.unload_lora()


def set_enabled(transformer: CosmosTransformer3DModel, enabled: bool) -> None:
    """Switch the adapter on or off; it stays in the transformer."""
    transformer.enable_adapters() if enabled else transformer.disable_adapters()
