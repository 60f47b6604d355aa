"""What is trained of the transformer: adapters of peft, or all of its weights. Injection, files, merging and removal.

LoRA and DoRA are written in diffusers' format: `pipe.load_lora_weights(dir)` of plain diffusers restores rank, alpha,
scaling rule and DoRA. Other methods are written as peft writes them, and a full fine-tuning as diffusers writes a
transformer. Each records what it was trained on.
"""

from __future__ import annotations

import json
import shutil
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from diffusers import CosmosTransformer3DModel
from peft import LoraConfig, PeftConfig, PeftType, get_peft_config, inject_adapter_in_model
from peft.mapping import PEFT_TYPE_TO_CONFIG_MAPPING
from peft.tuners.lora import LoraLayer
from peft.tuners.tuners_utils import BaseTunerLayer
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file, save_file
from torch import nn

from cosmos_exp.config.adapter_file import (
    PEFT_CONFIG,
    PEFT_FILE,
    PREFIX,
    PREFIXES,
    RECORD_FILE,
    AdapterFile,
    find_adapter,
    kind_of,
    open_adapter,
    rank_settings,
    read_adapter,
    tensors_of,
    write_adapter,
)
from cosmos_exp.config.layers import TransformerConfig
from cosmos_exp.config.registry import ADAPTERS, unknown_name
from cosmos_exp.config.schema import Adapter
from cosmos_exp.errors import RunError, UserError
from cosmos_exp.files import JsonObject, atomic_folder, write_json
from cosmos_exp.rng import generator
from cosmos_exp.text import one_line
from cosmos_exp.world.adapted_linear import dora_norm
from cosmos_exp.world.loading import load_projection, stored_tensors
from cosmos_exp.world.model_folder import ModelFolder

NAME = "default"  # peft's name of the adapter
INITIALISATIONS = {"gaussian": "gaussian", "kaiming": True, "pissa": "pissa_niter_16"}  # peft's init_lora_weights
PROJECTION = "crossattn_proj."  # of the prompt; it is not in the loaded transformer, and is not trained
Mix = Sequence[tuple[Path, float]]  # adapters that are used together, each with its weight
Observe = Callable[[str, torch.Tensor, torch.Tensor], None]


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


def peft_method(adapter: Adapter) -> PeftConfig:
    """Another method of peft: adapter.method with the keys in adapter.options.

    Raises:
        UserError: peft does not know the method or a key.
    """
    methods = {kind.value.lower(): kind for kind in PEFT_TYPE_TO_CONFIG_MAPPING}
    method = str(adapter.method).lower()
    if method not in methods:
        raise UserError(f"adapter.method={adapter.method}: {unknown_name(method, list(methods))}")
    try:
        return PEFT_TYPE_TO_CONFIG_MAPPING[methods[method]](
            **{"target_modules": list(adapter.target_modules), **adapter.options}
        )
    except (TypeError, ValueError, ImportError) as error:
        raise UserError(f"adapter.options: {method} of peft: {one_line(error)[:200]}") from error


def lora_config(adapter: Adapter) -> LoraConfig:
    """peft's configuration of an adapter.

    Raises:
        UserError: no such kind.
    """
    config: LoraConfig = ADAPTERS.get(adapter.kind)(adapter)
    return config


def count_parameters(adapter: Adapter, keys: TransformerConfig) -> int:
    """The number of parameters of another method of peft, by adding it to a transformer without memory.

    Raises:
        UserError: peft cannot add it, or not merge it into the base.
    """
    with torch.device("meta"):
        model = CosmosTransformer3DModel(**keys).requires_grad_(False)
    _add(model, adapter)
    for module in model.modules():
        if isinstance(module, BaseTunerLayer) and type(module).merge is BaseTunerLayer.merge:
            raise UserError(
                f"adapter.method={adapter.method}: peft cannot merge it into the base. Choose another method."
            )
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


def _add(model: nn.Module, adapter: Adapter) -> None:
    """Add the adapter that peft builds.

    Raises:
        UserError: another method of peft cannot be added to this model.
    """
    config = lora_config(adapter)
    try:
        inject_adapter_in_model(config, model, NAME)
    except (ValueError, TypeError, KeyError, NotImplementedError, ImportError, AttributeError) as error:
        if adapter.kind != "peft":
            raise
        raise UserError(
            f"adapter.method={adapter.method}: peft cannot add it to this model ({one_line(error)[:200]}). Change "
            "adapter.options, or choose another method."
        ) from error


