"""A transformer with its adapter, as training and validation call it."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager

import torch
from diffusers import CosmosTransformer3DModel
from torch import nn

from cosmos_exp.config.schema import Config
from cosmos_exp.world.fast_forward import fast_forward
from cosmos_exp.world.rectified_flow import FlowBatch, flow_loss, velocity


class AdaptedModel:
    """The frozen transformer, the adapter's parameters in it, and the ways to run it.

    Args:
        transformer: with the adapter injected, on `device`.
        parameters: the adapter's parameters by name, fp32; the only trainable ones.
        checkpointing: activation checkpointing policy of all blocks, or one per block.
    """

    def __init__(
        self,
        transformer: CosmosTransformer3DModel,
        parameters: dict[str, nn.Parameter],
        config: Config,
        device: torch.device,
        checkpointing: str | list[str] = "none",
    ):
        self.transformer, self.parameters, self.device = transformer, parameters, device
        self.precision = config.hardware.mixed_precision
        self.condition_timestep = config.training.condition_timestep
        self.pixels = (config.data.height, config.data.width)
        self.forward = fast_forward(transformer, config.hardware.compile, checkpointing)
        # Single checks run uncompiled: a graph for their shapes alone would take minutes.
        self.eager_forward = fast_forward(transformer) if config.hardware.compile else self.forward

    def autocast(self) -> AbstractContextManager[object]:
        """The mixed precision of the configuration."""
        if self.precision == "no":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    def losses(self, batch: FlowBatch, eager: bool = False) -> torch.Tensor:
        """The flow loss of each sample, (B,)."""
        with self.autocast():
            forward = self.eager_forward if eager else self.forward
            return flow_loss(forward, batch, self.condition_timestep, self.pixels)

    @torch.no_grad()
    def velocity(self, batch: FlowBatch) -> torch.Tensor:
        """The velocity (B, C, T, H, W), uncompiled, without gradients."""
        with self.autocast():
            return velocity(self.eager_forward, batch, self.condition_timestep, self.pixels)[0]
