"""The short name of an adapter's recipe, which sets the arms of a sweep apart."""

from __future__ import annotations

from cosmos_exp.config.layers import pattern_labels
from cosmos_exp.config.schema import Adapter


def adapter_label(adapter: Adapter) -> str:
    """`base`, `lora-r8`, `dora-r32`, `lora-r8-a16-rslora`: kind and rank, then what differs from alpha = rank."""
    if adapter.kind == "none":
        return "base"
    words = [f"{adapter.kind}-r{adapter.rank}"]
    words += [f"a{adapter.alpha:g}"] if adapter.alpha != adapter.rank else []
    words += ["rslora"] if adapter.scaling == "rslora" else []
    words += [label.replace(" ", "-") for label in pattern_labels(adapter)]
    return "-".join(words)
