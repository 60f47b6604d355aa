"""Adapters of NVIDIA's own code (nvidia-cosmos/cosmos-predict2.5), both ways. Values are never changed.

Its loader (cosmos_predict2/_src/predict2/utils/model_loader.py, `adapter_checkpoint_paths`) reads a .pt file with the names of
peft below `net.`; rank, alpha, target modules and DoRA are keys of its configuration, one value for all layers. The names of
layers are those of the original network, which diffusers' converter of Cosmos 2 checkpoints renames.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError

import numpy as np
import torch
from peft import LoraConfig

from cosmos_exp.config.adapter_checks import check_adapter
from cosmos_exp.config.adapter_header import A_SUFFIX, B_SUFFIX, MAGNITUDE, AdapterHeader, Array, read_tensors
from cosmos_exp.errors import UserError
from cosmos_exp.files import JsonObject, atomic_path, file_sha256
from cosmos_exp.text import one_line
from cosmos_exp.world.adapter_writing import write_adapter

FORMAT = "cosmos-predict2.5"
EMA, REGULAR = "net_ema.", "net."
_ADAPTER = ".default"  # peft's name of the adapter, inside the names of its tensors
# Ends of layer names, ours and theirs.
_IN_BLOCK = {
    "norm1": "adaln_modulation_self_attn",
    "norm2": "adaln_modulation_cross_attn",
    "norm3": "adaln_modulation_mlp",
}
_BLOCK_LAYERS = {
    **{
        f"{ours}.{a}": f"{theirs}.{b}"
        for ours, theirs in (("attn1", "self_attn"), ("attn2", "cross_attn"))
        for a, b in (("to_q", "q_proj"), ("to_k", "k_proj"), ("to_v", "v_proj"), ("to_out.0", "output_proj"))
    },
    "ff.net.0.proj": "mlp.layer1",
    "ff.net.2": "mlp.layer2",
    **{f"{ours}.linear_{k}": f"{theirs}.{k}" for ours, theirs in _IN_BLOCK.items() for k in (1, 2)},
}
_OTHER_LAYERS = {
    "patch_embed.proj": "x_embedder.proj.1",
    "time_embed.t_embedder.linear_1": "t_embedder.1.linear_1",
    "time_embed.t_embedder.linear_2": "t_embedder.1.linear_2",
    "norm_out.linear_1": "final_layer.adaln_modulation.1",
    "norm_out.linear_2": "final_layer.adaln_modulation.2",
    "proj_out": "final_layer.linear",
    "crossattn_proj.0": "crossattn_proj.0",
}
_OUR_BLOCKS, _THEIR_BLOCKS = "transformer_blocks", "blocks"


@dataclass(frozen=True)
class Exported:
    """A file for NVIDIA's code. `options`: the keys of its configuration that belong to it."""

    file: Path
    options: list[str]


def original_layer(layer: str) -> str:
    """The original network's name of a layer of diffusers' transformer.

    Raises:
        UserError: there is none.
    """
    return _renamed(layer, _OUR_BLOCKS, _THEIR_BLOCKS, _BLOCK_LAYERS, _OTHER_LAYERS)


def diffusers_layer(layer: str) -> str:
    """diffusers' name of a layer of the original network.

    Raises:
        UserError: there is none.
    """
    back = ({v: k for k, v in names.items()} for names in (_BLOCK_LAYERS, _OTHER_LAYERS))
    return _renamed(layer, _THEIR_BLOCKS, _OUR_BLOCKS, *back)


def _renamed(layer: str, old: str, new: str, in_block: Mapping[str, str], other: Mapping[str, str]) -> str:
    found = re.fullmatch(rf"{old}\.(\d+)\.(.+)", layer)
    name = in_block.get(found[2]) if found else other.get(layer)
    if name is None:
        raise UserError(
            f"{one_line(layer)[:80]}: not a layer of Cosmos Predict 2.5. Use an adapter of its transformer."
        )
    return f"{new}.{found[1]}.{name}" if found else name


def export_adapter(file: Path, out: Path, alpha: float | None = None) -> Exported:
    """Write an adapter for NVIDIA's code.

    Args:
        file: the adapter file.
        out: the new file.
        alpha: for files that do not record it.

    Raises:
        UserError: it has what that code has no word for: several ranks or alphas, rsLoRA, an alpha that is no whole
            number, biases.
    """
    header = check_adapter(file, alpha=alpha)
    options = _options(header)
    state = {}
    for name, values in read_tensors(file).items():
        layer, end = _split(name)
        state[f"{REGULAR}{original_layer(layer)}{end}"] = torch.from_numpy(np.array(values))
    with atomic_path(out) as temporary:
        torch.save(state, temporary)
    return Exported(out, options)


