"""Cut a trained adapter to a lower rank: the best approximation of each layer's update s B A.

Scale and scaling rule are kept: the file's alpha makes s' = s, and the singular values of B A are divided evenly between
the factors. For DoRA (W + s B A, each row with a trained magnitude) the direction is truncated and the magnitude kept.
The update of a full fine-tuning is cut alike, at the scale of the run that cuts it.
"""

from __future__ import annotations

from dataclasses import replace
from operator import itemgetter
from pathlib import Path

import numpy as np

from cosmos_exp.config.adapter_file import (
    ENDS,
    AdapterFile,
    Array,
    adapter_sha256,
    open_adapter,
    parts_by_layer,
    rank_settings,
    read_adapter,
    shown_settings,
    tensors_of,
    write_adapter,
)
from cosmos_exp.config.layers import adapted_layers, layer_ranks, layer_scale, pattern_value, transformer_config
from cosmos_exp.config.schema import Adapter, Model
from cosmos_exp.errors import UserError
from cosmos_exp.files import JsonObject, file_sha256
from cosmos_exp.run_folder import ADAPTER_FILE
from cosmos_exp.statistics.low_rank import product_svd, rank_for_energy, split_evenly
from cosmos_exp.world.adapter_merging import check_base
from cosmos_exp.world.loading import stored_tensors
from cosmos_exp.world.model_folder import ModelFolder

# Entries of the record that describe the training at the full rank. They stay in truncated.from.record.
_OF_THE_SOURCE = ("adapter", "config_hash", "truncated")


def truncate_adapter(
    file: Path,
    out_dir: Path,
    rank: int | None = None,
    energy: float | None = None,
    record_extra: JsonObject | None = None,
    alpha: float | None = None,
) -> Path:
    """Write the best approximation of an adapter at a lower rank: `rank`, or the smallest that keeps enough energy.

    Args:
        file: the adapter file.
        out_dir: gets the new file, `ADAPTER_FILE`.
        rank: of every layer, at least 1 and at most the layer's own.
        energy: fraction of each layer's sum of squared singular values that is kept, in (0, 1].
        record_extra: further entries of the new file's record.
        alpha: for files that do not record it; None: the rank, as diffusers assumes.

    Returns:
        the new file.

    Raises:
        UserError: the file is no adapter, `rank` or `energy` is out of range, or `out_dir` is the file's own folder.
    """
    adapter = read_adapter(file, alpha)
    check_cut(adapter, rank, energy)
    if out_dir.resolve() == file.parent.resolve() and file.name == ADAPTER_FILE:
        raise UserError(f"--out {out_dir}: is the folder of the adapter itself. Choose another one.")
    layers, ranks, alphas = {}, {}, {}
    kept = total = 0.0
    for name, layer in adapter.layers.items():
        u, values, vt = product_svd(layer.b, layer.a)
        new = rank or rank_for_energy(values, energy or 1.0)
        ranks[name] = new
        alphas[name] = layer.scale * (new**0.5 if adapter.rslora else new)  # the same scale at the new rank
        b, a = split_evenly(u, values, vt, new)
        layers[name] = replace(layer, a=a, b=b)
        squares = np.square(layer.scale * values)
        kept += float(squares[:new].sum())
        total += float(squares.sum())
    record: JsonObject = {}
    for key, value in adapter.record.items():
        if key not in _OF_THE_SOURCE:
            record[key] = value
    record["truncated"] = {
        "from": {"sha256": file_sha256(file), "record": adapter.record},
        **({"rank": rank} if rank else {"energy": energy}),
        "kept_energy": kept / total if total > 0 else 1.0,
    }
    peft = adapter.peft | rank_settings(ranks, alphas)
    return write_adapter(out_dir, tensors_of(layers), peft, record | (record_extra or {}))


def truncate_full(folder: Path, base: ModelFolder, out_dir: Path, adapter: Adapter, record: JsonObject) -> str:
    """Write the best approximation of a full fine-tuning's update of the target modules as a LoRA.

    Args:
        folder: of the full fine-tuning.
        base: the model that it was trained on.
        out_dir: gets the file `ADAPTER_FILE`.
        adapter: rank, alpha, scaling rule and target modules of the LoRA.
        record: of the new file; `truncated.kept_energy` counts the update of all weights.

    Returns:
        the hash of the full fine-tuning's weights.

    Raises:
        UserError: it was trained on another model, or the LoRA is to be a DoRA.
    """
    source = open_adapter(folder)
    check_base(source, base)
    if adapter.kind != "lora":
        raise UserError(f"adapter.kind={adapter.kind}: a full fine-tuning is cut to a LoRA. Set adapter=lora.")
    before = dict(stored_tensors(base.path / "transformer"))
    layers = adapted_layers(transformer_config(Model(source=str(base.path))), adapter.target_modules)
    tensors: dict[str, Array] = {}
    kept = total = 0.0
    for name, trained in sorted(stored_tensors(folder), key=itemgetter(0)):
        update = (trained().float() - before[name]().float()).numpy()
        total += float(np.square(update).sum())
        layer = name.removesuffix(".weight")
        if layer in layers:
            u, values, vt = np.linalg.svd(update, full_matrices=False)
            rank = layer_ranks([layer], adapter)[layer]
            kept += float(np.square(values[:rank]).sum())
            b, a = split_evenly(u, values / layer_scale(adapter, layer), vt, rank)
            tensors |= {layer + ENDS["a"]: a, layer + ENDS["b"]: b}
    parts = parts_by_layer(folder, tensors)
    alphas = {layer: pattern_value(adapter.alpha_pattern, layer, adapter.alpha) for layer in parts}
    peft = shown_settings(parts, alphas) | {"use_rslora": adapter.scaling == "rslora"}
    digest = adapter_sha256(folder)
    record = record | {
        "truncated": {
            "from": {"sha256": digest, "record": source.record},
            "rank": adapter.rank,
            "kept_energy": kept / total if total > 0 else 1.0,
        }
    }
    write_adapter(out_dir, tensors, peft, record)
    return digest


def check_cut(adapter: AdapterFile, rank: int | None = None, energy: float | None = None) -> None:
    """Check that every layer of an adapter can be cut to a rank, and that a fraction of the energy is one.

    Raises:
        UserError: it names the layer whose rank is too low.
    """
    if energy is not None and not 0 < energy <= 1:
        raise UserError(f"--energy {energy:g}: must be greater than 0 and at most 1, e.g. 0.95")
    if rank is None:
        return
    if rank < 1:
        raise UserError(f"--rank {rank}: must be at least 1")
    for layer, highest in adapter.ranks.items():
        if rank > highest:
            raise UserError(
                f"--rank {rank}: {adapter.file} has rank {highest} at {layer}. Choose at most that, or --energy, which "
                "chooses a rank for each layer."
            )
