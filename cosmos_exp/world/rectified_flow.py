"""Rectified flow as Cosmos Predict 2.5 is trained: formulas only.

Shapes: B samples, C latent channels, T latent frames, H rows, W columns, L prompt tokens, D prompt channels.
sigma runs from 0 (clean) to 1 (noise). x = sigma noise + (1 - sigma) clean, velocity = dx/dsigma = noise - clean
(Liu et al. 2022, arXiv:2209.03003). Conditioning frames stay clean and do not enter the loss.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch

Forward = Callable[..., tuple[torch.Tensor, ...]]  # a transformer's forward pass; the velocity comes first


@dataclass
class FlowBatch:
    """Input of a forward pass.

    clean, noise: (B, C, T, H, W) fp32.
    sigma: (B,).
    condition_frames: (B,) integers, the number of conditioning latent frames.
    prompt: (B, L, D), projected.
    """

    clean: torch.Tensor
    noise: torch.Tensor
    sigma: torch.Tensor
    condition_frames: torch.Tensor
    prompt: torch.Tensor

    def to(self, device: torch.device) -> FlowBatch:
        """The batch on a device. From pinned memory the copy is asynchronous."""
        return FlowBatch(*(getattr(self, f.name).to(device, non_blocking=True) for f in fields(self)))

    def pin(self) -> FlowBatch:
        """The batch in page-locked memory, for asynchronous copies."""
        return FlowBatch(*(getattr(self, f.name).pin_memory() for f in fields(self)))


def condition_indicator(condition_frames: torch.Tensor, num_frames: int) -> torch.Tensor:
    """(B, 1, T, 1, 1): 1 for conditioning frames, 0 for others."""
    frame = torch.arange(num_frames, device=condition_frames.device)
    return (frame[None, :] < condition_frames[:, None]).float()[:, None, :, None, None]


def noised(clean: torch.Tensor, noise: torch.Tensor, sigma: torch.Tensor, indicator: torch.Tensor) -> torch.Tensor:
    """x at sigma (B, C, T, H, W); conditioning frames are clean."""
    s = sigma.view(-1, 1, 1, 1, 1)
    return indicator * clean + (1 - indicator) * (s * noise + (1 - s) * clean)


def timesteps(sigma: torch.Tensor, indicator: torch.Tensor, condition_timestep: float | None) -> torch.Tensor:
    """(B, 1, T, 1, 1): sigma; for conditioning frames `condition_timestep`, unless it is None."""
    s = sigma.view(-1, 1, 1, 1, 1).expand_as(indicator)
    if condition_timestep is None:
        return s
    return indicator * condition_timestep + (1 - indicator) * s


def velocity(
    model: Forward, batch: FlowBatch, condition_timestep: float | None, pixels: tuple[int, int]
) -> tuple[torch.Tensor, torch.Tensor]:
    """The model's velocity (B, C, T, H, W) and the indicator of conditioning frames (B, 1, T, 1, 1).

    Args:
        model: called as CosmosTransformer3DModel.
        pixels: height and width of the video, for the padding mask, which is all zero.
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
    model: Forward, batch: FlowBatch, condition_timestep: float | None, pixels: tuple[int, int]
) -> torch.Tensor:
    """(B,): mean squared error of the velocity.

    Conditioning frames add nothing to the sum; the mean is over all positions, as in the reference.
    """
    predicted, indicator = velocity(model, batch, condition_timestep, pixels)
    error = (1 - indicator) * (predicted.float() - (batch.noise - batch.clean))
    return error.square().flatten(1).mean(dim=1)