def _split(name: str) -> tuple[str, str]:
    """The layer of a tensor, and the rest of its name with peft's name of the adapter."""
    for suffix in (A_SUFFIX, B_SUFFIX):
        if name.endswith(suffix):
            return name.removesuffix(suffix), suffix.replace(".weight", f"{_ADAPTER}.weight")
    layer, _, _ = name.partition(f".{MAGNITUDE}")
    return layer, f".{MAGNITUDE}{_ADAPTER}.weight"


def _options(header: AdapterHeader) -> list[str]:
    """The keys of NVIDIA's configuration.

    Raises:
        UserError: as `export_adapter`.
    """
    ranks, alphas = set(header.ranks.values()), set(header.alphas.values())
    wrong = [
        ("several ranks or alphas", len(ranks) > 1 or len(alphas) > 1),
        ("rsLoRA", header.rslora),
        ("biases", any(k.endswith(".bias") for k in header.shapes)),
        ("an alpha that is no whole number", any(a != int(a) for a in alphas)),
    ]
    if found := [words for words, there in wrong if there]:
        raise UserError(
            f"{header.file}: has {found[0]}, which the configuration of {FORMAT} cannot express. Merge it instead: "
            "cosmos-exp adapter merge"
        )
    prefix = "model.config."
    options = [f"{prefix}use_lora=True", f"{prefix}lora_rank={ranks.pop()}", f"{prefix}lora_alpha={int(alphas.pop())}"]
    options += [f"{prefix}lora_target_modules='{','.join(targets(header.layers))}'"]
    return [*options, f"{prefix}use_dora=True"] if header.kind == "dora" else options


def targets(layers: Iterable[str]) -> list[str]:
    """The shortest list of ends that selects exactly these layers, named as in the original network."""
    ends = sorted({original_layer(layer).partition(".")[2].lstrip("0123456789").lstrip(".") for layer in layers})
    found: list[str] = []
    for end in ends:
        attention, _, name = end.partition(".")
        both = {f"self_attn.{name}", f"cross_attn.{name}"} <= set(ends)
        found.append(name if attention in ("self_attn", "cross_attn") and both else end)
    return list(dict.fromkeys(found))


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
    state = _read(file)
    prefix = next((p for p in (EMA, REGULAR, "") if any(k.startswith(p) and "lora_" in k for k in state)), None)
    if prefix is None:
        raise UserError(
            f"{file}: holds no adapter (no tensor whose name contains lora_). Name the checkpoint of a LoRA training."
        )
    tensors: dict[str, Array] = {}
    for name, value in state.items():
        if name.startswith(prefix) and "lora_" in name:
            layer, end = _split(name.removeprefix(prefix).replace(f"{_ADAPTER}.weight", ".weight"))
            ours = f"{diffusers_layer(layer)}{end.replace(_ADAPTER, '')}"
            tensors[ours.removesuffix(".weight") if MAGNITUDE in ours else ours] = value.float().numpy()
    record: JsonObject = {"imported": {"format": FORMAT, "sha256": file_sha256(file), "weights": prefix.rstrip(".")}}
    written = write_adapter(out, tensors, _metadata(file, tensors, alpha), record)
    try:
        check_adapter(written)
    except UserError:
        written.unlink()  # nothing is left that a run would refuse
        raise
    return written


def _read(file: Path) -> dict[str, torch.Tensor]:
    """The tensors of a .pt file. Nothing in it is run."""
    try:
        found = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, UnpicklingError, EOFError, ValueError, KeyError) as error:
        raise UserError(
            f"{file}: is no checkpoint that NVIDIA's code writes (.pt, tensors by name). Convert a folder of shards with that "
            "project's scripts/convert_distcp_to_pt.py, or name another file."
        ) from error
    for key in ("model", "state_dict"):
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    if not isinstance(found, dict):
        raise UserError(f"{file}: holds no names and tensors. Name another file.")
    return {str(k): v for k, v in found.items() if isinstance(v, torch.Tensor)}


def _metadata(file: Path, tensors: Mapping[str, Array], alpha: float | None) -> JsonObject:
    """peft's configuration of the imported adapter."""
    ranks = {v.shape[0] for k, v in tensors.items() if k.endswith(A_SUFFIX) and v.ndim == 2}
    if len(ranks) != 1:
        raise UserError(f"{file}: has the ranks {sorted(ranks)}; an adapter of {FORMAT} has one. Name another file.")
    rank = ranks.pop()
    settings = LoraConfig(
        r=rank,
        lora_alpha=rank if alpha is None else int(alpha) if float(alpha).is_integer() else alpha,
        use_dora=any(MAGNITUDE in k for k in tensors),
        target_modules=sorted(k.removesuffix(A_SUFFIX) for k in tensors if k.endswith(A_SUFFIX)),
    )
    found: JsonObject = settings.to_dict()
    return found | {"target_modules": sorted(found["target_modules"])}
