"""LoRA and DoRA through peft: adapter kinds, injection into the transformer, files, merging and removal.

Files are in diffusers' format: `pipe.load_lora_weights(dir)` of plain diffusers restores rank, alpha, scaling rule and
DoRA. The file's header also records what the adapter was trained on.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from pathlib import Path

import torch
from diffusers import CosmosTransformer3DModel
from peft import LoraConfig
from peft.tuners.lora import LoraLayer
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict
from torch import nn

from cosmos_exp.config.adapter_file import PREFIX, AdapterFile, find_adapter, read_adapter, tensors_of, write_adapter
from cosmos_exp.config.registry import ADAPTERS
from cosmos_exp.config.schema import Adapter
from cosmos_exp.errors import RunError, UserError
from cosmos_exp.files import JsonObject
from cosmos_exp.rng import generator
from cosmos_exp.text import one_line
from cosmos_exp.world.adapted_linear import dora_norm

NAME = "default"  # peft's name of the adapter
INITIALISATIONS = {"gaussian": "gaussian", "kaiming": True}  # peft's values of init_lora_weights


def lora(adapter: Adapter) -> LoraConfig:
    """LoRA (Hu et al. 2021, arXiv:2106.09685): W + s B A."""
    return LoraConfig(
        r=adapter.rank,
        lora_alpha=_number(adapter.alpha),
        rank_pattern=dict(adapter.rank_pattern),
        alpha_pattern={k: _number(v) for k, v in adapter.alpha_pattern.items()},
        init_lora_weights=INITIALISATIONS[adapter.init],
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


def lora_config(adapter: Adapter) -> LoraConfig:
    """peft's configuration of an adapter.

    Raises:
        UserError: no such kind.
    """
    config: LoraConfig = ADAPTERS.get(adapter.kind)(adapter)
    return config


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
    _exact_magnitudes(transformer)
    return parameters


def _exact_magnitudes(transformer: nn.Module) -> None:
    """Set the magnitudes of DoRA on a base below fp32 to the norms that the forward pass divides by.

    peft computes them in the base's precision: in bf16 they are up to 0.35 % off, and a new adapter changes the output.
    """
    for module in transformer.modules():
        if not isinstance(module, LoraLayer):
            continue
        for name, dora in module.lora_magnitude_vector.items():
            weight = module.get_base_layer().weight
            if weight.dtype != torch.float32:
                a, b = module.lora_A[name].weight, module.lora_B[name].weight
                dora.weight.data = dora_norm(weight, a, b, module.scaling[name])


def expected_names(layers: Iterable[str], adapter: Adapter) -> set[str]:
    """Names of exactly those parameters that an adapter on `layers` trains."""
    config = lora_config(adapter)
    ends = [f"lora_A.{NAME}.weight", f"lora_B.{NAME}.weight"]
    if config.use_dora:
        ends.append(f"lora_magnitude_vector.{NAME}.weight")
    if config.lora_bias:
        ends.append(f"lora_B.{NAME}.bias")
    return {f"{layer}.{end}" for layer in layers for end in ends}


def save_adapter(transformer: CosmosTransformer3DModel, directory: Path, record: JsonObject) -> Path:
    """Write the adapter file atomically.

    Args:
        directory: gets the file `ADAPTER_FILE`.
        record: what it was trained on (base model, revision, data fingerprint, config hash …), stored in the header.

    Returns:
        the file.
    """
    tensors = {}
    for name, value in get_peft_model_state_dict(transformer).items():
        tensors[name] = value.detach().float().cpu().numpy()
    return write_adapter(directory, tensors, transformer.peft_config[NAME].to_dict(), record)


def load_adapter(transformer: CosmosTransformer3DModel, path: Path, alpha: float | None = None) -> JsonObject:
    """Add a saved adapter to the transformer, at the scale of its training.

    Args:
        path: as in `find_adapter`.
        alpha: for files that do not record it.

    Returns:
        our record of its training; empty for another tool's file.

    Raises:
        UserError: not an adapter, an adapter for another model, or `alpha` differs from the file's.
        RunError: not all of its layers were loaded.
    """
    adapter = read_adapter(find_adapter(path), alpha)
    if not adapter.alpha_recorded:
        _note_alpha(adapter, alpha)
    state: dict[str, torch.Tensor] = {}
    for name, values in tensors_of(adapter.layers).items():
        state[PREFIX + name] = torch.from_numpy(values)
    metadata = {f"{PREFIX}{key}": value for key, value in adapter.peft.items()}
    try:
        transformer.load_lora_adapter(dict(state), prefix=PREFIX.rstrip("."), metadata=metadata, adapter_name=NAME)
        _fill_in_fp32(transformer, state)
    except (RuntimeError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{adapter.file}: does not fit this model ({one_line(error)[:200]})") from error
    loaded = sum(isinstance(m, LoraLayer) and NAME in m.lora_A for m in transformer.modules())
    if loaded != len(adapter.layers):
        raise RunError(
            f"check failed: {adapter.file} has {len(adapter.layers)} adapted layers, {loaded} were loaded into the model"
        )
    return adapter.record


def _note_alpha(adapter: AdapterFile, alpha: float | None) -> None:
    """Warn that alpha is assumed.

    Raises:
        UserError: the layers have several ranks, so that no assumption is good.
    """
    ranks = sorted(set(adapter.ranks.values()))
    if len(ranks) > 1:
        raise UserError(f"{adapter.file}: has no metadata and several ranks {ranks}; its scale is unknown")
    if alpha is None:
        warnings.warn(
            f"{adapter.file} has no alpha; assumed alpha = rank = {ranks[0]} (set it with --alpha)", stacklevel=3
        )


def _fill_in_fp32(transformer: CosmosTransformer3DModel, state: dict[str, torch.Tensor]) -> None:
    """Replace the adapter's values by the file's, in fp32: diffusers has rounded them to the base's bf16."""
    for key, parameter in transformer.named_parameters():
        if "lora_" in key and f".{NAME}" in key:
            parameter.data = parameter.data.float()
    set_peft_model_state_dict(transformer, {k.removeprefix(PREFIX): v.float() for k, v in state.items()}, NAME)


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
