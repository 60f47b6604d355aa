"""Every random choice of a run: a stream of its own for each (seed, purpose, number), the same on every machine.

numpy's RandomState is frozen by numpy's compatibility policy; which process, device or step asks has no influence."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from cosmos_exp.rng import generator


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
        number,
        float(generator(seed, "window", number).uniform()),
        float(shift * u / (1 + (shift - 1) * u)),
        int(counts[min(pick, len(counts) - 1)]),
        bool(generator(seed, "text", number).uniform() < training.text_dropout),
    )
