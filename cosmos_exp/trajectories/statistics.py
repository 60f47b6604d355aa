"""Statistics of the features of a LeRobot set: smallest, largest, mean, standard deviation, count and quantiles.

The library computes them from samples of the frames and merges episodes approximately. Here all pixels of all frames count:
8-bit pictures are counted by value, so that the whole set's quantiles are exact.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
LEVELS = 256
Statistics = dict[str, list[object]]  # of one feature


def count_levels(frames: np.ndarray) -> np.ndarray:
    """How often each level occurs in each channel: int64 (3, 256).

    Args:
        frames: uint8 (T, H, W, 3).
    """
    return np.stack([np.bincount(frames[..., c].ravel(), minlength=LEVELS) for c in range(3)])


def picture_statistics(levels: np.ndarray, frames: int) -> Statistics:
    """The statistics of pictures in [0, 1]; each value has the shape (3, 1, 1).

    Args:
        levels: sum of `count_levels`.
        frames: number of pictures.
    """
    values = np.arange(LEVELS) / (LEVELS - 1)
    total = levels.sum(axis=1)
    mean = (levels * values).sum(axis=1) / total
    spread = np.sqrt(np.maximum((levels * values**2).sum(axis=1) / total - mean**2, 0))
    below = np.cumsum(levels, axis=1)

    def quantile(q: float) -> np.ndarray:
        return values[[int(np.searchsorted(below[c], q * total[c])) for c in range(len(levels))]]

    found = {"min": quantile(0.5 / total.max()), "max": quantile(1), "mean": mean, "std": spread}
    found |= {name: quantile(q) for name, q in QUANTILES.items()}
    return {name: value.reshape(3, 1, 1).tolist() for name, value in found.items()} | {"count": [frames]}


def vector_statistics(rows: Sequence[np.ndarray]) -> Statistics:
    """The statistics of a feature of numbers; each value has one entry per number.

    Args:
        rows: (T,) or (T, A) each.
    """
    values = np.concatenate([np.asarray(r, dtype=np.float64).reshape(len(r), -1) for r in rows])
    found = {
        "min": values.min(axis=0),
        "max": values.max(axis=0),
        "mean": values.mean(axis=0),
        "std": values.std(axis=0),
    }
    found |= {name: np.quantile(values, q, axis=0) for name, q in QUANTILES.items()}
    return {name: value.tolist() for name, value in found.items()} | {"count": [len(values)]}
