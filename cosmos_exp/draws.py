"""Every random choice of a run: a stream of its own for each (seed, purpose, number), the same on every machine.

numpy's RandomState is frozen by numpy's compatibility policy; which process, device or step asks has no influence.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

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
)


def generator(seed: int, purpose: str, number: int = 0) -> np.random.RandomState:
    """The stream for one purpose and number (a sample's, an epoch's)."""
    return np.random.RandomState(np.random.MT19937(np.random.SeedSequence((seed, PURPOSES.index(purpose), number))))


@dataclass(frozen=True)
class SampleDraws:
    """What chance decides for one training sample.

    window: in [0, 1), which window; sigma: in (0, 1); condition_frames: latent frames given; drop_text: see recipe.
    """

    number: int
    window: float
    sigma: float
    condition_frames: int
    drop_text: bool


def sample_draws(seed: int, number: int, training: Any) -> SampleDraws:
    """Draws of sample `number`: sigma = s u / (1 + (s - 1) u) with u = sigmoid(N(0, 1)) (facts.md section 2)."""
    u = 1.0 / (1.0 + np.exp(-generator(seed, "sigma", number).standard_normal()))
    shift = training.sigma_shift
    counts = sorted(training.condition_frames)
    bounds = np.cumsum([training.condition_frames[c] for c in counts])
    pick = int(np.searchsorted(bounds, generator(seed, "condition", number).uniform() * bounds[-1], side="right"))
    return SampleDraws(
        number, float(generator(seed, "window", number).uniform()), float(shift * u / (1 + (shift - 1) * u)),
        int(counts[min(pick, len(counts) - 1)]), bool(generator(seed, "text", number).uniform() < training.text_dropout),
    )  # fmt: skip


def noise(seed: int, number: int, shape: tuple[int, ...], purpose: str = "noise") -> np.ndarray:
    """Standard normal float32 noise of one sample."""
    return generator(seed, purpose, number).standard_normal(shape).astype(np.float32)


def epoch_order(seed: int, epoch: int, size: int) -> np.ndarray:
    """The order in which an epoch visits `size` videos."""
    return generator(seed, "order", epoch).permutation(size)
