"""A faster forward pass of CosmosTransformer3DModel with the same result.

The modulation of the adaptive norms depends on the latent frame (its timestep) only, so it is computed for T frames
instead of T x H x W tokens and broadcast. Rotary tables are computed once per shape, keys and values are not copied for
grouped heads, and adapted layers use `adapted_linear`. Parameters and their names stay those of diffusers. diffusers' own
forward computes what is not supported here: control inputs, masks of attention, and layers with hooks or other processors.
"""

from __future__ import annotations

from collections.abc import Callable
from types import NoneType
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from diffusers import CosmosTransformer3DModel
from diffusers.models.modeling_outputs import Transformer2DModelOutput
from diffusers.models.transformers.transformer_cosmos import CosmosAttnProcessor2_0
from torch import nn

from cosmos_exp.world.activation_checkpointing import with_policy
from cosmos_exp.world.adapted_linear import adapted

if TYPE_CHECKING:
    from diffusers.models.attention import FeedForward
    from diffusers.models.attention_processor import Attention
    from diffusers.models.transformers.transformer_cosmos import (
        CosmosAdaLayerNorm,
        CosmosAdaLayerNormZero,
        CosmosTransformerBlock,
    )

Rotary = tuple[torch.Tensor, torch.Tensor]  # cosines, and sines with the rotation's sign


def fast_forward(
    transformer: CosmosTransformer3DModel, compiled: bool = False, checkpointing: str | list[str] = "none"
) -> nn.Module:
    """`PerFrameForward` if the transformer permits it (all released Predict 2.5 models do), else the transformer itself.

    Args:
        compiled: run blocks through torch.compile, one graph for all of them.
        checkpointing: a policy of `activation_checkpointing` for all blocks, or one per block.
    """
    config = transformer.config
    if checkpointing != "none":
        transformer.enable_gradient_checkpointing()  # of diffusers' own forward
    plain = config.patch_size[0] == 1 and config.extra_pos_embed_type is None and not config.img_context_dim_in
    if not plain or config.controlnet_block_every_n is not None:
        return transformer
    return PerFrameForward(transformer, compiled=compiled, checkpointing=checkpointing)


