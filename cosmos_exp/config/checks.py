"""What the keys of several groups allow together, by arithmetic: sizes of the model's layers, tiles of the cameras."""

from __future__ import annotations

from collections.abc import Iterator

from pydantic import ValidationError

from cosmos_exp.config.layers import (
    MOST_SCALE,
    adapted_layers,
    layer_ranks,
    layer_scale,
    pattern_problems,
    transformer_config,
    unmatched_targets,
)
from cosmos_exp.config.schema import Adapter, Config, Model, Transformer
from cosmos_exp.config.tiling import tile_size
from cosmos_exp.errors import UserError


def check(config: Config) -> None:
    """Check what pydantic's types and ranges cannot.

    Raises:
        UserError: it names the key, and what to set.
    """
    data = config.data
    if data.reader != "gr1_100" and not data.path and not data.builder:
        raise UserError("data.path: not set. Give the folder of your data: data.path=DIR")
    if data.cameras:
        tile_size(data)
    _check_model_folder(config.model)
    missing = unmatched_targets(config.model, config.adapter.target_modules)
    problems = [f"adapter.target_modules: {m}" for m in missing] or pattern_problems(config.model, config.adapter)
    problems = problems or list(_size_problems(config.model, config.adapter))
    if problems:
        raise UserError("\n".join(problems))


def _check_model_folder(model: Model) -> None:
    """The sizes in a model folder's transformer/config.json, which take precedence over the keys."""
    try:
        Transformer.model_validate(transformer_config(model), strict=True)
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(map(str, problem["loc"]))
        raise UserError(
            f"{model.source}/transformer/config.json: {key}={problem['input']}: {problem['msg']}. Use the file that came with the "
            "weights."
        ) from error


def _size_problems(model: Model, adapter: Adapter) -> Iterator[str]:
    """A rank above a layer's width, or a scale that no adapter file may have: one message for the first layer of each."""
    if adapter.kind == "none":
        return
    layers = adapted_layers(transformer_config(model), adapter.target_modules)
    ranks = layer_ranks(layers, adapter)
    for name, (inside, outside) in layers.items():
        if ranks[name] > min(inside, outside):
            key = "rank" if ranks[name] == adapter.rank else "rank_pattern"
            yield (
                f"adapter.{key}={ranks[name]}: {name} has {inside} inputs and {outside} outputs, so its update has at most rank "
                f"{min(inside, outside)}. Lower adapter.{key}."
            )
            return
    for name in layers:
        if layer_scale(adapter, name) > MOST_SCALE:
            yield (
                f"adapter.alpha={adapter.alpha:g}: gives {name} the scale {layer_scale(adapter, name):.3g}; it must be at most "
                f"{MOST_SCALE:g}. Lower adapter.alpha."
            )
            return
