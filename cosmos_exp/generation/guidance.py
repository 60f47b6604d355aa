"""Classifier-free guidance in one forward pass of two samples, without a change to the pipeline."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


class GuidedForward:
    """Replaces the transformer's forward pass in the pipeline.

    The pipeline calls the transformer twice per step on the same latent: with the prompt, then with the negative prompt.
    With `together`, the first call computes both and the second returns the stored result. The values differ from two
    passes by the rounding of a larger matrix product.

    Args:
        forward: the transformer's forward pass.
        together: compute both in one pass.

    Attributes:
        negative: projected negative prompt (1, L, D); set it before each video. None: each call is computed by itself.
    """

    def __init__(self, forward: Callable[..., tuple[torch.Tensor, ...]], together: bool):
        self.forward, self.together = forward, together
        self.negative: torch.Tensor | None = None
        self._latent: torch.Tensor | None = None
        self._result: torch.Tensor | None = None

    def __call__(
        self,
        *,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        **others: Any,  # Any: passed on to the transformer
    ) -> tuple[torch.Tensor, ...]:
        """The velocity (1, C, T, H, W), in a tuple."""
        if not self.together or self.negative is None:
            return self.forward(hidden_states=hidden_states, encoder_hidden_states=encoder_hidden_states, **others)
        if hidden_states is self._latent:
            assert self._result is not None
            result, self._latent, self._result = self._result, None, None
            return (result,)
        for name in ("condition_mask", "timestep"):
            others[name] = torch.cat([others[name], others[name]])
        velocity = self.forward(
            hidden_states=torch.cat([hidden_states, hidden_states]),
            encoder_hidden_states=torch.cat([encoder_hidden_states, self.negative]),
            **others,
        )[0]
        self._latent, self._result = hidden_states, velocity[1:]
        return (velocity[:1],)
