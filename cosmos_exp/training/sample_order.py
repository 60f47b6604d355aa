"""Which samples each optimizer step sees. Everything follows from the seed and the step; no torch."""

from __future__ import annotations

from dataclasses import dataclass

from cosmos_exp.config.schema import Training
from cosmos_exp.rng import epoch_order


@dataclass(frozen=True)
class SampleOrder:
    """Every epoch visits each video once, in an order of its own; its last step may be smaller."""

    num_videos: int
    global_batch_size: int
    epochs: int
    max_steps: int | None
    seed: int

    @property
    def steps_per_epoch(self) -> int:
        """Optimizer steps of one epoch."""
        return -(-self.num_videos // self.global_batch_size)

    @property
    def num_steps(self) -> int:
        """Optimizer steps in all."""
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


def sample_order(num_videos: int, training: Training, seed: int) -> SampleOrder:
    """The order of a configuration."""
    return SampleOrder(num_videos, training.global_batch_size, training.epochs, training.max_steps, seed)
