"""Memory of a training process and the checkpointing that fits: arithmetic, no torch.

The row counts below come from benchmarks/memory.py on the 2B model's blocks. A row is tokens x hidden values at the
activations' precision.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TypedDict

from cosmos_exp.config.layers import TransformerConfig
from cosmos_exp.config.schema import Hardware

# Checkpointing policies from most memory to least (world/activation_checkpointing.py says what each keeps).
POLICIES = ("none", "pointwise", "selective", "full")

# Rows that a block keeps for the backward pass, by compile and policy; and rows that the running block needs besides.
KEPT_ROWS = {
    False: {"none": 29.0, "pointwise": 25.0, "selective": 2.0, "full": 1.0},
    True: {"none": 24.5, "pointwise": 13.5, "selective": 2.0, "full": 1.0},
}
WORKING_ROWS = {False: 37.0, True: 30.0}

# What DoRA adds: the output of each layer before its magnitude.
DORA_ROWS = {False: {"none": 11.0}, True: {"none": 4.0, "pointwise": 2.5}}
DORA_WORKING_ROWS = {False: 18.0, True: 4.0}

# Part of a device's memory that a plan may use. The rest covers fragmentation, workspaces and the estimate's error.
USABLE_MEMORY = 0.8


class StepSizes(TypedDict):
    """Everything that determines a training process's memory.

    base_parameters, trainable: number of frozen and of trained parameters.
    tokens: of one sample. samples: in one forward pass. hidden: width of the transformer. num_layers: its blocks.
    compile: blocks are compiled. dora: the adapter is DoRA. bytes_a_weight: of the base weights and activations.
    checkpointing: one policy for all blocks, or one per block.
    """

    base_parameters: float
    trainable: float
    tokens: int
    hidden: int
    num_layers: int
    samples: int
    compile: bool
    dora: bool
    bytes_a_weight: int
    checkpointing: str | list[str]


def training_memory_gib(sizes: StepSizes) -> float:
    """Estimate of a training process's peak in GiB: weights, adapter, optimizer and activations."""
    weights = sizes["base_parameters"] * sizes["bytes_a_weight"]
    adapter = sizes["trainable"] * 4 * 4  # weight, gradient and AdamW's two moments in fp32
    row = sizes["samples"] * sizes["tokens"] * sizes["hidden"] * sizes["bytes_a_weight"]
    policies = sizes["checkpointing"]
    policies = [policies] * sizes["num_layers"] if isinstance(policies, str) else policies
    compiled, dora = sizes["compile"], sizes["dora"]
    kept = sum(KEPT_ROWS[compiled][p] + dora * DORA_ROWS[compiled].get(p, 0.0) for p in policies)
    working = WORKING_ROWS[compiled] + dora * DORA_WORKING_ROWS[compiled]
    return float((weights + adapter + row * (kept + working)) / 2**30)


def choose_checkpointing(sizes: StepSizes, budget_gib: float | None) -> list[str]:
    """The policies, one per block, that recompute least within the budget.

    Two neighbours of `POLICIES` divide the blocks: as many blocks as fit take the one that keeps more. If nothing fits,
    or the budget is unknown, all blocks take "full".

    Args:
        sizes: its checkpointing is ignored.
    """
    count = sizes["num_layers"]
    for more, less in pairwise(POLICIES) if budget_gib is not None else ():
        for kept in range(count, -1, -1):
            policies = [more] * kept + [less] * (count - kept)
            if training_memory_gib({**sizes, "checkpointing": policies}) <= (budget_gib or 0):
                return policies
    return ["full"] * count


def memory_estimate(
    keys: TransformerConfig,
    base_parameters: int,
    trainable: int,
    tokens: int,
    hardware: Hardware,
    global_batch_size: int,
    dora: bool,
) -> StepSizes:
    """The input of `training_memory_gib`, with hardware.checkpointing=auto resolved to one policy per block.

    Args:
        keys: the transformer's configuration.
        tokens: of one sample.
        global_batch_size: over all processes. The estimate does not depend on their number, so that all choose alike.
    """
    sizes: StepSizes = {
        "base_parameters": base_parameters,
        "trainable": trainable,
        "tokens": tokens,
        "hidden": keys["num_attention_heads"] * keys["attention_head_dim"],
        "num_layers": keys["num_layers"],
        "samples": min(global_batch_size, hardware.samples_per_forward),
        "compile": hardware.compile,
        "dora": dora,
        "bytes_a_weight": 2 if hardware.mixed_precision == "bf16" else 4,
        "checkpointing": [hardware.checkpointing] * keys["num_layers"],
    }
    if hardware.checkpointing == "auto":
        budget = hardware.memory_gb and USABLE_MEMORY * hardware.memory_gb
        sizes["checkpointing"] = choose_checkpointing(sizes, budget)
    return sizes
