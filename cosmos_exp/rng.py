"""Every random choice of a run: a stream of its own for each (seed, purpose, number), the same on every machine.

numpy's RandomState is frozen by numpy's compatibility policy; which process, device or step asks has no influence."""

from __future__ import annotations

import numpy as np

PURPOSES = ("split", "windows", "order", "window", "noise", "sigma", "condition", "text", "adapter", "validation")


def generator(seed: int, purpose: str, number: int = 0) -> np.random.RandomState:
    """The stream for one purpose and number (a sample's, an epoch's)."""
    return np.random.RandomState(np.random.MT19937(np.random.SeedSequence((seed, PURPOSES.index(purpose), number))))


def noise(seed: int, number: int, shape: tuple[int, ...], purpose: str = "noise") -> np.ndarray:
    """Standard normal float32 noise of one sample."""
    return generator(seed, purpose, number).standard_normal(shape).astype(np.float32)


def epoch_order(seed: int, epoch: int, size: int) -> np.ndarray:
    """The order in which an epoch visits `size` videos."""
    return generator(seed, "order", epoch).permutation(size)
