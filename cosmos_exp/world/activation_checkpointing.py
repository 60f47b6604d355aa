"""Activation checkpointing: what a block keeps for the backward pass and what is recomputed.

From most memory to least:
none: everything is kept.
pointwise: the outputs of matrix products and attention are kept; norms, rotations, activations and sums are recomputed.
selective: the block's input and the output of its self-attention, which is costly to recompute and small to keep.
full: only the block's input is kept.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

_aten = torch.ops.aten

_PRODUCTS = {_aten.mm.default, _aten.addmm.default, _aten.bmm.default}

_ATTENTION = {
    getattr(_aten, name).default
    for name in (
        "_scaled_dot_product_flash_attention",
        "_scaled_dot_product_efficient_attention",
        "_scaled_dot_product_cudnn_attention",
        "_scaled_dot_product_flash_attention_for_cpu",
        "_scaled_dot_product_fused_attention_overrideable",
    )
    if hasattr(_aten, name)
}


def _keep_self_attention(context: object, operation: object, *args: torch.Tensor, **kwargs: object) -> CheckpointPolicy:
    """Keep attention among the video's tokens. Attention to the prompt's 512 tokens is cheap to recompute."""
    if operation in _ATTENTION and args[0].shape[-2] == args[1].shape[-2]:
        return CheckpointPolicy.MUST_SAVE
    return CheckpointPolicy.PREFER_RECOMPUTE


def _keep_products(context: object, operation: object, *args: object, **kwargs: object) -> CheckpointPolicy:
    """Keep the outputs of matrix products and attention."""
    if operation in _ATTENTION or operation in _PRODUCTS:
        return CheckpointPolicy.MUST_SAVE
    return CheckpointPolicy.PREFER_RECOMPUTE


_KEEP = {"pointwise": _keep_products, "selective": _keep_self_attention}


def with_policy(
    function: Callable[..., torch.Tensor], policy: str, random: bool = False
) -> Callable[..., torch.Tensor]:
    """`function`, keeping for its backward pass what the policy says.

    Args:
        policy: one of `hardware.POLICIES`.
        random: it draws random numbers (dropout); recomputation must draw the same.
    """
    if policy == "none":
        return function
    keep = _KEEP.get(policy)
    if keep is None:  # torch.compile refuses a context function that is no `partial`
        return lambda *args: checkpoint(function, *args, use_reentrant=False, preserve_rng_state=random)
    context_fn = partial(create_selective_checkpoint_contexts, keep)
    return lambda *args: checkpoint(
        function, *args, use_reentrant=False, preserve_rng_state=random, context_fn=context_fn
    )
