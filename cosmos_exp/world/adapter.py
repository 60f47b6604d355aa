"""LoRA and DoRA through peft: put into the transformer, saved with everything that gives them meaning, merged.

The file is diffusers' own format with the adapter's metadata, so `pipe.load_lora_weights(dir)` restores rank, alpha,
scaling rule and DoRA; what it was trained on stands beside that in the file's header."""

from __future__ import annotations

from typing import Any

import torch
from peft import LoraConfig
from peft.tuners.lora import LoraLayer
from torch import nn

from cosmos_exp.rng import generator

NAME = "default"


def lora_config(adapter: Any) -> LoraConfig:
    """peft's configuration for our keys."""
    return LoraConfig(
        r=adapter.rank,
        lora_alpha=int(adapter.alpha) if float(adapter.alpha).is_integer() else adapter.alpha,
        init_lora_weights="gaussian" if adapter.init == "gaussian" else True,
        target_modules=list(adapter.target_modules),
        use_dora=adapter.kind == "dora",
        use_rslora=adapter.scaling == "rslora",
        lora_dropout=adapter.dropout,
        lora_bias=adapter.bias,
    )


def inject(transformer: nn.Module, adapter: Any, seed: int) -> dict[str, nn.Parameter]:
    """Put a fresh adapter in and return its parameters by name, fp32; everything else stays frozen.

    Call it while the transformer is on the CPU: the start values then do not depend on the device.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(int(generator(seed, "adapter").randint(2**31 - 1)))
        transformer.add_adapter(lora_config(adapter))
    parameters = {n: p for n, p in transformer.named_parameters() if p.requires_grad}
    for parameter in parameters.values():
        parameter.data = parameter.data.float()
    return parameters


def expected_names(layers: dict[str, tuple[int, int]], adapter: Any) -> set[str]:
    """The trainable parameters there must be, and no others."""
    ends = [f"lora_A.{NAME}.weight", f"lora_B.{NAME}.weight"]
    ends += [f"lora_magnitude_vector.{NAME}.weight"] if adapter.kind == "dora" else []
    ends += [f"lora_B.{NAME}.bias"] if adapter.bias else []
    return {f"{layer}.{end}" for layer in layers for end in ends}


def merge(transformer: nn.Module, keep_original: bool = False) -> dict[str, torch.Tensor]:
    """Add the adapter to the base weights in fp32, then cast back; returns the old weights if they are to be kept.

    In bf16 arithmetic small updates would round away before they are added up.
    """
    original: dict[str, torch.Tensor] = {}
    for name, module in transformer.named_modules():
        if isinstance(module, LoraLayer) and module.lora_A:
            base = module.get_base_layer()
            dtype = base.weight.dtype
            if keep_original:
                original[name] = base.weight.data.to("cpu", copy=True)
            base.weight.data = base.weight.data.float()
            if base.bias is None and any(module.lora_bias.values()):  # an adapter's own bias needs a place to go
                base.bias = nn.Parameter(base.weight.new_zeros(base.out_features), requires_grad=False)
                base.bias_is_adapters = True
            module.merge(safe_merge=True)
            base.to(dtype)
    return original


def remove(transformer: nn.Module, original: dict[str, torch.Tensor] | None = None) -> None:
    """Take the adapter out; `original` are the weights that `merge` kept."""
    modules = dict(transformer.named_modules())
    for name, weight in (original or {}).items():
        layer = modules[name]
        base = layer.get_base_layer()
        base.weight.data = weight.to(base.weight.device)
        if getattr(base, "bias_is_adapters", False):
            base.bias, base.bias_is_adapters = None, False
        layer.merged_adapters = []
    transformer.unload_lora()


def set_enabled(transformer: nn.Module, enabled: bool) -> None:
    """Switch the adapter on or off without taking it out."""
    transformer.enable_adapters() if enabled else transformer.disable_adapters()
