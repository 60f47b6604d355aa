"""Adapters of NVIDIA's own code (nvidia-cosmos/cosmos-predict2.5), both ways. Values are never changed.

Its loader (cosmos_predict2/_src/predict2/utils/model_loader.py, `adapter_checkpoint_paths`) reads a .pt file with the names of
peft below `net.`; rank, alpha, target modules and DoRA are keys of its configuration, one value for all layers. The names of
layers are those of the original network, which diffusers' converter of Cosmos 2 checkpoints renames.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from pickle import UnpicklingError

import numpy as np
import torch

from cosmos_exp.config.adapter_file import (
    ENDS,
    PARTS,
    AdapterFile,
    Array,
    parts_by_layer,
    read_adapter,
    shown_settings,
    split_name,
    write_adapter,
)
from cosmos_exp.errors import UserError
from cosmos_exp.files import JsonObject, atomic_path, file_sha256
from cosmos_exp.text import one_line

FORMAT = "cosmos-predict2.5"
EMA, REGULAR = "net_ema.", "net."
THEIR_ENDS = {
    "a": ".lora_A.default.weight",
    "b": ".lora_B.default.weight",
    "magnitude": ".lora_magnitude_vector.default.weight",
}
# Layers by diffusers' name and by the original one; those of block 0 for all blocks.
LAYERS = {
    "transformer_blocks.0.attn1.to_q": "blocks.0.self_attn.q_proj",
    "transformer_blocks.0.attn1.to_k": "blocks.0.self_attn.k_proj",
    "transformer_blocks.0.attn1.to_v": "blocks.0.self_attn.v_proj",
    "transformer_blocks.0.attn1.to_out.0": "blocks.0.self_attn.output_proj",
    "transformer_blocks.0.attn2.to_q": "blocks.0.cross_attn.q_proj",
    "transformer_blocks.0.attn2.to_k": "blocks.0.cross_attn.k_proj",
    "transformer_blocks.0.attn2.to_v": "blocks.0.cross_attn.v_proj",
    "transformer_blocks.0.attn2.to_out.0": "blocks.0.cross_attn.output_proj",
    "transformer_blocks.0.ff.net.0.proj": "blocks.0.mlp.layer1",
    "transformer_blocks.0.ff.net.2": "blocks.0.mlp.layer2",
    "transformer_blocks.0.norm1.linear_1": "blocks.0.adaln_modulation_self_attn.1",
    "transformer_blocks.0.norm1.linear_2": "blocks.0.adaln_modulation_self_attn.2",
    "transformer_blocks.0.norm2.linear_1": "blocks.0.adaln_modulation_cross_attn.1",
    "transformer_blocks.0.norm2.linear_2": "blocks.0.adaln_modulation_cross_attn.2",
    "transformer_blocks.0.norm3.linear_1": "blocks.0.adaln_modulation_mlp.1",
    "transformer_blocks.0.norm3.linear_2": "blocks.0.adaln_modulation_mlp.2",
    "patch_embed.proj": "x_embedder.proj.1",
    "time_embed.t_embedder.linear_1": "t_embedder.1.linear_1",
    "time_embed.t_embedder.linear_2": "t_embedder.1.linear_2",
    "norm_out.linear_1": "final_layer.adaln_modulation.1",
    "norm_out.linear_2": "final_layer.adaln_modulation.2",
    "proj_out": "final_layer.linear",
    "crossattn_proj.0": "crossattn_proj.0",
}


def original_layer(layer: str) -> str:
    """The original network's name of a layer of diffusers' transformer.

    Raises:
        UserError: there is none.
    """
    return _renamed(layer, LAYERS)


def diffusers_layer(layer: str) -> str:
    """diffusers' name of a layer of the original network.

    Raises:
        UserError: there is none.
    """
    return _renamed(layer, {theirs: ours for ours, theirs in LAYERS.items()})


def _renamed(layer: str, names: Mapping[str, str]) -> str:
    block = re.search(r"blocks\.\d+\.", layer)
    prefix = block[0] if block else "blocks.0."
    name = layer.replace(prefix, "blocks.0.")
    if name not in names:
        raise UserError(
            f"{one_line(layer)[:80]}: not a layer of Cosmos Predict 2.5. Use an adapter of its transformer."
        )
    return names[name].replace("blocks.0.", prefix)


def export_adapter(file: Path, out: Path, alpha: float | None = None) -> list[str]:
    """Write an adapter for NVIDIA's code.

    Args:
        file: the adapter file.
        out: the new file.
        alpha: for files that do not record it.

    Returns:
        The keys of its configuration that belong to the file.

    Raises:
        UserError: it has what that code cannot express: several ranks or alphas, rsLoRA, an alpha that is no whole
            number, biases.
    """
    adapter = read_adapter(file, alpha)
    options = _options(adapter)
    state = {}
    for layer, values in adapter.layers.items():
        for part, end in THEIR_ENDS.items():
            tensor = getattr(values, part)
            if tensor is not None:
                state[f"{REGULAR}{original_layer(layer)}{end}"] = torch.from_numpy(np.array(tensor))
    with atomic_path(out) as temporary:
        torch.save(state, temporary)
    return options


def _options(adapter: AdapterFile) -> list[str]:
    """The keys of NVIDIA's configuration.

    Raises:
        UserError: as `export_adapter`.
    """
    ranks = {layer.rank for layer in adapter.layers.values()}
    alphas = {layer.alpha for layer in adapter.layers.values()}
    rank, alpha = ranks.pop(), alphas.pop()
    obstacles = {
        "several ranks or alphas": ranks or alphas,
        "rsLoRA": adapter.rslora,
        "biases": adapter.biased,
        "an alpha that is no whole number": not alpha.is_integer(),
    }
    for what, there in obstacles.items():
        if there:
            raise UserError(
                f"{adapter.file}: has {what}, which the configuration of {FORMAT} cannot express. Merge it instead: "
                "cosmos-exp adapter merge"
            )
    options = [
        "model.config.use_lora=True",
        f"model.config.lora_rank={rank}",
        f"model.config.lora_alpha={int(alpha)}",
        f"model.config.lora_target_modules='{','.join(targets(adapter.layers))}'",
    ]
    if adapter.kind == "dora":
        options.append("model.config.use_dora=True")
    return options


def targets(layers: Iterable[str]) -> list[str]:
    """Ends of names in the original network that select exactly these layers: a layer of all blocks is one end."""
    return sorted({re.sub(r"^blocks\.\d+\.", "", original_layer(layer)) for layer in layers})


def import_adapter(file: Path, out: Path, alpha: float | None = None) -> Path:
    """Write an adapter of NVIDIA's code in diffusers' format.

    Args:
        file: its .pt file: of an adapter, or a whole checkpoint with one. Moving averages come first.
        out: folder of the new file.
        alpha: of its training; None: its rank, as in NVIDIA's configurations.

    Returns:
        the file.

    Raises:
        UserError: the file cannot be read, or holds no adapter of Cosmos Predict 2.5.
    """
    if alpha is not None and not (alpha > 0 and math.isfinite(alpha)):
        raise UserError(f"--alpha {alpha:g}: must be a finite number greater than 0")
    prefix, state = _adapter_tensors(file)
    tensors: dict[str, Array] = {}
    for name, value in state.items():
        layer, end = split_name(name)
        if end is None:
            raise UserError(f"{file}: {one_line(name)[:80]} is no tensor of a LoRA or DoRA. Name another file.")
        tensors[diffusers_layer(layer) + ENDS[PARTS[end]]] = value.float().numpy()
    parts = parts_by_layer(file, tensors)
    ranks = {len(part["a"]) for part in parts.values()}
    if len(ranks) != 1:
        raise UserError(f"{file}: has the ranks {sorted(ranks)}; an adapter of {FORMAT} has one. Name another file.")
    record: JsonObject = {"imported": {"format": FORMAT, "sha256": file_sha256(file), "weights": prefix.rstrip(".")}}
    alphas = None if alpha is None else dict.fromkeys(parts, alpha)
    return write_adapter(out, tensors, shown_settings(parts, alphas), record)


def _adapter_tensors(file: Path) -> tuple[str, dict[str, torch.Tensor]]:
    """The adapter's tensors of a .pt file by name, without the prefix that comes first. Nothing in the file is run."""
    state = _read(file)
    for prefix in (EMA, REGULAR, ""):
        chosen = {}
        for name, value in state.items():
            if name.startswith(prefix) and "lora_" in name:
                chosen[name.removeprefix(prefix)] = value
        if chosen:
            return prefix, chosen
    raise UserError(
        f"{file}: holds no adapter (no tensor whose name contains lora_). Name the checkpoint of a LoRA training."
    )


def _read(file: Path) -> dict[str, torch.Tensor]:
    """The tensors of a .pt file."""
    try:
        content = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, UnpicklingError, EOFError, ValueError, KeyError) as error:
        raise UserError(
            f"{file}: is no checkpoint that NVIDIA's code writes (.pt, tensors by name). Convert a folder of shards with that "
            "project's scripts/convert_distcp_to_pt.py, or name another file."
        ) from error
    for key in ("model", "state_dict"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    if not isinstance(content, dict):
        raise UserError(f"{file}: holds no names and tensors. Name another file.")
    return {str(name): value for name, value in content.items() if isinstance(value, torch.Tensor)}
