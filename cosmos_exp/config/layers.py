"""The linear layers of CosmosTransformer3DModel and the adapter's size, by arithmetic alone; no torch.

A wrong `adapter.target_modules` is reported before anything is imported, and a dry run works on any machine. A test
compares names and shapes with the real class on the meta device.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from cosmos_exp.config.schema import Adapter, Model
from cosmos_exp.errors import UserError

TransformerConfig = dict[str, Any]  # Any: diffusers' config.json, integers and floats by name
Layers = dict[str, tuple[int, int]]  # name -> (in_features, out_features)
UNLIKE_LORA = ("full", "peft")  # kinds without A and B: rank, alpha and what else describes these is not theirs
MOST_SCALE = 1e4  # of alpha / rank (or alpha / sqrt(rank)): usual values lie between 0.1 and 100
Value = TypeVar("Value")


def transformer_config(model: Model) -> TransformerConfig:
    """The transformer's configuration: a local folder's config.json, else the keys of `model.transformer`.

    Raises:
        UserError: the folder's config.json cannot be read.
    """
    keys = dict(vars(model.transformer))
    path = Path(model.source).expanduser() / "transformer" / "config.json"
    if model.source == "embedded" or not path.is_file():
        return keys
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise UserError(f"{path}: not valid JSON ({error}); Is the download complete?") from error
    return {key: content.get(key, value) for key, value in keys.items()}


def linear_layers(config: TransformerConfig) -> Layers:
    """Name -> (in_features, out_features) of every linear layer of the transformer.

    Args:
        config: as from `transformer_config`, with `text_channels` for the prompt projection.
    """
    hidden = config["num_attention_heads"] * config["attention_head_dim"]
    inner, adaln, text = int(hidden * config["mlp_ratio"]), config["adaln_lora_dim"], config["text_embed_dim"]
    block = {}
    for norm in ("norm1", "norm2", "norm3"):
        block[f"{norm}.linear_1"] = (hidden, adaln)
        block[f"{norm}.linear_2"] = (adaln, 3 * hidden)
    for attention, source in (("attn1", hidden), ("attn2", text)):
        for name, width in (("to_q", hidden), ("to_k", source), ("to_v", source), ("to_out.0", hidden)):
            block[f"{attention}.{name}"] = (width, hidden)
    block["ff.net.0.proj"] = (hidden, inner)
    block["ff.net.2"] = (inner, hidden)
    layers = {
        "patch_embed.proj": ((config["in_channels"] + 1) * 4, hidden),
        "time_embed.t_embedder.linear_1": (hidden, hidden),
        "time_embed.t_embedder.linear_2": (hidden, 3 * hidden),
    }
    for number in range(config["num_layers"]):
        for name, size in block.items():
            layers[f"transformer_blocks.{number}.{name}"] = size
    layers["norm_out.linear_1"] = (hidden, adaln)
    layers["norm_out.linear_2"] = (adaln, 2 * hidden)
    layers["proj_out"] = (hidden, 4 * config["out_channels"])
    return layers


def layer_type(layer: str) -> str:
    """`attn1.to_q` for transformer_blocks.3.attn1.to_q; a name without a block's number is returned whole."""
    return re.sub(r"^.*?\.\d+\.", "", layer)


def by_type(layers: Iterable[str]) -> dict[str, list[str]]:
    """The layers of each type, both sorted."""
    types: dict[str, list[str]] = {}
    for layer in sorted(layers, key=lambda name: (layer_type(name), name)):
        types.setdefault(layer_type(layer), []).append(layer)
    return types


def matching(names: Iterable[str], target: str) -> list[str]:
    """The names that peft selects for a target module: the whole name, or its end after a dot."""
    return [n for n in names if n == target or n.endswith("." + target)]


def adapted_layers(config: TransformerConfig, targets: list[str]) -> Layers:
    """The linear layers that get an adapter, in the model's order."""
    layers = linear_layers(config)
    chosen: set[str] = set()
    for target in targets:
        chosen |= set(matching(layers, target))
    return {name: size for name, size in layers.items() if name in chosen}


def pattern_matches(pattern: str, layer: str) -> bool:
    """Whether a key of rank_pattern or alpha_pattern selects a layer: a regular expression for its name or the name's end.

    This is peft's rule (peft.utils.other.get_pattern_key, 0.17 to 0.21). It takes the first key that matches.
    """
    return re.match(rf"(.*\.)?({pattern})$", layer) is not None


def pattern_value(patterns: Mapping[str, Value], layer: str, default: Value) -> Value:
    """The value of the first pattern that selects a layer, else the default."""
    for pattern, value in patterns.items():
        if pattern_matches(pattern, layer):
            return value
    return default


def layer_ranks(layers: Iterable[str], adapter: Adapter) -> dict[str, int]:
    """The rank of each layer: adapter.rank_pattern's, else adapter.rank."""
    return {n: pattern_value(adapter.rank_pattern, n, adapter.rank) for n in layers}


def layer_scale(adapter: Adapter, layer: str) -> float:
    """The factor of a layer's update B A: alpha / rank, or alpha / sqrt(rank) with `scaling: rslora` (Kalajdzievski 2023)."""
    rank = pattern_value(adapter.rank_pattern, layer, adapter.rank)
    alpha = pattern_value(adapter.alpha_pattern, layer, adapter.alpha)
    return alpha / (rank if adapter.scaling == "standard" else rank**0.5)


def update_scale(adapter: Adapter) -> float:
    """`layer_scale` of the layers that no pattern selects."""
    return layer_scale(adapter.updated({"rank_pattern": {}, "alpha_pattern": {}}), "")


def pattern_labels(adapter: Adapter) -> list[str]:
    """`to_q r4`, `to_q a8`: the entries of rank_pattern and of alpha_pattern."""
    ranks = [f"{pattern} r{rank}" for pattern, rank in adapter.rank_pattern.items()]
    return ranks + [f"{pattern} a{alpha:g}" for pattern, alpha in adapter.alpha_pattern.items()]


def adapter_label(adapter: Adapter) -> str:
    """The short name of an adapter's recipe, which distinguishes the arms of a sweep.

    `base`, `full`, `oft`, `lora-r8`, `dora-r32`, `lora-r8-a16-rslora`: kind and rank, then what differs from alpha = rank.
    """
    if adapter.kind == "none":
        return "base"
    if adapter.kind in UNLIKE_LORA:
        name, rank = adapter.method or adapter.kind, adapter.options.get("r")
        return f"{name}-r{rank}" if rank else name
    words = [f"{adapter.kind}-r{adapter.rank}"]
    if adapter.init == "pissa":
        words.append(adapter.init)
    if adapter.alpha != adapter.rank:
        words.append(f"a{adapter.alpha:g}")
    if adapter.scaling == "rslora":
        words.append("rslora")
    return "-".join([*words, *pattern_labels(adapter)]).replace(" ", "-")


def trainable_parameters(layers: Layers, kind: str, ranks: Mapping[str, int], bias: bool = False) -> int:
    """Parameters of LoRA (A: rank x in, B: out x rank) or DoRA (also one length an output) on `layers`.

    Args:
        ranks: of the layers (`layer_ranks`).
    """
    if kind == "none":
        return 0
    count = 0
    for name, (size_in, size_out) in layers.items():
        count += ranks[name] * (size_in + size_out)
        count += size_out * ((kind == "dora") + bias)
    return count
