"""LoRA and DoRA through peft: put into the transformer, saved with everything that gives them meaning, merged.

The file is diffusers' own format with the adapter's metadata, so `pipe.load_lora_weights(dir)` restores rank, alpha,
scaling rule and DoRA; what it was trained on stands beside that in the file's header."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import Any

import torch
from diffusers import Cosmos2_5_PredictBasePipeline
from peft import LoraConfig
from peft.tuners.lora import LoraLayer
from peft.utils import get_peft_model_state_dict, set_peft_model_state_dict
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from cosmos_exp.errors import RunError, UserError
from cosmos_exp.files import atomic_path
from cosmos_exp.run_folder import ADAPTER_FILE
from cosmos_exp.world.adapter import NAME

LORA_METADATA_KEY = "lora_adapter_metadata"

OWN_METADATA_KEY = "cosmos_exp"

DOWN_END = ".lora_A.weight"


def save_adapter(transformer: nn.Module, directory: Path, record: dict[str, Any]) -> Path:
    """Write the adapter file, whole or not at all.

    Args:
        record: what it was trained on (base model, revision, data fingerprint, config hash …), kept in the header.
    """
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
        _sort_header(temporary)
    return target


def _sort_header(file: Path) -> None:
    """The same adapter, the same bytes: safetensors writes its metadata, and peft a set of names, in an order of the moment.

    The format: eight bytes of length, little endian, then JSON padded with spaces to a multiple of eight, then the data.
    """
    content = file.read_bytes()
    size = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + size])
    peft = json.loads(header["__metadata__"]["lora_adapter_metadata"])
    peft = {k: sorted(v) if isinstance(v, list) and all(isinstance(x, str) for x in v) else v for k, v in peft.items()}
    header["__metadata__"] = dict(
        sorted({**header["__metadata__"], "lora_adapter_metadata": json.dumps(peft, sort_keys=True)}.items())
    )
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    file.write_bytes(len(text).to_bytes(8, "little") + text + content[8 + size :])


def find_adapter(path: Path) -> Path:
    """The adapter file that a path means: itself, or the one in a folder, an adapter/ folder or a run folder.

    Raises:
        UserError: there is none.
    """
    for candidate in (path, path / ADAPTER_FILE, path / "adapter" / ADAPTER_FILE):
        if candidate.is_file():
            return candidate
    raise UserError(f"{path}: no adapter there; expected a .safetensors file or a folder with {ADAPTER_FILE}")


def read_metadata(path: Path) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """The adapter's own metadata (None when the file carries none) and our record of its training."""
    with safe_open(path, "pt") as content:
        header = content.metadata() or {}
    own = json.loads(header.get(OWN_METADATA_KEY, "{}"))
    if LORA_METADATA_KEY not in header:
        return None, own
    packed = json.loads(header[LORA_METADATA_KEY])
    return {k.removeprefix("transformer."): v for k, v in packed.items()}, own


def _assumed_metadata(state: dict[str, torch.Tensor], path: Path, alpha: float | None) -> dict[str, Any]:
    """Metadata for a file made elsewhere: rank, layers and DoRA are read off the tensors; alpha is not in them."""
    downs = {k.removeprefix("transformer."): v for k, v in state.items() if k.endswith(DOWN_END)}
    if not downs:
        raise UserError(f"{path}: holds no lora_A tensors; is it an adapter in diffusers format?")
    ranks = {v.shape[0] for v in downs.values()}
    if len(ranks) > 1:
        raise UserError(f"{path}: carries no metadata and has several ranks {sorted(ranks)}; its scale cannot be known")
    rank = ranks.pop()
    if alpha is None:
        warnings.warn(
            f"{path} does not say its alpha; assumed alpha = rank = {rank} (give it with --alpha)", stacklevel=3
        )
    config = LoraConfig(
        r=rank,
        lora_alpha=rank if alpha is None else alpha,
        use_dora=any("lora_magnitude_vector" in k for k in state),
        target_modules=sorted(k.removesuffix(DOWN_END) for k in downs),
    )
    metadata = config.to_dict()
    metadata["target_modules"] = sorted(metadata["target_modules"])
    return metadata


def load_adapter(transformer: nn.Module, path: Path, alpha: float | None = None, name: str = NAME) -> dict[str, Any]:
    """Put a saved adapter into the transformer at the scale it was trained with.

    Args:
        alpha: for files without metadata only; one that contradicts the file is an error.

    Returns:
        our record of its training, empty for a file made elsewhere.

    Raises:
        UserError: not an adapter, or one for another model.
    """
    file = find_adapter(path)
    try:
        state, metadata = Cosmos2_5_PredictBasePipeline.lora_state_dict(
            str(file.parent), weight_name=file.name, return_lora_metadata=True
        )
    except Exception as error:
        raise UserError(f"{file}: cannot be read as an adapter ({error})") from error
    own = read_metadata(file)[1]
    state = {k.replace(".lora.down.", ".lora_A.").replace(".lora.up.", ".lora_B."): v for k, v in state.items()}
    if metadata is None:
        assumed = _assumed_metadata(state, file, alpha)
        metadata = {f"transformer.{k}": v for k, v in assumed.items()}
    elif alpha is not None and float(alpha) != float(metadata["transformer.lora_alpha"]):
        raise UserError(f"--alpha {alpha}: {file} says alpha {metadata['transformer.lora_alpha']} itself")
    try:
        transformer.load_lora_adapter(dict(state), prefix="transformer", metadata=metadata, adapter_name=name)
        _fill_in_fp32(transformer, state, name)
    except (RuntimeError, ValueError) as error:
        raise UserError(f"{file}: does not fit this model ({str(error).splitlines()[0]})") from error
    loaded = sum(1 for m in transformer.modules() if isinstance(m, LoraLayer) and name in m.lora_A)
    wanted = sum(1 for k in state if k.endswith(DOWN_END))
    if loaded != wanted:
        raise RunError(f"check failed: {file} has {wanted} adapted layers, {loaded} are in the model")
    return own


def _fill_in_fp32(transformer: nn.Module, state: dict[str, torch.Tensor], name: str) -> None:
    """diffusers rounds an adapter to the base's bf16 as it loads it; put the file's own values in."""
    for key, parameter in transformer.named_parameters():
        if "lora_" in key and f".{name}" in key:
            parameter.data = parameter.data.float()
    set_peft_model_state_dict(transformer, {k.removeprefix("transformer."): v.float() for k, v in state.items()}, name)