def inject(transformer: CosmosTransformer3DModel, adapter: Adapter, seed: int) -> dict[str, nn.Parameter]:
    """Add a new adapter to a frozen transformer, or thaw all of its weights.

    Call it while the transformer is on the CPU, so that the initial values do not depend on the device.

    Returns:
        the parameters that are trained, by name, fp32.
    """
    if adapter.kind == "full":
        transformer.requires_grad_(True)
    else:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(generator(seed, "adapter").randint(2**31 - 1)))
            _add(transformer, adapter)
        transformer._hf_peft_config_loaded = True  # as diffusers' add_adapter does, which takes no other model
    parameters = {n: p for n, p in transformer.named_parameters() if p.requires_grad}
    for parameter in parameters.values():
        parameter.data = parameter.data.float()
    for module in transformer.modules():
        if isinstance(module, LoraLayer) and adapter.init == "pissa":
            module.start = tuple(x[NAME].weight.detach().clone() for x in (module.lora_A, module.lora_B))
    _exact_magnitudes(transformer)
    return parameters


def can_be_disabled(adapter: Adapter) -> bool:
    """Whether the transformer without the adapter is the base: PiSSA changes the base's weights, too."""
    return adapter.kind != "full" and adapter.init != "pissa"


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


def save_adapter(
    transformer: CosmosTransformer3DModel, directory: Path, record: JsonObject, base: ModelFolder | None = None
) -> Path:
    """Write what was trained, atomically.

    Args:
        directory: gets the file `ADAPTER_FILE`, the files of peft, or those of diffusers' transformer.
        record: what it was trained on (base model, revision, data fingerprint, config hash …).
        base: of a full fine-tuning, for the prompt projection.

    Returns:
        the file, or the folder of a full fine-tuning.
    """
    if not hasattr(transformer, "peft_config"):
        assert base is not None
        with _recorded_folder(directory, record) as work:
            transformer.crossattn_proj = load_projection(base, torch.float32)
            transformer.save_pretrained(work, max_shard_size="5GB")
            # diffusers' own has this machine's paths
            shutil.copyfile(base.path / "transformer" / "config.json", work / "config.json")
        return directory
    config: PeftConfig = transformer.peft_config[NAME]
    state = {name: value.detach().float().cpu() for name, value in get_peft_model_state_dict(transformer).items()}
    if config.peft_type != PeftType.LORA:
        with _recorded_folder(directory, record) as work:
            named = {f"{PREFIXES[1]}{name}": value.contiguous() for name, value in state.items()}
            save_file(named, work / PEFT_FILE, {"format": "pt"})
            (work / PEFT_CONFIG).write_text(json.dumps(config.to_dict(), default=sorted, sort_keys=True))
        return directory / PEFT_FILE
    peft = config.to_dict()
    if config.init_lora_weights == INITIALISATIONS["pissa"]:
        peft |= _subtract_start(transformer, state)
    return write_adapter(directory, {name: value.numpy() for name, value in state.items()}, peft, record)


@contextmanager
def _recorded_folder(directory: Path, record: JsonObject) -> Iterator[Path]:
    """A folder to write to, which replaces `directory` with our record in it."""
    with atomic_folder(directory) as work:
        yield work
        write_json(work / RECORD_FILE, record)
        shutil.rmtree(directory, ignore_errors=True)  # of a run that was killed before it was recorded


def _subtract_start(transformer: nn.Module, state: dict[str, torch.Tensor]) -> JsonObject:
    """Turn A and B of PiSSA, whose base is W - s B0 A0, into those of the base W: s (B A - B0 A0), of twice the rank.

    Returns:
        the entries of peft's configuration that change.
    """
    ranks, alphas = {}, {}
    for name, module in transformer.named_modules():
        if not isinstance(module, LoraLayer):
            continue
        first_a, first_b = (value.cpu() for value in module.start)
        a, b = f"{name}.lora_A.weight", f"{name}.lora_B.weight"
        state[a] = torch.cat([state[a], first_a])
        state[b] = torch.cat([state[b], -first_b], dim=1)
        ranks[name] = len(state[a])
        scaled_by = ranks[name] ** 0.5 if module.use_rslora[NAME] else ranks[name]
        alphas[name] = module.scaling[NAME] * scaled_by
    return rank_settings(ranks, alphas) | {"init_lora_weights": True}


