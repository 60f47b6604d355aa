"""CosmosTransformer3DModel's forward pass, exact, without the work that diffusers does once per token.

The adaptive norms' modulation depends on the latent frame alone (its timestep), so it is computed for T frames instead
of T x H x W tokens and broadcast. Parameters, their names and adapters inside them stay diffusers' own.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import CosmosTransformer3DModel
from torch import nn


def fast_forward(transformer: CosmosTransformer3DModel) -> nn.Module:
    """`PerFrameForward` where it applies (all released Predict 2.5 models), else the transformer itself."""
    config = transformer.config
    plain = config.patch_size[0] == 1 and config.extra_pos_embed_type is None and not config.img_context_dim_in
    return PerFrameForward(transformer) if plain and config.controlnet_block_every_n is None else transformer


class PerFrameForward(nn.Module):
    """Wraps a transformer; called like it, returns the same velocity.

    Args:
        transformer: with patch size 1 along time and no extra positional embedding.
        block: what runs one block, e.g. a compiled `run_block`.
    """

    def __init__(self, transformer: CosmosTransformer3DModel, block: Any = None):
        super().__init__()
        self.transformer = transformer
        self.block = block or run_block
        self._rotary: dict[tuple, tuple[torch.Tensor, torch.Tensor]] = {}

    def rotary(self, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines and sines of the rotary embedding (tokens, head channels), built once a shape."""
        key = (*hidden.shape[2:], str(hidden.device))
        if key not in self._rotary:
            self._rotary[key] = self.transformer.rope(hidden)
        return self._rotary[key]

    def forward(
        self, hidden_states: torch.Tensor, condition_mask: torch.Tensor, timestep: torch.Tensor,
        encoder_hidden_states: torch.Tensor, padding_mask: torch.Tensor | None = None, return_dict: bool = False,
    ) -> tuple[torch.Tensor]:  # fmt: skip
        """hidden_states (B, C, T, H, W), condition_mask (B, 1, T, H, W), timestep (B, 1, T, 1, 1), prompt (B, L, D);
        `padding_mask` must be all zero and is not looked at."""
        model = self.transformer
        batch, _, frames, height, width = hidden_states.shape
        parts = [hidden_states, condition_mask.to(hidden_states.dtype)]
        if model.config.concat_padding_mask:
            parts.append(torch.zeros_like(parts[1]))
        x = torch.cat(parts, dim=1)
        rotary = self.rotary(x)
        x = model.patch_embed(x).flatten(2, 3)  # (B, T, H W, D)
        temb, embedded = (
            e.view(batch, frames, 1, -1) for e in model.time_embed(x.view(batch, -1, x.shape[-1]), timestep.flatten())
        )
        text = model.crossattn_proj(encoder_hidden_states)
        for block in model.transformer_blocks:
            if model.gradient_checkpointing and torch.is_grad_enabled():
                x = model._gradient_checkpointing_func(self.block, block, x, text, embedded, temb, rotary)
            else:
                x = self.block(block, x, text, embedded, temb, rotary)
        x = model.proj_out(_modulate(model.norm_out, x, embedded, temb, 2)[0])
        _, rows, columns = model.config.patch_size
        x = x.view(batch, frames, height // rows, width // columns, rows, columns, -1)
        return (x.permute(0, 6, 1, 2, 4, 3, 5).reshape(batch, -1, frames, height, width),)


def _modulate(norm: nn.Module, x: torch.Tensor, embedded: torch.Tensor, temb: torch.Tensor, parts: int):
    """Adaptive layer norm of x (B, T, S, D) with one modulation a frame; returns it and what is left, the gate."""
    table = norm.linear_2(norm.linear_1(norm.activation(embedded))) + temb[..., : parts * x.shape[-1]]
    shift, scale, *gate = table.chunk(parts, dim=-1)
    return norm.norm(x) * (1 + scale) + shift, gate[0] if gate else None


def run_block(block: nn.Module, x: torch.Tensor, text: torch.Tensor, embedded, temb, rotary) -> torch.Tensor:
    """One transformer block on x (B, T, S, D)."""
    shape = x.shape
    h, gate = _modulate(block.norm1, x, embedded, temb, 3)
    x = x + gate * block.attn1(h.flatten(1, 2), image_rotary_emb=rotary).view(shape)
    h, gate = _modulate(block.norm2, x, embedded, temb, 3)
    x = x + gate * block.attn2(h.flatten(1, 2), encoder_hidden_states=text).view(shape)
    h, gate = _modulate(block.norm3, x, embedded, temb, 3)
    return x + gate * block.ff(h)
