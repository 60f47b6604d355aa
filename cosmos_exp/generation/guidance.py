"""Classifier-free guidance in one forward pass of two samples, behind the pipeline's two calls a step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch


class GuidedForward:
    """Stands where the pipeline calls its transformer: with the prompt, then with the negative one, on the same latent.

    `together`: the first call computes both and the second is answered from it. The numbers differ by the rounding of a
    larger matrix product. Set `negative` (1, L, D) before each video; None: every call is computed as it comes.
    """

    def __init__(self, forward: Callable[..., tuple[torch.Tensor]], together: bool):
        self.forward, self.together = forward, together
        self.negative: torch.Tensor | None = None
        self._latent: torch.Tensor | None = None
        self._answer: torch.Tensor | None = None

    def __call__(self, *, hidden_states: torch.Tensor, encoder_hidden_states: torch.Tensor, **words: Any) -> tuple:
        if not self.together or self.negative is None:
            return self.forward(hidden_states=hidden_states, encoder_hidden_states=encoder_hidden_states, **words)
        if hidden_states is self._latent:
            answer, self._latent, self._answer = self._answer, None, None
            return (answer,)
        pair = {k: torch.cat([v, v]) for k, v in words.items() if k in ("condition_mask", "timestep")}
        velocity = self.forward(
            hidden_states=torch.cat([hidden_states, hidden_states]),
            encoder_hidden_states=torch.cat([encoder_hidden_states, self.negative]),
            **{**words, **pair},
        )[0]
        self._latent, self._answer = hidden_states, velocity[1:]
        return (velocity[:1],)
