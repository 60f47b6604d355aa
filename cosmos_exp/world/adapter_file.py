"""Adapter files: diffusers' format with peft's metadata.

`pipe.load_lora_weights(dir)` of plain diffusers restores rank, alpha, scaling rule and DoRA from a file. The file's
header also records what the adapter was trained on.
"""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import torch
from diffusers import Cosmos2_5_PredictBasePipeline, CosmosTransformer3DModel
from peft import LoraConfig
from peft.tuners.lora import LoraLayer
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from cosmos_exp.config.adapter_checks import check_adapter
from cosmos_exp.config.adapter_header import A_SUFFIX, OWN_METADATA_KEY, PREFIX, find_adapter, read_header
from cosmos_exp.errors import RunError, UserError
from cosmos_exp.files import JsonObject, atomic_path
from cosmos_exp.run_folder import ADAPTER_FILE
from cosmos_exp.text import one_line
from cosmos_exp.world.adapter import NAME
from cosmos_exp.world.adapter_writing import sort_header


def save_adapter(transformer: CosmosTransformer3DModel, directory: Path, record: JsonObject) -> Path:
    """Write the adapter file atomically.

    Args:
        directory: gets the file `ADAPTER_FILE`.
        record: what it was trained on (base model, revision, data fingerprint, config hash …), stored in the header.

    Returns:
        the file.
    """
    # `_collate_lora_metadata` is private: diffusers' own training scripts use it, and `save_lora_weights` does not
    # collect the metadata itself. Checked with diffusers 0.37 to 0.42.
    from diffusers.training_utils import _collate_lora_metadata

    state = {k: v.detach().float().cpu().contiguous() for k, v in get_peft_model_state_dict(transformer).items()}
    target = directory / ADAPTER_FILE
    with atomic_path(target) as temporary:
        Cosmos2_5_PredictBasePipeline.save_lora_weights(
            save_directory=str(temporary.parent),
            weight_name=temporary.name,
            transformer_lora_layers=state,
            safe_serialization=True,
            **_collate_lora_metadata({"transformer": transformer}),
        )
        with safe_open(temporary, "pt") as content:
            header = dict(content.metadata())
        save_file(load_file(temporary), temporary, {**header, OWN_METADATA_KEY: json.dumps(record, default=str)})
        sort_header(temporary)
    return target


def read_metadata(path: Path) -> tuple[JsonObject | None, JsonObject]:
    """peft's metadata (None if the file has none), and our record of the training (empty for another tool's file)."""
    header = read_header(path)
    return header.peft, header.record


def _assumed_metadata(state: dict[str, torch.Tensor], path: Path, alpha: float | None) -> JsonObject:
    """Metadata for a file without any: the tensors show rank, layers and DoRA, but not alpha."""
    downs = {k.removeprefix(PREFIX): v for k, v in state.items() if k.endswith(A_SUFFIX)}
    if not downs:
        raise UserError(f"{path}: has no lora_A tensors; is it an adapter in diffusers format?")
    ranks = {v.shape[0] for v in downs.values()}
    if len(ranks) > 1:
        raise UserError(f"{path}: has no metadata and several ranks {sorted(ranks)}; its scale is unknown")
    rank = ranks.pop()
    if alpha is None:
        warnings.warn(f"{path} has no alpha; assumed alpha = rank = {rank} (set it with --alpha)", stacklevel=3)
    config = LoraConfig(
        r=rank,
        lora_alpha=rank if alpha is None else alpha,
        use_dora=any("lora_magnitude_vector" in k for k in state),
        target_modules=sorted(k.removesuffix(A_SUFFIX) for k in downs),
    )
    metadata: JsonObject = config.to_dict()
    metadata["target_modules"] = sorted(metadata["target_modules"])
    return metadata


def load_adapter(
    transformer: CosmosTransformer3DModel, path: Path, alpha: float | None = None, name: str = NAME
) -> JsonObject:
    """Add a saved adapter to the transformer, at the scale of its training.

    Args:
        path: as in `find_adapter`.
        alpha: for files without metadata.
        name: peft's name of the adapter.

    Returns:
        our record of its training; empty for another tool's file.

    Raises:
        UserError: not an adapter, an adapter for another model, or `alpha` differs from the file's.
        RunError: not all of its layers were loaded.
    """
    file = find_adapter(path)
    check_adapter(file, alpha=alpha)
    try:
        state, metadata = Cosmos2_5_PredictBasePipeline.lora_state_dict(
            str(file.parent), weight_name=file.name, return_lora_metadata=True
        )
    except Exception as error:
        raise UserError(
            f"{file}: cannot be read as an adapter ({error}). Copy it again, or name another file."
        ) from error
    own = read_metadata(file)[1]
    state = {k.replace(".lora.down.", ".lora_A.").replace(".lora.up.", ".lora_B."): v for k, v in state.items()}
    if metadata is None:
        assumed = _assumed_metadata(state, file, alpha)
        metadata = {f"{PREFIX}{k}": v for k, v in assumed.items()}
    elif alpha is not None and float(alpha) != float(metadata[f"{PREFIX}lora_alpha"]):
        raise UserError(
            f"--alpha {alpha}: {file} records alpha {metadata[f'{PREFIX}lora_alpha']}. Leave --alpha out for this file."
        )
    try:
        transformer.load_lora_adapter(dict(state), prefix=PREFIX.rstrip("."), metadata=metadata, adapter_name=name)
        _fill_in_fp32(transformer, state, name)
    except (RuntimeError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise UserError(f"{file}: does not fit this model ({one_line(error)[:200]})") from error
    loaded = sum(1 for m in transformer.modules() if isinstance(m, LoraLayer) and name in m.lora_A)
    expected = sum(1 for k in state if k.endswith(A_SUFFIX))
    if loaded != expected:
        raise RunError(f"check failed: {file} has {expected} adapted layers, {loaded} were loaded into the model")
    return own


def _fill_in_fp32(transformer: CosmosTransformer3DModel, state: dict[str, torch.Tensor], name: str) -> None:
    """Replace the adapter's values by the file's, in fp32: diffusers has rounded them to the base's bf16."""
    for key, parameter in transformer.named_parameters():
        if "lora_" in key and f".{name}" in key:
            parameter.data = parameter.data.float()
    set_peft_model_state_dict(transformer, {k.removeprefix(PREFIX): v.float() for k, v in state.items()}, name)
