"""Singular values and the best low-rank approximation of a product B A that is never formed. numpy alone.

With the QR decompositions B = Q_b R_b and A^T = Q_a R_a the product is Q_b (R_b R_a^T) Q_a^T. Its singular value
decomposition follows from that of the small core R_b R_a^T. By Eckart and Young (1936) the k largest singular values
with their vectors give the approximation of rank k that is closest in the Frobenius norm.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating[Any]]  # Any: of any precision


def product_svd(b: Array, a: Array) -> tuple[Array, Array, Array]:
    """The singular value decomposition of B A, in float64.

    Args:
        b: (out, r).
        a: (r, in).

    Returns:
        U (out, k), the k = min(out, r, in) largest singular values in descending order, and V^T (k, in).
        Each column of U has a positive entry of largest size, so that the decomposition does not depend on LAPACK's signs.
    """
    q_b, r_b = np.linalg.qr(b.astype(np.float64))
    q_a, r_a = np.linalg.qr(a.T.astype(np.float64))
    u, values, vt = np.linalg.svd(r_b @ r_a.T, full_matrices=False)
    u, vt = q_b @ u, vt @ q_a.T
    signs = np.where(np.take_along_axis(u, np.abs(u).argmax(axis=0)[None], axis=0)[0] < 0, -1.0, 1.0)
    return u * signs, values, vt * signs[:, None]


def singular_values(b: Array, a: Array) -> Array:
    """The singular values of B A in descending order, float64; shapes as in `product_svd`."""
    r_b, r_a = (np.asarray(np.linalg.qr(x.astype(np.float64), mode="r")) for x in (b, a.T))
    return np.asarray(np.linalg.svd(r_b @ r_a.T, compute_uv=False))


def split_evenly(u: Array, values: Array, vt: Array, rank: int) -> tuple[Array, Array]:
    """Factors B (out, rank) and A (rank, in) of the best approximation: U sqrt(S) and sqrt(S) V^T.

    A rank above the number of singular values is filled with zeros.
    """
    kept = min(rank, len(values))
    root = np.sqrt(values[:kept])
    missing = rank - kept
    return (
        np.pad(u[:, :kept] * root, ((0, 0), (0, missing))),
        np.pad(root[:, None] * vt[:kept], ((0, missing), (0, 0))),
    )


def kept_energy(values: Array, rank: int) -> float:
    """Fraction of the sum of squared singular values in the `rank` largest, 0 to 1; 1 if all are 0."""
    squares = np.square(values)
    total = float(squares.sum())
    if total <= 0:
        return 1.0
    return float(squares[:rank].sum()) / total


def rank_for_energy(values: Array, fraction: float) -> int:
    """The smallest rank, at least 1, whose `kept_energy` is at least `fraction`."""
    return next((k for k in range(1, len(values)) if kept_energy(values, k) >= fraction), len(values))


def effective_rank(values: Array) -> float:
    """The effective rank (Roy and Vetterli 2007): exp of the entropy of the singular values divided by their sum; 0 if all are 0."""
    total = values.sum()
    if total <= 0:
        return 0.0
    parts = values[values > 0] / total
    return float(np.exp(-(parts * np.log(parts)).sum()))
