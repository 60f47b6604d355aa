"""What an adapter file holds: kind, ranks, scale, training record, and the spectrum of its update. No torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cosmos_exp.config.adapter_checks import check_adapter
from cosmos_exp.config.adapter_header import AdapterHeader, Array, by_type
from cosmos_exp.config.layers import trainable_parameters
from cosmos_exp.files import JsonObject, file_sha256
from cosmos_exp.report.spectrum import layer_spectra
from cosmos_exp.statistics.low_rank import effective_rank, rank_for_energy

MOST = (0.9, 0.95, 0.99)  # energies for which the smallest rank is given


def describe_adapter(file: Path) -> JsonObject:
    """Everything that `cosmos-exp adapter info` shows, as JSON.

    Energy is the sum of squared singular values of s B A, which is its squared Frobenius norm.

    Raises:
        UserError: the file is no adapter in diffusers' format.
    """
    header = check_adapter(file)
    spectra = layer_spectra(file)
    highest = max(header.ranks.values())
    return {
        "file": str(file),
        "bytes": file.stat().st_size,
        "sha256": file_sha256(file),
        "kind": header.kind,
        "scaling": "rslora" if header.rslora else "standard",
        "alpha_recorded": header.peft is not None,
        "bias": any(k.endswith(".lora_B.bias") for k in header.shapes),
        "types": sorted(set(header.dtypes.values())),
        "parameters": sum(int(np.prod(s)) for s in header.shapes.values()),
        "layers": len(header.ranks),
        "ranks": sorted(set(header.ranks.values())),
        "alphas": sorted(set(header.alphas.values())),
        "scales": sorted({float(f"{s:.9g}") for s in header.scales.values()}),
        "record": header.record,
        "spectrum": {
            "all layers": _summary(list(spectra.values()), highest),
            **{t: _summary([spectra[n] for n in names], highest) for t, names in by_type(spectra).items()},
        },
        "by_layer": {n: _layer(header, n, values) for n, values in spectra.items()},
    }


def shown_ranks(highest: int) -> list[int]:
    """1, 2, 4, 8 … and the highest rank itself."""
    return [*(2**i for i in range(highest.bit_length()) if 2**i < highest), highest]


def _layer(header: AdapterHeader, layer: str, values: Array) -> JsonObject:
    size = {layer: header.layers[layer]}
    return {
        "rank": header.ranks[layer],
        "scale": header.scales[layer],
        "parameters": trainable_parameters(
            size, header.kind, header.ranks[layer], f"{layer}.lora_B.bias" in header.shapes
        ),
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
