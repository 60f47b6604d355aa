"""What an adapter file holds: kind, ranks, scale, training record, and the spectrum of its update. No torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cosmos_exp.config.adapter_file import Array, adapter_sha256, open_adapter, tensors_of
from cosmos_exp.config.layers import by_type
from cosmos_exp.files import JsonObject
from cosmos_exp.statistics.low_rank import effective_rank, rank_for_energy, singular_values

ENERGY = 0.95  # for which the smallest rank is given


def describe_adapter(file: Path) -> JsonObject:
    """Everything that `cosmos-exp adapter info` shows, as JSON; without layers and spectrum for other kinds than LoRA and DoRA.

    Energy is the sum of squared singular values of s B A, which is its squared Frobenius norm.

    Raises:
        UserError: the file is no adapter in diffusers' format.
    """
    adapter = open_adapter(file)
    described = {"file": str(file), "sha256": adapter_sha256(file), "kind": adapter.kind, "record": adapter.record}
    if not adapter.layers:
        return described
    # Without forming B A. For DoRA this is the update of the direction before normalization, without the magnitudes.
    spectra = {name: layer.scale * singular_values(layer.b, layer.a) for name, layer in adapter.layers.items()}
    highest = max(adapter.ranks.values())
    spectrum = {"all layers": _summary(list(spectra.values()), highest)}
    by_layer = {}
    for kind, names in by_type(spectra).items():
        spectrum[kind] = _summary([spectra[name] for name in names], highest)
    for name, layer in adapter.layers.items():
        values = spectra[name].astype(float).tolist()
        by_layer[name] = {"rank": layer.rank, "scale": layer.scale, "singular_values": values}
    return described | {
        "bytes": file.stat().st_size,
        "scaling": ("standard", "rslora")[adapter.rslora],
        "alpha_recorded": adapter.alpha_recorded,
        "bias": bool(adapter.biased),
        "types": list(adapter.types),
        "parameters": sum(values.size for values in tensors_of(adapter.layers).values()),
        "layers": len(adapter.layers),
        "ranks": sorted(set(adapter.ranks.values())),
        "alphas": sorted({layer.alpha for layer in adapter.layers.values()}),
        "scales": sorted({float(f"{scale:.9g}") for scale in adapter.scales.values()}),
        "spectrum": spectrum,
        "by_layer": by_layer,
    }


def _summary(spectra: list[Array], highest: int) -> JsonObject:
    """Of several layers: the norm of their updates, the energy that the ranks 1, 2, 4 … keep, and the ranks that are needed.

    Args:
        spectra: singular values of each layer.
        highest: the highest rank of the adapter.
    """
    squares = np.zeros(highest)  # summed over layers
    needed, effective, kept = [], [], {}
    for values in spectra:
        squares[: len(values)] += np.square(values)
        needed.append(rank_for_energy(values, ENERGY))
        effective.append(effective_rank(values))
    total = float(squares.sum())
    for doublings in range((highest - 1).bit_length() + 1):
        at = min(2**doublings, highest)
        kept[str(at)] = float(squares[:at].sum()) / total if total > 0 else 1.0
    return {
        "layers": len(spectra),
        "norm": float(np.sqrt(total)),
        "energy_at_rank": kept,
        "effective_rank": float(np.mean(effective)),
        "rank_for_energy": [min(needed), max(needed)],
    }
