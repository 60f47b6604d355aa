"""Cut a trained adapter to a lower rank: the best approximation of each layer's update s B A. No torch.

Scale and scaling rule are kept: the file's alpha makes s' = s, and the singular values of B A are divided evenly between
the factors. For DoRA (W + s B A, each row with a trained magnitude) the direction is truncated and the magnitude kept.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np

from cosmos_exp.config.adapter_file import AdapterFile, Array, rank_settings, read_adapter, tensors_of, write_adapter
from cosmos_exp.errors import UserError
from cosmos_exp.files import JsonObject, file_sha256
from cosmos_exp.run_folder import ADAPTER_FILE
from cosmos_exp.statistics.low_rank import product_svd, rank_for_energy, split_evenly

# Entries of the record that describe the training at the full rank. They stay in truncated.from.record.
_OF_THE_SOURCE = ("adapter", "config_hash", "truncated")


def truncate_adapter(
    file: Path, out_dir: Path, rank: int, record_extra: JsonObject | None = None, alpha: float | None = None
) -> Path:
    """Write the best approximation of an adapter at a lower rank.

    Args:
        file: the adapter file.
        out_dir: gets the new file, `ADAPTER_FILE`.
        rank: of every layer, at least 1 and at most the layer's own.
        record_extra: further entries of the new file's record.
        alpha: for files that do not record it; None: the rank, as diffusers assumes.

    Returns:
        the new file.

    Raises:
        UserError: the file is no adapter, `rank` is above a layer's own, or `out_dir` is the file's own folder.
    """
    adapter = read_adapter(file, alpha)
    check_rank(adapter, rank)
    return _write(adapter, out_dir, lambda singular_values: rank, {"rank": rank}, record_extra)


def truncate_to_energy(
    file: Path, out_dir: Path, energy: float, record_extra: JsonObject | None = None, alpha: float | None = None
) -> Path:
    """Write the best approximation of an adapter whose layers each have the smallest rank that keeps enough energy.

    Args:
        energy: fraction of each layer's sum of squared singular values that is kept, in (0, 1].
        file, out_dir, record_extra, alpha: as in `truncate_adapter`.

    Returns:
        the new file.

    Raises:
        UserError: as `truncate_adapter`, or `energy` is out of range.
    """
    check_energy(energy)
    adapter = read_adapter(file, alpha)
    return _write(
        adapter,
        out_dir,
        lambda singular_values: rank_for_energy(singular_values, energy),
        {"energy": energy},
        record_extra,
    )


def check_rank(adapter: AdapterFile, rank: int) -> None:
    """Check that every layer of an adapter can be cut to a rank.

    Raises:
        UserError: the rank is below 1, or above that of a layer, which it names.
    """
    if rank < 1:
        raise UserError(f"--rank {rank}: must be at least 1")
    ranks = adapter.ranks
    lowest = min(ranks, key=lambda layer: ranks[layer])
    if rank > ranks[lowest]:
        raise UserError(
            f"--rank {rank}: {adapter.file} has rank {ranks[lowest]} at {lowest}. Choose at most that, or --energy, which "
            "chooses a rank for each layer."
        )


def check_energy(energy: float) -> None:
    """Check that a fraction of the energy is in (0, 1].

    Raises:
        UserError: it is not.
    """
    if not 0 < energy <= 1:
        raise UserError(f"--energy {energy:g}: must be greater than 0 and at most 1, e.g. 0.95")


def _write(
    adapter: AdapterFile,
    out_dir: Path,
    choose: Callable[[Array], int],
    how: JsonObject,
    record_extra: JsonObject | None,
) -> Path:
    """Truncate all layers to the ranks that `choose` returns for their singular values, and write the file."""
    if out_dir.resolve() == adapter.file.parent.resolve() and adapter.file.name == ADAPTER_FILE:
        raise UserError(f"--out {out_dir}: is the folder of the adapter itself. Choose another one.")
    layers, ranks, alphas = {}, {}, {}
    kept = total = 0.0
    for name, layer in adapter.layers.items():
        u, values, vt = product_svd(layer.b, layer.a)
        ranks[name] = rank = choose(values)
        alphas[name] = layer.scale * (rank**0.5 if adapter.rslora else rank)  # the same scale at the new rank
        b, a = split_evenly(u, values, vt, rank)
        layers[name] = replace(layer, a=a, b=b)
        squares = np.square(layer.scale * values)
        kept += float(squares[:rank].sum())
        total += float(squares.sum())
    record = dict(adapter.record)
    for key in _OF_THE_SOURCE:
        record.pop(key, None)
    source = {"sha256": file_sha256(adapter.file), "record": adapter.record}
    record["truncated"] = {"from": source, **how, "kept_energy": kept / total if total > 0 else 1.0}
    peft = adapter.peft | rank_settings(ranks, alphas)
    return write_adapter(out_dir, tensors_of(layers), peft, record | (record_extra or {}))
