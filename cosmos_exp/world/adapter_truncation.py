"""Cut a trained adapter to a lower rank: the best approximation of each layer's update s B A. No torch.

Scale and scaling rule are kept: the file's alpha makes s' = s, and the singular values of B A are divided evenly between
the factors. For DoRA (W + s B A, each row with a trained magnitude) the direction is truncated and the magnitude kept.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping
from pathlib import Path
from typing import TypeVar

import numpy as np

from cosmos_exp.config.adapter_checks import check_adapter
from cosmos_exp.config.adapter_header import A_SUFFIX, B_SUFFIX, AdapterHeader, Array, read_tensors
from cosmos_exp.errors import UserError
from cosmos_exp.files import JsonObject, file_sha256
from cosmos_exp.run_folder import ADAPTER_FILE
from cosmos_exp.statistics.low_rank import product_svd, rank_for_energy, split_evenly
from cosmos_exp.world.adapter_writing import write_adapter

Value = TypeVar("Value", bound=Hashable)

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
    header = check_adapter(file, alpha=alpha)
    check_rank(header, rank)
    return _write(header, out_dir, lambda layer, values: rank, {"rank": rank}, record_extra)


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
    header = check_adapter(file, alpha=alpha)
    return _write(
        header, out_dir, lambda layer, values: rank_for_energy(values, energy), {"energy": energy}, record_extra
    )


def check_rank(header: AdapterHeader, rank: int) -> None:
    """Check that every layer of an adapter can be cut to a rank.

    Raises:
        UserError: the rank is below 1, or above that of a layer, which it names.
    """
    if rank < 1:
        raise UserError(f"--rank {rank}: must be at least 1")
    ranks = header.ranks
    low = min(ranks, key=lambda n: ranks[n])
    if rank <= ranks[low]:
        return
    if len(set(ranks.values())) == 1:
        raise UserError(f"--rank {rank}: {header.file} has rank {ranks[low]}. Choose at most that.")
    few = sorted(n for n in ranks if ranks[n] < rank)
    raise UserError(
        f"--rank {rank}: above the own rank of {len(few)} layers of {header.file}, e.g. {low} with {ranks[low]}. "
        "Choose at most the lowest rank, or --energy, which chooses a rank for each layer."
    )


def check_energy(energy: float) -> None:
    """Check that a fraction of the energy is in (0, 1].

    Raises:
        UserError: it is not.
    """
    if not 0 < energy <= 1:
        raise UserError(f"--energy {energy:g}: must be greater than 0 and at most 1, e.g. 0.95")


def _write(
    header: AdapterHeader,
    out_dir: Path,
    choose: Callable[[str, Array], int],
    how: JsonObject,
    record_extra: JsonObject | None,
) -> Path:
    """Truncate all layers to the ranks that `choose(layer, singular values)` returns, and write the file."""
    if out_dir.resolve() == header.file.parent.resolve() and header.file.name == ADAPTER_FILE:
        raise UserError(f"--out {out_dir}: is the folder of the adapter itself. Choose another one.")
    tensors, scales = read_tensors(header.file), header.scales
    ranks: dict[str, int] = {}
    kept = total = 0.0
    for layer, scale in scales.items():
        u, values, vt = product_svd(tensors[layer + B_SUFFIX], tensors[layer + A_SUFFIX])
        ranks[layer] = rank = choose(layer, values)
        tensors[layer + B_SUFFIX], tensors[layer + A_SUFFIX] = split_evenly(u, values, vt, rank)
        squares = np.square(scale * values)
        kept, total = kept + float(squares[:rank].sum()), total + float(squares.sum())
    source = {"sha256": file_sha256(header.file), "record": header.record}
    record = {k: v for k, v in header.record.items() if k not in _OF_THE_SOURCE}
    record["truncated"] = {"from": source, **how, "kept_energy": kept / total if total > 0 else 1.0}
    return write_adapter(out_dir, tensors, _peft(header, ranks), {**record, **(record_extra or {})})


def _peft(header: AdapterHeader, ranks: dict[str, int]) -> JsonObject:
    """peft's configuration at the new ranks, with the alphas that keep each layer's scale."""
    peft = dict(header.peft) if header.peft is not None else _minimal_peft(header)
    alphas = {n: _number(s * (ranks[n] ** 0.5 if header.rslora else ranks[n])) for n, s in header.scales.items()}
    peft["r"], peft["rank_pattern"] = _usual(ranks)
    peft["lora_alpha"], peft["alpha_pattern"] = _usual(alphas)
    return peft


def _minimal_peft(header: AdapterHeader) -> JsonObject:
    """For a file without metadata: what its tensors show."""
    return {
        "peft_type": "LORA",
        "target_modules": sorted(header.ranks),
        "use_dora": header.kind == "dora",
        "lora_bias": any(k.endswith(".lora_B.bias") for k in header.shapes),
    }


def _usual(values: Mapping[str, Value]) -> tuple[Value, dict[str, Value]]:
    """The most frequent value, and a pattern for the layers that differ: `^` and the layer's whole name."""
    usual = _most_frequent(values.values())
    return usual, {f"^{n}": v for n, v in values.items() if v != usual}


def _most_frequent(values: Iterable[Value]) -> Value:
    counts = Counter(values)
    return max(counts, key=lambda v: (counts[v], -float(v)))  # type: ignore[arg-type]  # values are numbers


def _number(alpha: float) -> float:
    """Without the rounding of a product: 15.999999999999998 is 16; an integer where it is one."""
    rounded = float(f"{alpha:.12g}")
    return int(rounded) if rounded.is_integer() else rounded