def apply(
    transformer: CosmosTransformer3DModel,
    mix: Mix,
    alpha: float | None = None,
    merged: bool = True,
    keep_original: bool = False,
    observe: Observe | None = None,
) -> dict[str, torch.Tensor | None]:
    """Put adapters, or a full fine-tuning, into the transformer.

    Args:
        mix: one, or several of LoRA and DoRA, with the weights that diffusers' `set_adapters` takes. A weight of another
            kind is that of its update.
        alpha: for files that do not record it.
        merged: merge them; a full fine-tuning always is.
        keep_original, observe: as in `merge`.

    Returns:
        as `merge`.

    Raises:
        UserError: as `load_adapter`, or kinds that cannot be mixed.
    """
    (first, weight), *others = mix
    kind = kind_of(first)
    if kind == "full":
        return _load_full(transformer, first, weight, keep_original, observe)
    names: list[str] = []
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Already found a `peft_config`")  # of peft, for the second adapter
        for path, _ in mix:
            names.append(f"{NAME}{len(names) or ''}")
            load_adapter(transformer, path, alpha, names[-1])
    if kind == "lora" and (others or weight != 1):
        transformer.set_adapters(names, [weight for _, weight in mix])
    if not merged:
        return {}
    return merge(transformer, keep_original, observe, 1.0 if kind == "lora" else weight)


def _load_full(
    transformer: CosmosTransformer3DModel, folder: Path, weight: float, keep_original: bool, observe: Observe | None
) -> dict[str, torch.Tensor | None]:
    """Replace all weights by those of a full fine-tuning; arguments and result as in `apply`."""
    original: dict[str, torch.Tensor | None] = {}
    parameters = dict(transformer.named_parameters())
    for name, read in stored_tensors(folder):
        if name.startswith(PROJECTION):
            continue
        trained, parameter = read(), parameters.get(name)
        if parameter is None or parameter.shape != trained.shape:
            raise UserError(f"{folder}: {one_line(name)} does not fit this model. Choose the one it was trained on.")
        data, before = parameter.data, parameter.data.float()
        if keep_original:
            original[name] = data.to("cpu", copy=True)
        after = before.lerp(trained.to(data.device).float(), weight)
        if observe:
            observe(name, before, after)
        data.copy_(after)
    return original


