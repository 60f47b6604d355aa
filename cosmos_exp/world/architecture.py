"""CosmosTransformer3DModel's linear layers, sizes and costs by arithmetic alone; no torch.

So a wrong `adapter.target_modules` is told in a blink, and a plan can be printed on any machine. A test holds the
names and shapes against the real class on the meta device.
"""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

from cosmos_exp.errors import UserError


def transformer_config(model: Any) -> dict[str, Any]:
    """The transformer's configuration: a local folder's own config.json, else the keys of `model.transformer`.

    Raises:
        UserError: the folder's config.json cannot be read.
    """
    keys = dict(vars(model.transformer))
    path = Path(model.source).expanduser() / "transformer" / "config.json"
    if model.source != "embedded" and path.is_file():
        try:
            own = json.loads(path.read_text())
        except ValueError as error:
            raise UserError(f"{path}: not valid JSON ({error}); is the download complete?") from error
        keys.update({k: own[k] for k in keys if k in own})
    return keys


def linear_layers(config: dict[str, Any]) -> dict[str, tuple[int, int]]:
    """Name -> (in_features, out_features) of every linear layer of the transformer.

    Args:
        config: as from `transformer_config`, with `text_channels` for the prompt projection.
    """
    hidden = config["num_attention_heads"] * config["attention_head_dim"]
    inner, adaln, text = int(hidden * config["mlp_ratio"]), config["adaln_lora_dim"], config["text_embed_dim"]
    layers = {"patch_embed.proj": ((config["in_channels"] + 1) * 4, hidden)}
    layers |= {"time_embed.t_embedder.linear_1": (hidden, hidden)}
    layers |= {"time_embed.t_embedder.linear_2": (hidden, 3 * hidden)}
    for block in range(config["num_layers"]):
        at = f"transformer_blocks.{block}."
        for norm in ("norm1", "norm2", "norm3"):
            layers |= {f"{at}{norm}.linear_1": (hidden, adaln), f"{at}{norm}.linear_2": (adaln, 3 * hidden)}
        for name, source in (("attn1", hidden), ("attn2", text)):
            layers |= {f"{at}{name}.to_q": (hidden, hidden), f"{at}{name}.to_k": (source, hidden)}
            layers |= {f"{at}{name}.to_v": (source, hidden), f"{at}{name}.to_out.0": (hidden, hidden)}
        layers |= {f"{at}ff.net.0.proj": (hidden, inner), f"{at}ff.net.2": (inner, hidden)}
    layers |= {"norm_out.linear_1": (hidden, adaln), "norm_out.linear_2": (adaln, 2 * hidden)}
    return layers | {"proj_out": (hidden, 4 * config["out_channels"])}


def matching(names: Any, target: str) -> list[str]:
    """Names that peft's rule for a list of target modules picks: the whole name or its end after a dot."""
    return [n for n in names if n == target or n.endswith("." + target)]


def adapted_layers(config: dict[str, Any], targets: list[str]) -> dict[str, tuple[int, int]]:
    """The linear layers that get an adapter, in the model's order."""
    layers = linear_layers(config)
    chosen = {n for t in targets for n in matching(layers, t)}
    return {n: s for n, s in layers.items() if n in chosen}


def unmatched_targets(model: Any, targets: list[str]) -> list[str]:
    """A sentence for each target that picks no layer."""
    layers = linear_layers(transformer_config(model))
    ends = sorted({n.split(".", 2)[-1] if n.startswith("transformer_blocks.") else n for n in layers})
    if not targets:
        return [f"the list is empty; layers there are: {', '.join(ends)}"]
    return [f"{t!r} matches no linear layer; there are: {', '.join(ends)}" for t in targets if not matching(layers, t)]


def trainable_parameters(layers: dict[str, tuple[int, int]], kind: str, rank: int, bias: bool = False) -> int:
    """Parameters of LoRA (A: rank x in, B: out x rank) or DoRA (also one length an output) on `layers`."""
    if kind == "none":
        return 0
    count = sum(rank * (i + o) for i, o in layers.values())
    count += sum(o for _, o in layers.values()) if kind == "dora" else 0
    return count + (sum(o for _, o in layers.values()) if bias else 0)


def latent_shape(z_dim: int, num_frames: int, height: int, width: int) -> tuple[int, int, int, int]:
    """(channels, frames, rows, columns) of a clip's latent at the VAE's 4x8x8 compression."""
    return z_dim, (num_frames - 1) // 4 + 1, height // 8, width // 8


def num_tokens(shape: tuple[int, int, int, int]) -> int:
    """Tokens of a latent under 1x2x2 patches."""
    return shape[1] * (shape[2] // 2) * (shape[3] // 2)


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
        "base_parameters": base_parameters, "trainable": trainable, "tokens": tokens,
        "hidden": keys["num_attention_heads"] * keys["attention_head_dim"], "num_layers": keys["num_layers"],
        "samples": min(batch, hardware.samples_per_forward), "compile": hardware.compile, "dora": dora,
        "bytes_a_weight": 2 if hardware.mixed_precision == "bf16" else 4,
    }  # fmt: skip
    if hardware.checkpointing == "auto":
        budget = hardware.memory_gb and MEMORY_SHARE * hardware.memory_gb
        return plan | {"checkpointing": choose_checkpointing(plan, budget)}
    return plan | {"checkpointing": [hardware.checkpointing] * plan["num_layers"]}


MEMORY_SHARE = (
    0.8  # of a device's memory is planned with; the rest is for fragments, workspaces and the estimate's error
)


def training_flops(
    keys: dict[str, Any], shape: tuple[int, int, int, int], text_tokens: int, layers: dict, rank: int
) -> float:
    """Floating-point operations that one training sample cannot do without: forward and backward, nothing computed twice.

    Two a multiplication and addition. Frozen weights need a gradient for their input only, so a linear layer's backward
    costs as much as its forward; attention's costs twice its forward; an adapter's three times in all. Norms,
    activations and the modulations (one row a frame) are left out: under 1 % together.

    Args:
        keys: the transformer's configuration.
        shape: latent (C, T, H, W).
        layers: adapted layers, name -> (in, out).
    """
    tokens, hidden = num_tokens(shape), keys["num_attention_heads"] * keys["attention_head_dim"]
    linear = 0
    for name, (wide, out) in linear_layers(keys).items():
        if name.startswith("transformer_blocks.") and ".norm" not in name:
            rows = text_tokens if name.endswith(("attn2.to_k", "attn2.to_v")) else tokens
            linear += 2 * rows * wide * out
    attention = keys["num_layers"] * 4 * tokens * (tokens + text_tokens) * hidden
    adapter = sum(
        6 * (text_tokens if n.endswith(("attn2.to_k", "attn2.to_v")) else tokens) * rank * (i + o)
        for n, (i, o) in layers.items()
    )
    return float(2 * linear + 3 * attention + adapter)


# Dense bf16 matrix rates of vendors' data sheets, FLOP/s; the first name found in the device's wins.
PEAK_FLOPS = {
    "B200": 2250e12, "H200": 989e12, "H100 PCIe": 756e12, "H100": 989e12, "A100": 312e12, "L40S": 362e12, "RTX 4090": 165e12,
    "RTX 3090": 71e12, "A6000": 155e12,
}  # fmt: skip


def peak_flops(device_name: str) -> float | None:
    """A GPU's dense bf16 rate, or None where it is not known."""
    return next((rate for name, rate in PEAK_FLOPS.items() if name in device_name), None)
