"""Random numbers of a run: one independent stream per (seed, purpose, number), identical on every machine.

A draw does not depend on the process, the device or the order of calls. numpy's RandomState is used because its streams
are frozen by numpy's compatibility policy.
"""

from __future__ import annotations

import numpy as np

# A purpose's position is part of its stream: append new ones at the end.
PURPOSES = (
    "split",
    "windows",
    "order",
    "window",
    "noise",
    "sigma",
    "condition",
    "text",
    "adapter",
    "validation",
    "selection",
    "dropout",
    "chunk",
)


def generator(seed: int, purpose: str, number: int = 0) -> np.random.RandomState:
    """The stream of one purpose and number.

    Args:
        purpose: one of `PURPOSES`.
        number: of the sample, the epoch, the clip or the chunk that the draw is for.
    """
    return np.random.RandomState(np.random.MT19937(np.random.SeedSequence((seed, PURPOSES.index(purpose), number))))


def noise(seed: int, number: int, shape: tuple[int, ...], purpose: str = "noise") -> np.ndarray:
    """Standard normal noise of one sample, fp32, of the given shape."""
    return generator(seed, purpose, number).standard_normal(shape).astype(np.float32)


def epoch_order(seed: int, epoch: int, size: int) -> np.ndarray:
    """The order in which an epoch visits `size` videos: a permutation (size,)."""
    return generator(seed, "order", epoch).permutation(size)
