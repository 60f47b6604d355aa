"""The linear layers of CosmosTransformer3DModel and the adapter's size, by arithmetic alone; no torch.

A wrong `adapter.target_modules` is reported before anything is imported, and a dry run works on any machine. A test
compares names and shapes with the real class on the meta device.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from cosmos_exp.config.schema import Adapter, Model
from cosmos_exp.errors import UserError

TransformerConfig = dict[str, Any]  # Any: diffusers' config.json, integers and floats by name
Layers = dict[str, tuple[int, int]]  # name -> (in_features, out_features)


def transformer_config(model: Model) -> TransformerConfig:
    """The transformer's configuration: a local folder's config.json, else the keys of `model.transformer`.

    Raises:
        UserError: the folder's config.json cannot be read.
    """
    keys = dict(vars(model.transformer))
    path = Path(model.source).expanduser() / "transformer" / "config.json"
    if model.source != "embedded" and path.is_file():
        try:
            own = json.loads(path.read_text())
        except ValueError as error:
            raise UserError(f"{path}: not valid JSON ({error}); Is the download complete?") from error
        keys.update({k: own[k] for k in keys if k in own})
    return keys


def linear_layers(config: TransformerConfig) -> Layers:
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


def matching(names: Iterable[str], target: str) -> list[str]:
    """The names that peft selects for a target module: the whole name, or its end after a dot."""
    return [n for n in names if n == target or n.endswith("." + target)]


def adapted_layers(config: TransformerConfig, targets: list[str]) -> Layers:
    """The linear layers that get an adapter, in the model's order."""
    layers = linear_layers(config)
    chosen = {n for t in targets for n in matching(layers, t)}
    return {n: s for n, s in layers.items() if n in chosen}


def unmatched_targets(model: Model, targets: list[str]) -> list[str]:
    """One message per target that matches no layer."""
    layers = linear_layers(transformer_config(model))
    ends = sorted({n.split(".", 2)[-1] if n.startswith("transformer_blocks.") else n for n in layers})
    if not targets:
        return [f"the list is empty; the layers are: {', '.join(ends)}"]
    return [
        f"{t!r} matches no linear layer; the layers are: {', '.join(ends)}" for t in targets if not matching(layers, t)
    ]


def trainable_parameters(layers: Layers, kind: str, rank: int, bias: bool = False) -> int:
    """Parameters of LoRA (A: rank x in, B: out x rank) or DoRA (also one length an output) on `layers`."""
    if kind == "none":
        return 0
    count = sum(rank * (i + o) for i, o in layers.values())
    count += sum(o for _, o in layers.values()) if kind == "dora" else 0
    return count + (sum(o for _, o in layers.values()) if bias else 0)


def update_scale(adapter: Adapter) -> float:
    """The factor of the update B A: alpha / rank, or alpha / sqrt(rank) with `scaling: rslora` (Kalajdzievski 2023)."""
    return adapter.alpha / (adapter.rank if adapter.scaling == "standard" else adapter.rank**0.5)
