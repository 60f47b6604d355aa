"""Singular values of an adapter's update by kind of layer, from the adapter file and without torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cosmos_exp.config.adapter_file import Array, read_adapter
from cosmos_exp.config.layers import by_type
from cosmos_exp.statistics.low_rank import effective_rank, singular_values

__all__ = ["effective_rank", "layer_spectra", "update_spectra"]


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
