"""Counting: samples, steps, epochs, and the learning rate over samples. No torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from cosmos_exp.rng import epoch_order


def learning_rate(samples: int, training: Any) -> float:
    """The rate of an optimizer step before which `samples` samples were seen: linear up to f_max, linear to f_min.

    The reference's scheduler is stepped once a process and micro-step, so it counts samples; here that is said.
    """
    s = training.schedule
    if samples < s.warmup_samples:
        factor = s.f_max * samples / s.warmup_samples
    else:
        left = max(0.0, (s.total_samples - samples) / (s.total_samples - s.warmup_samples))
        factor = s.f_min + (s.f_max - s.f_min) * left
    return training.learning_rate * factor


@dataclass(frozen=True)
class StepPlan:
    """Which samples each optimizer step sees: every video once an epoch, the epoch's last step may be smaller."""

    num_videos: int
    global_batch_size: int
    epochs: int
    max_steps: int | None
    seed: int

    @property
    def steps_per_epoch(self) -> int:
        return -(-self.num_videos // self.global_batch_size)

    @property
    def num_steps(self) -> int:
        steps = self.epochs * self.steps_per_epoch
        return steps if self.max_steps is None else min(steps, self.max_steps)

    def samples_before(self, step: int) -> int:
        """Samples seen before optimizer step `step` (from 0)."""
        epochs, rest = divmod(step, self.steps_per_epoch)
        return epochs * self.num_videos + rest * self.global_batch_size

    def batch(self, step: int) -> list[tuple[int, int]]:
        """(sample number, video index) of each sample of a step."""
        epoch, rest = divmod(step, self.steps_per_epoch)
        first = rest * self.global_batch_size
        order = epoch_order(self.seed, epoch, self.num_videos)[first : first + self.global_batch_size]
        return [(epoch * self.num_videos + first + i, int(video)) for i, video in enumerate(order)]


def step_plan(num_videos: int, training: Any, seed: int) -> StepPlan:
    """The plan for a configuration."""
    return StepPlan(num_videos, training.global_batch_size, training.epochs, training.max_steps, seed)


def power_ema_exponent(power: float) -> float:
    """gamma of the power EMA of relative width `power` (Karras et al. 2024, arXiv:2312.02696, eq. 126)."""
    import numpy as np

    return float(np.roots([1, 7, 16 - power**-2, 12 - power**-2]).real.max())
