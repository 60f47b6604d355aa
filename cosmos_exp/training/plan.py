"""The plan of a training: which samples each optimizer step sees, and its learning rate. Arithmetic, no torch.

Everything follows from the configuration, the seed and the number of the step.
"""

from __future__ import annotations

from dataclasses import dataclass

from cosmos_exp.config.schema import Config, Training
from cosmos_exp.errors import UserError
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
        return min(steps, self.max_steps or steps)

    def samples_before(self, step: int) -> int:
        """Samples seen before optimizer step `step` (from 0)."""
        epochs, rest = divmod(step, self.steps_per_epoch)
        return epochs * self.num_videos + rest * self.global_batch_size

    def batch(self, step: int) -> list[tuple[int, int]]:
        """(sample number, video index) of each sample of a step."""
        epoch, rest = divmod(step, self.steps_per_epoch)
        first = rest * self.global_batch_size
        videos = epoch_order(self.seed, epoch, self.num_videos)[first : first + self.global_batch_size]
        return list(enumerate(videos.tolist(), start=epoch * self.num_videos + first))


def sample_order(num_videos: int, config: Config) -> SampleOrder:
    """The order of a configuration."""
    training = config.training
    return SampleOrder(num_videos, training.global_batch_size, training.epochs, training.max_steps, config.seed)


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


def learning_rates(num_videos: int, config: Config) -> list[float]:
    """The learning rate of every optimizer step.

    Raises:
        UserError: none is above 0, so nothing would be learned.
    """
    order, training = sample_order(num_videos, config), config.training
    rates = [lr_at(order.samples_before(step), training) for step in range(order.num_steps)]
    if not max(rates) > 0:
        raise UserError(
            f"training.schedule.warmup_samples={training.schedule.warmup_samples}: none of the {order.num_steps} optimizer "
            "steps has a learning rate above 0. Set it to 0, or train longer."
        )
    return rates


def num_buffers(slots: int) -> int:
    """The most gradients that `TreeSum` holds at a time beside the parameters' own, on any number of processes.

    Sums of left subtrees that wait for the right one, and with several processes a flat copy and the partner's.
    """
    return max(0, (slots - 1).bit_length() - 1) + 2
