"""Choices and ranges that schema.py writes beside each key, and what the model's sizes allow an adapter to be."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Iterator, Mapping
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from cosmos_exp.config.layers import MOST_SCALE, adapted_layers, layer_ranks, layer_scale, transformer_config
from cosmos_exp.config.registry import unknown_name
from cosmos_exp.config.schema import Adapter, Model, Transformer

_LIMITS: dict[str, tuple[str, Callable[[float, float], bool]]] = {
    "gt": ("greater than", lambda value, limit: value > limit),
    "ge": ("at least", lambda value, limit: value >= limit),
    "le": ("at most", lambda value, limit: value <= limit),
}


def limit_problems(node: object, where: str = "") -> Iterator[str]:
    """One message per value outside of its choices or range. NaN and infinity are outside of every range.

    Args:
        node: a dataclass of the schema. The limits of a key hold for each number of a list or mapping, too.
        where: its key with a final dot; empty for the whole configuration.
    """
    for f in dataclasses.fields(node):  # type: ignore[arg-type]  # a dataclass of the schema
        value, name, limits = getattr(node, f.name), f"{where}{f.name}", f.metadata
        if dataclasses.is_dataclass(value):
            yield from limit_problems(value, name + ".")
        elif value is not None:
            if "choices" in limits and value not in limits["choices"]:
                yield f"{name}={value}: choose one of {', '.join(limits['choices'])}"
            if "registry" in limits and value not in limits["registry"].names:
                yield f"{name}={value}: {unknown_name(str(value), limits['registry'].names)}"
            for key, number in _numbers(name, value):
                yield from _number_problems(key, number, limits)


def element_problems(node: object, where: str = "") -> Iterator[str]:
    """One message per list or mapping that holds an entry of another type: OmegaConf lets a list in a list pass.

    Args:
        node, where: as in `limit_problems`.
    """
    hints = get_type_hints(type(node))
    for f in dataclasses.fields(node):  # type: ignore[arg-type]  # a dataclass of the schema
        value, name = getattr(node, f.name), f"{where}{f.name}"
        if dataclasses.is_dataclass(value):
            yield from element_problems(value, name + ".")
        elif isinstance(value, (list, dict)) and not _fits(value, hints[f.name]):
            kind = str(f.type).replace("dict", "mapping").partition(" |")[0]
            yield f"{name}={str(value)[:60]}: an entry has another type. It must be a {kind}."


def _fits(value: object, hint: Any) -> bool:  # Any: a type, or what typing makes of one
    origin, inside = get_origin(hint), get_args(hint)
    if origin is list:
        return isinstance(value, list) and all(_fits(v, inside[0]) for v in value)
    if origin is dict:
        return isinstance(value, dict) and all(_fits(k, inside[0]) and _fits(v, inside[1]) for k, v in value.items())
    if origin in (Union, UnionType):
        return any(_fits(value, each) for each in inside)
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    return hint is Any or (isinstance(value, hint) and not (hint is int and isinstance(value, bool)))


def _numbers(name: str, value: object) -> Iterator[tuple[str, float]]:
    """Every number in a value, with its key."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        yield name, value
    elif isinstance(value, Mapping):
        for key, part in value.items():
            yield from _numbers(f"{name}.{key}", part)
    elif isinstance(value, (list, tuple)):
        for number, part in enumerate(value):
            yield from _numbers(f"{name}[{number}]", part)


def _number_problems(name: str, value: float, limits: Mapping[str, float]) -> Iterator[str]:
    if not math.isfinite(value):
        yield f"{name}={value}: must be a finite number"
        return
    for kind, (words, holds) in _LIMITS.items():
        if kind in limits and not holds(value, limits[kind]):
            yield f"{name}={value}: must be {words} {limits[kind]}"


def folder_problems(model: Model) -> Iterator[str]:
    """What is wrong with the sizes in a model folder's transformer/config.json, which take precedence over the keys."""
    keys, file = transformer_config(model), f"{model.source}/transformer/config.json"
    wrong = [k for k, v in keys.items() if isinstance(v, bool) or not isinstance(v, (int, float))]
    wrong += [k for k, v in keys.items() if isinstance(v, float) and k != "mlp_ratio"]
    if wrong:
        yield f"{file}: {', '.join(wrong)}: not a whole number. Use the file that came with the weights."
    else:
        yield from (f"{file}: {problem}" for problem in limit_problems(Transformer(**keys)))


def size_problems(model: Model, adapter: Adapter) -> Iterator[str]:
    """A rank above a layer's width, or a scale that no adapter file may have: one message for the first layer of each."""
    if adapter.kind == "none":
        return
    layers = adapted_layers(transformer_config(model), adapter.target_modules)
    ranks = layer_ranks(layers, adapter)
    wide = next((n for n, size in layers.items() if ranks[n] > min(size)), None)
    if wide:
        inside, outside = layers[wide]
        key = "rank" if ranks[wide] == adapter.rank else "rank_pattern"
        yield (
            f"adapter.{key}={ranks[wide]}: {wide} has {inside} inputs and {outside} outputs, so its update has at most rank "
            f"{min(layers[wide])}. Lower adapter.{key}."
        )
    large = next((n for n in layers if layer_scale(adapter, n) > MOST_SCALE), None)
    if large and not wide:
        yield (
            f"adapter.alpha={adapter.alpha:g}: gives {large} the scale {layer_scale(adapter, large):.3g}; it must be at "
            f"most {MOST_SCALE:g}. Lower adapter.alpha."
        )
