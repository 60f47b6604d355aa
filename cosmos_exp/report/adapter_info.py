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
    spectrum = {"all layers": _summary(list(spectra.values()), highest)}
    by_layer, parameters, alphas, scales = {}, 0, set(), set()
    for kind, names in by_type(spectra).items():
        spectrum[kind] = _summary([spectra[name] for name in names], highest)
    for name, layer in adapter.layers.items():
        by_layer[name] = _layer(adapter, name, spectra[name])
        alphas.add(layer.alpha)
        scales.add(float(f"{layer.scale:.9g}"))
    for values in tensors_of(adapter.layers).values():
        parameters += values.size
    return {
        "file": str(file),
        "bytes": file.stat().st_size,
        "sha256": file_sha256(file),
        "kind": adapter.kind,
        "scaling": "rslora" if adapter.rslora else "standard",
        "alpha_recorded": adapter.alpha_recorded,
        "bias": bool(adapter.biased),
        "types": list(adapter.types),
        "parameters": parameters,
        "layers": len(adapter.layers),
        "ranks": sorted(set(adapter.ranks.values())),
        "alphas": sorted(alphas),
        "scales": sorted(scales),
        "record": adapter.record,
        "spectrum": spectrum,
        "by_layer": by_layer,
    }


def shown_ranks(highest: int) -> list[int]:
    """1, 2, 4, 8 … and the highest rank itself."""
    ranks, rank = [], 1
    while rank < highest:
        ranks.append(rank)
        rank *= 2
    return [*ranks, highest]


def _layer(adapter: AdapterFile, name: str, values: Array) -> JsonObject:
    layer, size = adapter.layers[name], {name: adapter.sizes[name]}
    return {
        "rank": layer.rank,
        "scale": layer.scale,
        "parameters": trainable_parameters(size, adapter.kind, layer.rank, layer.bias is not None),
        "singular_values": values.astype(float).tolist(),
        "effective_rank": effective_rank(values),
    }


def _summary(spectra: list[Array], highest: int) -> JsonObject:
    """Of several layers: the norm of their updates, the energy that each rank keeps, and the ranks that are needed.

    Args:
        spectra: singular values of each layer.
        highest: the highest rank of the adapter.
    """
    squares = np.square(stacked(spectra))  # (layers, values); above a layer's own rank they are 0
    total = float(squares.sum())
    kept, needed = {}, {}
    for rank in shown_ranks(highest):
        kept[str(rank)] = float(squares[:, :rank].sum()) / total if total > 0 else 1.0
    for energy in MOST:
        ranks = [rank_for_energy(values, energy) for values in spectra]
        needed[f"{energy:g}"] = [min(ranks), max(ranks)]
    return {
        "layers": len(spectra),
        "norm": float(np.sqrt(total)),
        "largest_singular_value": float(stacked(spectra).max()),
        "energy_at_rank": kept,
        "effective_rank": float(np.mean([effective_rank(values) for values in spectra])),
        "rank_for_energy": needed,
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
    layers, kinds = layer_spectra(file), {}
    for kind, names in by_type(layers).items():
        kinds[kind] = stacked([layers[name] for name in names])
    return kinds


def stacked(rows: list[Array]) -> Array:
    """Rows of different length as one array, filled with zeros: the update has no further singular values."""
    width = max(map(len, rows))
    return np.stack([np.pad(row, (0, width - len(row))) for row in rows])
