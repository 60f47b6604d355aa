"""What of a block's activations is kept for the backward pass and what is computed again.

From most memory to least:
none: all is kept. pointwise: matrix products and attention are kept; norms, rotations, activations and sums are computed
again. selective: the block's input and the output of its self-attention, the dearest thing in a block to compute
again and one of the smallest to keep. full: the block's input alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch.utils.checkpoint import CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts

POLICIES = ("none", "pointwise", "selective", "full")

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


def _keep_self_attention(context: Any, operation: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
    """Attention among the video's tokens is kept; that to the prompt's 512 costs next to nothing."""
    if operation in _ATTENTION and args[0].shape[-2] == args[1].shape[-2]:
        return CheckpointPolicy.MUST_SAVE
    return CheckpointPolicy.PREFER_RECOMPUTE


def _keep_products(context: Any, operation: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
    kept = operation in _ATTENTION or operation in _PRODUCTS
    return CheckpointPolicy.MUST_SAVE if kept else CheckpointPolicy.PREFER_RECOMPUTE


_KEEP = {"pointwise": _keep_products, "selective": _keep_self_attention}


def with_policy(function: Callable, policy: str, random: bool = False) -> Callable:
    """`function`, keeping for its backward pass what the policy says.

    Args:
        random: it draws (dropout), so that computing again must draw alike.

    Raises:
        ValueError: no such policy.
    """
    if policy == "none":
        return function
    if policy not in POLICIES:
        raise ValueError(f"checkpointing {policy!r}: choose one of {', '.join(POLICIES)}")
    words: dict[str, Any] = {"use_reentrant": False, "preserve_rng_state": random}
    if policy in _KEEP:
        words["context_fn"] = partial(create_selective_checkpoint_contexts, _KEEP[policy])
    return lambda *args: checkpoint(function, *args, **words)