def load_adapter(
    transformer: CosmosTransformer3DModel, path: Path, alpha: float | None = None, adapter_name: str = NAME
) -> JsonObject:
    """Add a saved adapter to the transformer, at the scale of its training.

    Args:
        path: as in `find_adapter`.
        alpha: for files that do not record it.
        adapter_name: peft's name of the adapter.

    Returns:
        our record of its training; empty for another tool's file.

    Raises:
        UserError: not an adapter, an adapter for another model, or `alpha` differs from the file's.
        RunError: not all of its layers were loaded.
    """
    file = find_adapter(path)
    if kind_of(file) != "lora":
        return _load_peft(transformer, file)
    adapter = read_adapter(file, alpha)
    if not adapter.alpha_recorded:
        _note_alpha(adapter, alpha)
    state: dict[str, torch.Tensor] = {}
    for name, values in tensors_of(adapter.layers).items():
        state[PREFIX + name] = torch.from_numpy(values)
    metadata = {f"{PREFIX}{key}": value for key, value in adapter.peft.items()}
    try:
        transformer.load_lora_adapter(
            dict(state), prefix=PREFIX.rstrip("."), metadata=metadata, adapter_name=adapter_name
        )
        _fill_in_fp32(transformer, state, adapter_name)
    except (RuntimeError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{adapter.file}: does not fit this model ({one_line(error)[:200]})") from error
    loaded = sum(isinstance(m, LoraLayer) and adapter_name in m.lora_A for m in transformer.modules())
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


def _load_peft(transformer: CosmosTransformer3DModel, file: Path) -> JsonObject:
    """Add a saved adapter of another method of peft. Returns and raises as `load_adapter`."""
    try:
        config = get_peft_config(json.loads(file.with_name(PEFT_CONFIG).read_text()))
        inject_adapter_in_model(config, transformer, NAME)
        transformer._hf_peft_config_loaded = True
        for key, parameter in transformer.named_parameters():
            if f".{NAME}" in key:
                parameter.data = parameter.data.float()
        state = {name.removeprefix(PREFIXES[1]): value for name, value in load_file(file).items()}
        lost = set_peft_model_state_dict(transformer, state, NAME)
    except (RuntimeError, ValueError, TypeError, KeyError, AttributeError, OSError) as error:
        raise UserError(f"{file}: does not fit this model ({one_line(error)[:200]})") from error
    if lost.unexpected_keys or set(get_peft_model_state_dict(transformer)) != set(state):
        raise RunError(f"check failed: {file}: {len(state)} tensors, and not all of them were loaded into the model")
    return open_adapter(file).record


def _fill_in_fp32(transformer: CosmosTransformer3DModel, state: dict[str, torch.Tensor], adapter: str) -> None:
    """Replace the adapter's values by the file's, in fp32: diffusers has rounded them to the base's bf16."""
    for key, parameter in transformer.named_parameters():
        if "lora_" in key and f".{adapter}." in f"{key}.":
            parameter.data = parameter.data.float()
    set_peft_model_state_dict(transformer, {k.removeprefix(PREFIX): v.float() for k, v in state.items()}, adapter)


def merge(
    transformer: CosmosTransformer3DModel,
    keep_original: bool = False,
    observe: Observe | None = None,
    weight: float = 1.0,
) -> dict[str, torch.Tensor | None]:
    """Add the active adapters to the base weights and remove their layers.

    The sum is computed in fp32; in bf16 small updates would be lost to rounding. Several adapters give what diffusers'
    forward pass gives: peft's own merging takes the norm of a second DoRA from the result of the first adapter.

    Args:
        keep_original: copy the base weights to the CPU first, for `remove`.
        observe: gets each layer's name and its weight before and after, (out, in), in fp32: before the sum is rounded to
            the base's precision.
        weight: of the update.

    Returns:
        the copies by name, None for a bias that the base does not have; empty without `keep_original`.
    """
    original: dict[str, torch.Tensor | None] = {}
    for name, module in transformer.named_modules():
        if not isinstance(module, BaseTunerLayer):
            continue
        base = module.get_base_layer()
        stored = base.weight.data
        before = stored.float()
        if keep_original:
            original[f"{name}.weight"] = stored.to("cpu", copy=True)
        # The adapter's bias is merged into one of the base.
        if base.bias is None and any(getattr(module, "lora_bias", {}).values()):
            base.bias = nn.Parameter(before.new_zeros(base.out_features), requires_grad=False)
            if keep_original:
                original[f"{name}.bias"] = None
        after = before
        for adapter in module.active_adapters:
            base.weight.data = before
            module.merge(safe_merge=True, adapter_names=[adapter])  # into a copy
            module.merged_adapters = []  # the next one is merged into the base, too
            after = base.weight.data + _row_factor(module, adapter, before) * (after - before)
        if weight != 1:
            after = before.lerp(after, weight)
        if observe:
            observe(name, before, after)
        base.to(stored.dtype)
        # Back into the old memory. Weights that were loaded are views of a mapped file, which stays in memory as long as one
        # of them does: new tensors would be a second copy of the model.
        base.weight.data = stored.copy_(after)
    transformer.unload_lora()
    return original


def _row_factor(module: LoraLayer, adapter: str, base: torch.Tensor) -> torch.Tensor | float:
    """What an adapter multiplies each row of the weight by: DoRA by its magnitude over its norm, (out, 1); others by 1."""
    if adapter not in getattr(module, "lora_magnitude_vector", {}):
        return 1.0
    norm = dora_norm(base, module.lora_A[adapter].weight, module.lora_B[adapter].weight, module.scaling[adapter])
    return (module.lora_magnitude_vector[adapter].weight.data / norm)[:, None]


def remove(transformer: CosmosTransformer3DModel, original: Mapping[str, torch.Tensor | None] | None = None) -> None:
    """Remove the adapters.

    Args:
        original: what `merge(keep_original=True)` returned; None or empty if they are not merged.
    """
    transformer.unload_lora()
    for name, value in (original or {}).items():
        owner, _, part = name.rpartition(".")
        module = transformer.get_submodule(owner)
        if value is None:
            setattr(module, part, None)
        else:
            getattr(module, part).data.copy_(value)