class PerFrameForward(nn.Module):
    """Wraps a transformer. It takes the same arguments and returns the same velocity.

    Args:
        transformer: with patch size 1 in time and no extra positional embedding.
        block: runs one block; default: `run_block`.
        compiled, checkpointing: as in `fast_forward`.
    """

    def __init__(
        self,
        transformer: CosmosTransformer3DModel,
        block: Callable[..., torch.Tensor] | None = None,
        compiled: bool = False,
        checkpointing: str | list[str] = "none",
    ):
        super().__init__()
        self.transformer, self.compiled = transformer, compiled
        count = len(transformer.transformer_blocks)
        self.policies = [checkpointing] * count if isinstance(checkpointing, str) else list(checkpointing)
        random = any(isinstance(m, nn.Dropout) and m.p > 0 for m in transformer.modules())
        run = {p: with_policy(block or run_block, p, random) for p in {*self.policies, "none"}}
        # Checkpointing is inside the compiled region, so that the compiler knows what it may recompute.
        if compiled:
            run = {p: torch.compile(f, dynamic=False) for p, f in run.items()}
        self.run = run
        self._rotary: dict[tuple[int | str | None, ...], Rotary] = {}

    def rotary(self, hidden: torch.Tensor, fps: int | None = None) -> Rotary:
        """Cosines and sines of the rotary embedding, each (tokens, head channels), computed once per shape and rate.

        The sines of the first half are negated: the rotation is then a roll and two products.

        Args:
            hidden: the transformer's input (B, channels, T, H, W).
        """
        key = (*hidden.shape[2:], str(hidden.device), fps)
        if key not in self._rotary:
            cos, sin = self.transformer.rope(hidden, fps=fps)
            half = sin.shape[-1] // 2
            self._rotary[key] = cos, torch.cat([-sin[:, :half], sin[:, half:]], dim=-1)
        return self._rotary[key]

    def forward(
        self,
        hidden_states: torch.Tensor,
        timestep: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        block_controlnet_hidden_states: list[torch.Tensor] | None = None,
        attention_mask: torch.Tensor | None = None,
        fps: int | None = None,
        condition_mask: torch.Tensor | None = None,
        padding_mask: torch.Tensor | None = None,
        return_dict: bool = True,
    ) -> Transformer2DModelOutput | tuple[torch.Tensor]:
        """The velocity (B, C, T, H, W), as diffusers returns it.

        Args:
            hidden_states: (B, C, T, H, W).
            timestep: (B, 1, T, 1, 1), or (B,) for one timestep per sample.
            encoder_hidden_states: prompt (B, L, D).
            block_controlnet_hidden_states, attention_mask, fps: as diffusers takes them.
            condition_mask: (B, 1, T, H, W), 1 for conditioning frames.
            padding_mask: (1, 1, any height, any width), 1 where the video has no picture.
            return_dict: False: return a tuple.
        """
        model = self.transformer
        if block_controlnet_hidden_states is not None or attention_mask is not None or _is_changed(model):
            masks = (attention_mask, fps, condition_mask, padding_mask)
            # Of the class: the instance's may be replaced by what calls this one.
            return CosmosTransformer3DModel.forward(
                model,
                hidden_states,
                timestep,
                encoder_hidden_states,
                block_controlnet_hidden_states,
                *masks,
                return_dict,
            )
        batch, _, frames, height, width = hidden_states.shape
        parts = [hidden_states]
        if condition_mask is not None:
            parts.append(condition_mask.to(hidden_states.dtype))
        if model.config.concat_padding_mask:
            assert padding_mask is not None
            padding = F.interpolate(padding_mask.to(hidden_states.dtype), (height, width))
            parts.append(padding.unsqueeze(2).expand(batch, -1, frames, -1, -1))
        x = torch.cat(parts, dim=1)
        rotary = self.rotary(x, fps)
        x = model.patch_embed(x).flatten(2, 3)  # (B, T, H W, D)
        if timestep.ndim == 1:
            timestep = timestep.view(-1, 1, 1, 1, 1).expand(batch, 1, frames, 1, 1)
        temb, embedded = (
            e.view(batch, frames, 1, -1) for e in model.time_embed(x.view(batch, -1, x.shape[-1]), timestep.flatten())
        )
        text = encoder_hidden_states
        if model.config.use_crossattn_projection:
            text = model.crossattn_proj(text)
        x = self._blocks(x, text, embedded, temb, rotary)
        x = model.proj_out(_modulate(model.norm_out, x, embedded, temb, 2)[0])
        _, rows, columns = model.config.patch_size
        x = x.view(batch, frames, height // rows, width // columns, rows, columns, -1)
        x = x.permute(0, 6, 1, 2, 4, 3, 5).reshape(batch, -1, frames, height, width)
        return Transformer2DModelOutput(sample=x) if return_dict else (x,)

    def _blocks(self, x: torch.Tensor, *others: torch.Tensor | Rotary) -> torch.Tensor:
        if self.compiled and torch.is_grad_enabled() and not x.requires_grad:
            # Otherwise the first block, whose input needs no gradient, is compiled separately (pytorch #141039).
            x = x.requires_grad_()
        for block, policy in zip(self.transformer.transformer_blocks, self.policies, strict=True):
            x = self.run[policy if torch.is_grad_enabled() else "none"](block, x, *others)
        return x


def _is_changed(model: CosmosTransformer3DModel) -> bool:
    """Whether a layer has hooks, another forward or another attention processor, which the fast forward would not call."""
    for module in model.modules():
        hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
        if module is not model and (any(hooks) or "forward" in vars(module)):
            return True
        if type(getattr(module, "processor", None)) not in (CosmosAttnProcessor2_0, NoneType):
            return True
    return False


def _modulate(
    norm: CosmosAdaLayerNorm | CosmosAdaLayerNormZero,
    x: torch.Tensor,
    embedded: torch.Tensor,
    temb: torch.Tensor,
    parts: int,
) -> tuple[torch.Tensor, list[torch.Tensor]]:
    """Adaptive layer norm of x (B, T, S, D), one modulation per frame.

    Args:
        embedded, temb: timestep embeddings (B, T, 1, D) and (B, T, 1, 3 D).
        parts: 3: shift, scale and gate; 2: no gate.

    Returns:
        the normalised x, and a list with the gate (B, T, 1, D) if there is one.
    """
    table = norm.linear_2(norm.linear_1(norm.activation(embedded))) + temb[..., : parts * x.shape[-1]]
    shift, scale, *gate = table.chunk(parts, dim=-1)
    return torch.addcmul(shift, norm.norm(x), 1 + scale), gate


def rotate(x: torch.Tensor, cos: torch.Tensor, signed_sin: torch.Tensor) -> torch.Tensor:
    """Rotary embedding of x (B, heads, N, channels) in fp32, as diffusers' apply_rotary_emb (halves, not pairs)."""
    wide = x.float()
    return torch.addcmul(wide * cos, wide.roll(x.shape[-1] // 2, -1), signed_sin).to(x.dtype)


def attend(
    attention: Attention, x: torch.Tensor, text: torch.Tensor | None = None, rotary: Rotary | None = None
) -> torch.Tensor:
    """One attention layer, as CosmosAttnProcessor2_0 computes it.

    Args:
        x: (B, N, D).
        text: prompt (B, L, D') for cross-attention; None: self-attention.
        rotary: from `PerFrameForward.rotary`.

    Returns:
        (B, N, D).
    """
    source = x if text is None else text
    layers = ((attention.to_q, x), (attention.to_k, source), (attention.to_v, source))
    q, k, v = (adapted(layer, i).unflatten(2, (attention.heads, -1)).transpose(1, 2) for layer, i in layers)
    q, k = attention.norm_q(q), attention.norm_k(k)
    if rotary is not None:
        q, k = rotate(q, *rotary), rotate(k, *rotary)
    y = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2, 3).type_as(q)
    return attention.to_out[1](adapted(attention.to_out[0], y))


def feed_forward(layer: FeedForward, x: torch.Tensor) -> torch.Tensor:
    """GELU feed-forward on x (..., D), as diffusers' FeedForward computes it."""
    first, dropout, last = layer.net
    return adapted(last, dropout(first.gelu(adapted(first.proj, x))))


def run_block(
    block: CosmosTransformerBlock,
    x: torch.Tensor,
    text: torch.Tensor,
    embedded: torch.Tensor,
    temb: torch.Tensor,
    rotary: Rotary,
) -> torch.Tensor:
    """One transformer block.

    Args:
        x: (B, T, S, D), S tokens per latent frame.
        text: prompt (B, L, D').
        embedded, temb: timestep embeddings, as in `_modulate`.
        rotary: as in `attend`.

    Returns:
        (B, T, S, D).
    """
    shape = x.shape
    h, (gate,) = _modulate(block.norm1, x, embedded, temb, 3)
    x = torch.addcmul(x, gate, attend(block.attn1, h.flatten(1, 2), rotary=rotary).view(shape))
    h, (gate,) = _modulate(block.norm2, x, embedded, temb, 3)
    x = torch.addcmul(x, gate, attend(block.attn2, h.flatten(1, 2), text).view(shape))
    h, (gate,) = _modulate(block.norm3, x, embedded, temb, 3)
    return torch.addcmul(x, gate, feed_forward(block.ff, h))
