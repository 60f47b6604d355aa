"""The learning rate over samples, and the decay of the averaged adapter. No torch."""

from __future__ import annotations

import numpy as np

from cosmos_exp.config.schema import Training
from cosmos_exp.training.sample_order import SampleOrder


def lr_at(samples: int, training: Training) -> float:
    """The learning rate of an optimizer step before which `samples` samples were seen.

    Linear from 0 to f_max over `warmup_samples`, then linear to f_min at `total_samples`, times `learning_rate`. The
    reference steps its scheduler once per process and micro-step, so in effect it counts samples too.
    """
    s = training.schedule
    if samples < s.warmup_samples:
        factor = s.f_max * samples / s.warmup_samples
    else:
        left = max(0.0, (s.total_samples - samples) / (s.total_samples - s.warmup_samples))
        factor = s.f_min + (s.f_max - s.f_min) * left
    return training.learning_rate * factor


def all_lrs(order: SampleOrder, training: Training) -> list[float]:
    """The learning rate of every optimizer step."""
    return [lr_at(order.samples_before(step), training) for step in range(order.num_steps)]


def power_ema_exponent(power: float) -> float:
    """gamma of the power EMA of relative width `power` (Karras et al. 2024, arXiv:2312.02696, eq. 126)."""
    return float(np.roots([1, 7, 16 - power**-2, 12 - power**-2]).real.max())


def power_ema_beta(power: float, step: int) -> float:
    """Decay of the power EMA at optimizer step `step` (from 0): beta = (1 - 1/t)^(gamma + 1) with t = step + 1."""
    return float((1 - 1 / (step + 1)) ** (power_ema_exponent(power) + 1))
