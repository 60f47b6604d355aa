"""What is random about a training sample. Every draw follows from the seed and the sample's number alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cosmos_exp.config.schema import Training
from cosmos_exp.rng import generator


@dataclass(frozen=True)
class SampleDraws:
    """The random choices for one training sample.

    number: the sample's. window: in [0, 1), selects a window of the clip. sigma: noise level in (0, 1).
    condition_frames: number of conditioning latent frames. drop_text: train on the zero embedding.
    """

    number: int
    window: float
    sigma: float
    condition_frames: int
    drop_text: bool


def sample_draws(seed: int, number: int, training: Training) -> SampleDraws:
    """Draws of sample `number`: sigma = s u / (1 + (s - 1) u), u = sigmoid(N(0, 1)), s = sigma_shift."""
    u = 1.0 / (1.0 + np.exp(-generator(seed, "sigma", number).standard_normal()))
    shift = training.sigma_shift
    counts = sorted(training.condition_frames)
    bounds = np.cumsum([training.condition_frames[c] for c in counts])
    pick = int(np.searchsorted(bounds, generator(seed, "condition", number).uniform() * bounds[-1], side="right"))
    return SampleDraws(
        number,
        window=float(generator(seed, "window", number).uniform()),
        sigma=float(shift * u / (1 + (shift - 1) * u)),
        condition_frames=int(counts[min(pick, len(counts) - 1)]),
        drop_text=bool(generator(seed, "text", number).uniform() < training.text_dropout),
    )
