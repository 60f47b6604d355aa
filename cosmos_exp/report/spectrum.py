"""Singular values of an adapter's update by kind of layer, from the adapter file and without torch."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file

Array = NDArray[np.floating]


def update_spectra(file: Path, scale: float) -> dict[str, Array]:
    """Singular values of scale x B A of every adapted layer.

    B A (out, in) is never formed: with B = Q_b R_b and A^T = Q_a R_a it has the singular values of R_b R_a^T. For DoRA
    this is the update of the direction before normalization; the magnitudes are not included.

    Args:
        file: The adapter file.
        scale: The factor of B A, see `update_scale`.

    Returns:
        By kind of layer (`attn1.to_q`): (layers, rank), in descending order.
    """
    weights = load_file(file)
    out: dict[str, list[Array]] = defaultdict(list)
    for name, a in sorted(weights.items()):
        if not name.endswith(".lora_A.weight"):
            continue
        b = weights[name.replace(".lora_A.", ".lora_B.")]
        inner = _r(b) @ _r(a.T).T
        values = np.linalg.svd(inner, compute_uv=False) * scale
        out[_kind(name)].append(values)
    return {kind: np.stack(rows) for kind, rows in sorted(out.items())}


def _r(matrix: Array) -> Array:
    """R of the QR decomposition, in float64."""
    return np.asarray(np.linalg.qr(matrix.astype(np.float64), mode="r"))


def _kind(name: str) -> str:
    """`attn1.to_q` for transformer.transformer_blocks.3.attn1.to_q.lora_A.weight."""
    parts = name.removesuffix(".lora_A.weight").split(".")
    digits = [i for i, p in enumerate(parts) if p.isdigit()]
    return ".".join(parts[digits[0] + 1 :]) if digits else ".".join(parts)


def effective_rank(values: Array) -> float:
    """The effective rank (Roy and Vetterli 2007): exp of the entropy of the singular values divided by their sum; 0 if all are 0."""
    total = values.sum()
    if total <= 0:
        return 0.0
    parts = values[values > 0] / total
    return float(np.exp(-(parts * np.log(parts)).sum()))
