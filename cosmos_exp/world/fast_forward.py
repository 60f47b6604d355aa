"""CosmosTransformer3DModel's forward pass, exact, without the work that diffusers does once per token.

The adaptive norms' modulation depends on the latent frame alone (its timestep), so it is computed for T frames instead
of T x H x W tokens and broadcast. Rotary tables are built once a shape, keys and values are not copied for grouped
heads, adapted layers take the short way. Parameters and their names stay diffusers' own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from diffusers import CosmosTransformer3DModel
from torch import nn

from cosmos_exp.world.activation_checkpointing import with_policy
from cosmos_exp.world.adapted_linear import adapted, prepare_adapters


def fast_forward(
    transformer: CosmosTransformer3DModel, compiled: bool = False, checkpointing: str | list[str] = "none"
) -> nn.Module:
    """`PerFrameForward` where it applies (all released Predict 2.5 models), else the transformer itself.

    Args:
        compiled: run blocks through torch.compile, one graph for all of them.
        checkpointing: a policy of `checkpointing.with_policy` for all blocks, or one a block.
    """
    config = transformer.config
    plain = config.patch_size[0] == 1 and config.extra_pos_embed_type is None and not config.img_context_dim_in
    if not plain or config.controlnet_block_every_n is not None:
        if checkpointing != "none":
            transformer.enable_gradient_checkpointing()
        return transformer
    prepare_adapters(transformer)
    return PerFrameForward(transformer, compiled=compiled, checkpointing=checkpointing)


class PerFrameForward(nn.Module):
    """Wraps a transformer; called like it, returns the same velocity.

    Args:
        transformer: with patch size 1 along time and no extra positional embedding.
        block: what runs one block; `run_block` unless given.
        compiled, checkpointing: see `fast_forward`.
    """

    def __init__(
        self,
        transformer: CosmosTransformer3DModel,
        block: Callable | None = None,
        compiled: bool = False,
        checkpointing: str | list[str] = "none",
    ):
        super().__init__()
        self.transformer, self.compiled = transformer, compiled
        count = len(transformer.transformer_blocks)
        self.policies = [checkpointing] * count if isinstance(checkpointing, str) else list(checkpointing)
        random = any(isinstance(m, nn.Dropout) and m.p > 0 for m in transformer.modules())
        run = {p: with_policy(block or run_block, p, random) for p in {*self.policies, "none"}}
        # Checkpointing lies inside the compiled region, so that the graph knows what it may compute again.
        self.run = {p: torch.compile(f, dynamic=False) for p, f in run.items()} if compiled else run
        self._rotary: dict[tuple, tuple[torch.Tensor, torch.Tensor]] = {}

    def rotary(self, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines and sines of the rotary embedding (tokens, head channels), built once a shape.

        The sines of the first half carry the minus sign of the rotation, so that it is a roll and two products.
        """
        key = (*hidden.shape[2:], str(hidden.device))
        if key not in self._rotary:
            cos, sin = self.transformer.rope(hidden)
            half = sin.shape[-1] // 2
            self._rotary[key] = cos, torch.cat([-sin[:, :half], sin[:, half:]], dim=-1)
        return self._rotary[key]

    def forward(
        self,
        hidden_states: torch.Tensor,
        condition_mask: torch.Tensor,
        timestep: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        padding_mask: torch.Tensor | None = None,
        attention_mask: torch.Tensor | None = None,
        return_dict: bool = False,
    ) -> tuple[torch.Tensor]:
        """hidden_states (B, C, T, H, W), condition_mask (B, 1, T, H, W), timestep (B, 1, T, 1, 1) or (B,), prompt (B, L, D),
        attention_mask (B, L) True where the prompt may be looked at; `padding_mask` must be all zero and is not looked at."""
        model = self.transformer
        batch, _, frames, height, width = hidden_states.shape
        parts = [hidden_states, condition_mask.to(hidden_states.dtype)]
        if model.config.concat_padding_mask:
            parts.append(torch.zeros_like(parts[1]))
        x = torch.cat(parts, dim=1)
        rotary = self.rotary(x)
        x = model.patch_embed(x).flatten(2, 3)  # (B, T, H W, D)
        if timestep.ndim == 1:
            timestep = timestep.view(batch, 1, 1, 1, 1).expand(-1, 1, frames, 1, 1)
        temb, embedded = (
            e.view(batch, frames, 1, -1) for e in model.time_embed(x.view(batch, -1, x.shape[-1]), timestep.flatten())
        )
        text = model.crossattn_proj(encoder_hidden_states)
        mask = None if attention_mask is None else attention_mask[:, None, None]
        x = self._blocks(x, text, embedded, temb, rotary, mask)
        x = model.proj_out(_modulate(model.norm_out, x, embedded, temb, 2)[0])
        _, rows, columns = model.config.patch_size
        x = x.view(batch, frames, height // rows, width // columns, rows, columns, -1)
        return (x.permute(0, 6, 1, 2, 4, 3, 5).reshape(batch, -1, frames, height, width),)

    def _blocks(self, x: torch.Tensor, *others: Any) -> torch.Tensor:
        if self.compiled and torch.is_grad_enabled():
            # Else the first block, whose input needs no gradient, would be a graph of its own (pytorch #141039).
            x = x if x.requires_grad else x.requires_grad_()
        for block, policy in zip(self.transformer.transformer_blocks, self.policies, strict=True):
            x = self.run[policy if torch.is_grad_enabled() else "none"](block, x, *others)
        return x


def _modulate(norm: nn.Module, x: torch.Tensor, embedded: torch.Tensor, temb: torch.Tensor, parts: int):
    """Adaptive layer norm of x (B, T, S, D) with one modulation a frame; returns it and what is left, the gate."""
    table = norm.linear_2(norm.linear_1(norm.activation(embedded))) + temb[..., : parts * x.shape[-1]]
    shift, scale, *gate = table.chunk(parts, dim=-1)
    return torch.addcmul(shift, norm.norm(x), 1 + scale), gate[0] if gate else None


def rotate(x: torch.Tensor, cos: torch.Tensor, signed_sin: torch.Tensor) -> torch.Tensor:
    """Rotary embedding of x (B, heads, N, channels), in fp32 as diffusers' apply_rotary_emb (halves, not pairs)."""
    wide = x.float()
    return torch.addcmul(wide * cos, wide.roll(x.shape[-1] // 2, -1), signed_sin).to(x.dtype)


def attend(
    attention: nn.Module,
    x: torch.Tensor,
    text: torch.Tensor | None = None,
    rotary=None,
    mask: torch.Tensor | None = None,
) -> torch.Tensor:
    """One attention layer on x (B, N, D), to itself or to the prompt (B, L, D'), as CosmosAttnProcessor2_0 computes it."""
    source = x if text is None else text
    layers = ((attention.to_q, x), (attention.to_k, source), (attention.to_v, source))
    q, k, v = (adapted(layer, i).unflatten(2, (attention.heads, -1)).transpose(1, 2) for layer, i in layers)
    q, k = attention.norm_q(q), attention.norm_k(k)
    if rotary is not None:
        q, k = rotate(q, *rotary), rotate(k, *rotary)
    y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask).transpose(1, 2).flatten(2, 3).type_as(q)
    return attention.to_out[1](adapted(attention.to_out[0], y))


def feed_forward(layer: nn.Module, x: torch.Tensor) -> torch.Tensor:
    """GELU feed-forward on x (..., D), as diffusers' FeedForward computes it."""
    first, dropout, last = layer.net
    return adapted(last, dropout(first.gelu(adapted(first.proj, x))))


def run_block(
    block: nn.Module, x: torch.Tensor, text: torch.Tensor, embedded, temb, rotary, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """One transformer block on x (B, T, S, D)."""
    shape = x.shape
    h, gate = _modulate(block.norm1, x, embedded, temb, 3)
    x = torch.addcmul(x, gate, attend(block.attn1, h.flatten(1, 2), rotary=rotary).view(shape))
    h, gate = _modulate(block.norm2, x, embedded, temb, 3)
    x = torch.addcmul(x, gate, attend(block.attn2, h.flatten(1, 2), text, mask=mask).view(shape))
    h, gate = _modulate(block.norm3, x, embedded, temb, 3)
    return torch.addcmul(x, gate, feed_forward(block.ff, h))
