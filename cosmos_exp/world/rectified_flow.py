"""Rectified flow as Cosmos Predict 2.5 is trained: formulas only.

Shapes: B samples, C latent channels, T latent frames, H rows, W columns, L prompt tokens, D prompt channels.
sigma runs from 0 (clean) to 1 (noise). x = sigma noise + (1 - sigma) clean, velocity = dx/dsigma = noise - clean
(Liu et al. 2022, arXiv:2209.03003; the latent frames given as condition stay clean and out of the loss).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch


@dataclass
class FlowBatch:
    """What a forward pass needs: clean, noise (B, C, T, H, W) fp32; sigma (B,); condition_frames (B,) whole numbers;
    prompt (B, L, D)."""

    clean: torch.Tensor
    noise: torch.Tensor
    sigma: torch.Tensor
    condition_frames: torch.Tensor
    prompt: torch.Tensor

    def to(self, device: torch.device) -> FlowBatch:
        """The same on a device; from pinned memory the copy is not waited for."""
        return FlowBatch(*(getattr(self, f.name).to(device, non_blocking=True) for f in fields(self)))

    def pin(self) -> FlowBatch:
        """The same in page-locked memory, for copies that nobody waits for."""
        return FlowBatch(*(getattr(self, f.name).pin_memory() for f in fields(self)))


def condition_indicator(condition_frames: torch.Tensor, num_frames: int) -> torch.Tensor:
    """(B, 1, T, 1, 1), 1 for the latent frames that are given."""
    frame = torch.arange(num_frames, device=condition_frames.device)
    return (frame[None, :] < condition_frames[:, None]).float()[:, None, :, None, None]


def noised(clean: torch.Tensor, noise: torch.Tensor, sigma: torch.Tensor, indicator: torch.Tensor) -> torch.Tensor:
    """x at sigma, with the given frames clean."""
    s = sigma.view(-1, 1, 1, 1, 1)
    return indicator * clean + (1 - indicator) * (s * noise + (1 - s) * clean)


def timesteps(sigma: torch.Tensor, indicator: torch.Tensor, condition_timestep: float | None) -> torch.Tensor:
    """(B, 1, T, 1, 1): sigma, and `condition_timestep` for given frames unless it is None."""
    s = sigma.view(-1, 1, 1, 1, 1).expand_as(indicator)
    return s if condition_timestep is None else indicator * condition_timestep + (1 - indicator) * s


def velocity(
    model: Callable, batch: FlowBatch, condition_timestep: float | None, pixels: tuple[int, int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """The model's velocity (B, C, T, H, W) and the indicator of given frames.

    Args:
        pixels: height and width of the video, for the (all zero) padding mask.
    """
    clean = batch.clean
    indicator = condition_indicator(batch.condition_frames, clean.shape[2])
    predicted = model(
        hidden_states=noised(clean, batch.noise, batch.sigma, indicator),
        condition_mask=indicator.expand(-1, -1, -1, *clean.shape[3:]),
        timestep=timesteps(batch.sigma, indicator, condition_timestep),
        encoder_hidden_states=batch.prompt,
        padding_mask=clean.new_zeros(1, 1, *pixels),
        return_dict=False,
    )[0]
    return predicted, indicator


def flow_loss(
    model: Callable, batch: FlowBatch, condition_timestep: float | None, pixels: tuple[int, int]
) -> torch.Tensor:
    """(B,): squared error of the velocity. Given frames add nothing, the mean still runs over all positions."""
    predicted, indicator = velocity(model, batch, condition_timestep, pixels)
    error = (1 - indicator) * (predicted.float() - (batch.noise - batch.clean))
    return error.square().flatten(1).mean(dim=1)
