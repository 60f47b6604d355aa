"""CosmosTransformer3DModel's linear layers, sizes and costs by arithmetic alone; no torch.

So a wrong `adapter.target_modules` is told in a blink, and a plan can be printed on any machine. A test holds the
names and shapes against the real class on the meta device."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

# Activations a block keeps, in rows of (tokens x hidden) at the activations' precision, by checkpointing policy; and what
# the block at work needs besides. Counted by benchmarks/memory.py on the 2B model's blocks, eager and compiled.
KEPT_ROWS = {
    False: {"none": 29.0, "pointwise": 25.0, "selective": 2.0, "full": 1.0},
    True: {"none": 24.5, "pointwise": 13.5, "selective": 2.0, "full": 1.0},
}

WORKING_ROWS = {False: 37.0, True: 30.0}

# What DoRA keeps besides: each layer's output before its magnitude.
DORA_ROWS = {False: {"none": 11.0}, True: {"none": 4.0, "pointwise": 2.5}}

DORA_WORKING_ROWS = {False: 18.0, True: 4.0}

LADDER = ("none", "pointwise", "selective", "full")


def training_memory_gib(plan: dict[str, Any]) -> float:
    """Estimate of a training process's peak: weights, adapter, optimizer and activations (facts.md section 3).

    Args:
        plan: base_parameters, trainable, tokens, hidden, num_layers, samples, bytes_a_weight, compile, dora, and
            checkpointing (one policy, or one a block).
    """
    weights = plan["base_parameters"] * plan["bytes_a_weight"]
    adapter = plan["trainable"] * 4 * 4  # weight, gradient and AdamW's two moments in fp32
    row = plan["samples"] * plan["tokens"] * plan["hidden"] * plan["bytes_a_weight"]
    policies = plan["checkpointing"]
    policies = [policies] * plan["num_layers"] if isinstance(policies, str) else policies
    compiled, dora = plan["compile"], plan["dora"]
    kept = sum(KEPT_ROWS[compiled][p] + dora * DORA_ROWS[compiled].get(p, 0.0) for p in policies)
    working = WORKING_ROWS[compiled] + dora * DORA_WORKING_ROWS[compiled]
    return (weights + adapter + row * (kept + working)) / 2**30


def choose_checkpointing(plan: dict[str, Any], budget_gib: float | None) -> list[str]:
    """The policies, one a block, that compute least again and stay within the budget.

    Two neighbours of `LADDER` share the blocks: as many as fit take the one that keeps more. Where nothing fits, or no
    budget is known, all blocks take "full".
    """
    count = plan["num_layers"]
    for more, less in pairwise(LADDER) if budget_gib is not None else ():
        for kept in range(count, -1, -1):
            policies = [more] * kept + [less] * (count - kept)
            if training_memory_gib(plan | {"checkpointing": policies}) <= (budget_gib or 0):
                return policies
    return ["full"] * count


def memory_plan(
    keys: dict[str, Any], base_parameters: int, trainable: int, tokens: int, hardware: Any, batch: int, dora: bool
) -> dict[str, Any]:
    """What `training_memory_gib` asks for, with the checkpointing that `hardware` means.

    Args:
        keys: the transformer's configuration.
        tokens: of one sample.
        batch: samples of a process's share of the global batch.
    """
    plan = {
        "base_parameters": base_parameters,
        "trainable": trainable,
        "tokens": tokens,
        "hidden": keys["num_attention_heads"] * keys["attention_head_dim"],
        "num_layers": keys["num_layers"],
        "samples": min(batch, hardware.samples_per_forward),
        "compile": hardware.compile,
        "dora": dora,
        "bytes_a_weight": 2 if hardware.mixed_precision == "bf16" else 4,
    }
    if hardware.checkpointing == "auto":
        budget = hardware.memory_gb and MEMORY_SHARE * hardware.memory_gb
        return plan | {"checkpointing": choose_checkpointing(plan, budget)}
    return plan | {"checkpointing": [hardware.checkpointing] * plan["num_layers"]}


MEMORY_SHARE = (
    0.8  # of a device's memory is planned with; the rest is for fragments, workspaces and the estimate's error
)
