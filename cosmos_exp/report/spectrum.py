"""Singular values of an adapter's update by layer kind, from the file alone and without torch."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file


def update_spectra(file: Path, scale: float) -> dict[str, np.ndarray]:
    """{layer kind: (layers, rank) singular values of scale x B A, descending}.

    B A (out, in) is never formed: with B = Q_b R_b and A^T = Q_a R_a it has the singular values of R_b R_a^T. For DoRA
    this is the direction's update before its norm; the magnitudes are not in it.
    """
    weights = load_file(file)
    out: dict[str, list[np.ndarray]] = defaultdict(list)
    for name, a in sorted(weights.items()):
        if not name.endswith(".lora_A.weight"):
            continue
        b = weights[name.replace(".lora_A.", ".lora_B.")]
        inner = _r(b) @ _r(a.T).T
        values = np.linalg.svd(inner, compute_uv=False) * scale
        out[_kind(name)].append(values)
    return {kind: np.stack(rows) for kind, rows in sorted(out.items())}


def _r(matrix: np.ndarray) -> np.ndarray:
    return np.asarray(np.linalg.qr(matrix.astype(np.float64), mode="r"))


def _kind(name: str) -> str:
    """`attn1.to_q` from transformer.transformer_blocks.3.attn1.to_q.lora_A.weight."""
    parts = name.removesuffix(".lora_A.weight").split(".")
    digits = [i for i, p in enumerate(parts) if p.isdigit()]
    return ".".join(parts[digits[0] + 1 :]) if digits else ".".join(parts)


def effective_rank(values: np.ndarray) -> float:
    """exp of the entropy of the singular values as shares (Roy and Vetterli 2007); from 1 to their number, 0 for zeros."""
    total = values.sum()
    if total <= 0:
        return 0.0
    shares = values[values > 0] / total
    return float(np.exp(-(shares * np.log(shares)).sum()))
