"""What an adapter file holds: kind, ranks, scale, training record, and the spectrum of its update. No torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cosmos_exp.config.adapter_file import AdapterFile, Array, read_adapter, tensors_of
from cosmos_exp.config.layers import by_type, trainable_parameters
from cosmos_exp.files import JsonObject, file_sha256
from cosmos_exp.statistics.low_rank import effective_rank, rank_for_energy, singular_values

MOST = (0.9, 0.95, 0.99)  # energies for which the smallest rank is given


def describe_adapter(file: Path) -> JsonObject:
    """Everything that `cosmos-exp adapter info` shows, as JSON.

    Energy is the sum of squared singular values of s B A, which is its squared Frobenius norm.

    Raises:
        UserError: the file is no adapter in diffusers' format.
    """
    adapter = read_adapter(file)
    spectra = layer_spectra(file)
    highest = max(adapter.ranks.values())
    return {
        "file": str(file),
        "bytes": file.stat().st_size,
        "sha256": file_sha256(file),
        "kind": adapter.kind,
        "scaling": "rslora" if adapter.rslora else "standard",
        "alpha_recorded": adapter.alpha_recorded,
        "bias": bool(adapter.biased),
        "types": list(adapter.types),
        "parameters": sum(values.size for values in tensors_of(adapter.layers).values()),
        "layers": len(adapter.layers),
        "ranks": sorted(set(adapter.ranks.values())),
        "alphas": sorted({layer.alpha for layer in adapter.layers.values()}),
        "scales": sorted({float(f"{s:.9g}") for s in adapter.scales.values()}),
        "record": adapter.record,
        "spectrum": {
            "all layers": _summary(list(spectra.values()), highest),
            **{t: _summary([spectra[n] for n in names], highest) for t, names in by_type(spectra).items()},
        },
        "by_layer": {n: _layer(adapter, n, values) for n, values in spectra.items()},
    }


def shown_ranks(highest: int) -> list[int]:
    """1, 2, 4, 8 … and the highest rank itself."""
    return [*(2**i for i in range(highest.bit_length()) if 2**i < highest), highest]


def _layer(adapter: AdapterFile, name: str, values: Array) -> JsonObject:
    layer, size = adapter.layers[name], {name: adapter.sizes[name]}
    return {
        "rank": layer.rank,
        "scale": layer.scale,
        "parameters": trainable_parameters(size, adapter.kind, layer.rank, layer.bias is not None),
        "singular_values": [float(v) for v in values],
        "effective_rank": effective_rank(values),
    }


def _summary(spectra: list[Array], highest: int) -> JsonObject:
    """Of several layers: the norm of their updates, the energy that each rank keeps, and the ranks that are needed.

    Args:
        spectra: singular values of each layer.
        highest: the highest rank of the adapter.
    """
    squares = [np.square(s) for s in spectra]
    total = float(sum(s.sum() for s in squares))
    kept = {k: float(sum(s[:k].sum() for s in squares)) for k in shown_ranks(highest)}
    return {
        "layers": len(spectra),
        "norm": float(np.sqrt(total)),
        "largest_singular_value": float(max(s[0] for s in spectra)),
        "energy_at_rank": {str(k): (v / total if total > 0 else 1.0) for k, v in kept.items()},
        "effective_rank": float(np.mean([effective_rank(s) for s in spectra])),
        "rank_for_energy": {
            f"{e:g}": [min(found), max(found)] for e in MOST for found in [[rank_for_energy(s, e) for s in spectra]]
        },
    }


def layer_spectra(file: Path) -> dict[str, Array]:
    """Singular values of s B A of every adapted layer, in descending order, at the scale s that the file records.

    B A (out, in) is never formed. For DoRA this is the update of the direction before normalization; the magnitudes are
    not included.

    Returns:
        By layer: (k,), k = min(rank, in, out).
    """
    spectra = {}
    for name, layer in read_adapter(file).layers.items():
        spectra[name] = layer.scale * singular_values(layer.b, layer.a)
    return spectra


def update_spectra(file: Path) -> dict[str, Array]:
    """Singular values of s B A of every adapted layer, by kind of layer.

    Returns:
        By kind of layer (`attn1.to_q`): (layers, highest rank), in descending order. Above a layer's own rank they are 0.
    """
    found = layer_spectra(file)
    return {kind: stacked([found[n] for n in names]) for kind, names in by_type(found).items()}


def stacked(rows: list[Array]) -> Array:
    """Rows of different length as one array, filled with zeros: the update has no further singular values."""
    width = max(len(r) for r in rows)
    return np.stack([np.pad(r, (0, width - len(r))) for r in rows])
