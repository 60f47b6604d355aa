"""Adapter files that must not make a video: broken, absurd, incomplete, of another model."""

from __future__ import annotations

import functools
import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from corpus.cases import Case

RANK = 2
TARGETS = ["to_q", "to_v"]


@functools.cache
def good() -> bytes:
    """An adapter of the embedded model, as a run writes it."""
    from cosmos_exp.config.adapter_file import write_adapter
    from cosmos_exp.config.composing import compose_config
    from cosmos_exp.config.layers import adapted_layers, transformer_config

    layers = adapted_layers(transformer_config(compose_config([]).model), TARGETS)
    random = np.random.default_rng(0)
    tensors = {}
    for name, (inside, outside) in layers.items():
        tensors[f"{name}.lora_A.weight"] = random.normal(0, 0.1, (RANK, inside)).astype(np.float32)
        tensors[f"{name}.lora_B.weight"] = random.normal(0, 0.1, (outside, RANK)).astype(np.float32)
    peft = {"peft_type": "LORA", "r": RANK, "lora_alpha": 4.0, "target_modules": TARGETS, "use_dora": False}
    with tempfile.TemporaryDirectory() as folder:
        return write_adapter(Path(folder), tensors, peft, {"base_model": "tabletop"}).read_bytes()


def parts(content: bytes) -> tuple[dict[str, Any], bytes]:
    """Header and data of a safetensors file."""
    size = int.from_bytes(content[:8], "little")
    return json.loads(content[8 : 8 + size]), content[8 + size :]


def joined(header: object, data: bytes) -> bytes:
    """A safetensors file of a header and data."""
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + data


def with_peft(changes: Mapping[str, object]) -> bytes:
    """The good file with other entries in peft's configuration."""
    header, data = parts(good())
    packed = json.loads(header["__metadata__"]["lora_adapter_metadata"])
    packed |= {f"transformer.{k}": v for k, v in changes.items()}
    header["__metadata__"]["lora_adapter_metadata"] = json.dumps(packed)
    return joined(header, data)


def with_value(value: float) -> bytes:
    """The good file with one other value in a tensor."""
    header, data = parts(good())
    name = next(k for k in sorted(header) if k.endswith("lora_B.weight"))
    at = header[name]["data_offsets"][0]
    return joined(header, data[:at] + np.float32(value).tobytes() + data[at + 4 :])


def with_entry(**changes: object) -> bytes:
    """The good file with another entry of one tensor."""
    header, data = parts(good())
    header[next(k for k in sorted(header) if k.endswith("lora_A.weight"))] |= changes
    return joined(header, data)


def with_record(**entries: object) -> bytes:
    """The good file with other entries in the record of its training."""
    header, data = parts(good())
    header["__metadata__"]["cosmos_exp"] = json.dumps({"base_model": "tabletop"} | entries)
    return joined(header, data)


def with_metadata(text: str) -> bytes:
    """The good file with another text in place of peft's configuration."""
    header, data = parts(good())
    header["__metadata__"]["lora_adapter_metadata"] = text
    return joined(header, data)


def without_values() -> bytes:
    """A file of one layer whose tensors are empty."""
    entry = {"dtype": "F32", "data_offsets": [0, 0]}
    return joined({"x.lora_A.weight": entry | {"shape": [0, 4]}, "x.lora_B.weight": entry | {"shape": [4, 0]}}, b"")


def only(count: int) -> bytes:
    """The good file with the tensors of the first `count` layers."""
    header, data = parts(good())
    names = sorted({k.rpartition(".lora_")[0] for k in header if k != "__metadata__"})[:count]
    kept, values = {"__metadata__": header["__metadata__"]}, b""
    for name in (k for k in header if k.rpartition(".lora_")[0] in names):
        first, last = header[name]["data_offsets"]
        kept[name] = header[name] | {"data_offsets": [len(values), len(values) + last - first]}
        values += data[first:last]
    return joined(kept, values)


def renamed(old: str, new: str) -> bytes:
    """The good file with other names of tensors."""
    header, data = parts(good())
    return joined({k.replace(old, new): v for k, v in header.items()}, data)


def generated(content: Callable[[], bytes], *more: str) -> Callable[[Path], list[str]]:
    """`generate` with a good adapter first and the bad one second: no video of either is made."""

    def make(at: Path) -> list[str]:
        (at / "good.safetensors").write_bytes(good())
        (at / "bad.safetensors").write_bytes(content())
        (at / "prompts").mkdir()
        (at / "prompts" / "a.txt").write_text("Lift the cup.")
        (at / "prompts" / "a.png").write_bytes(b"")
        files = [str(at / "good.safetensors"), str(at / "bad.safetensors")]
        return ["generate", "--adapter", *files, "--prompts", str(at / "prompts"), "--out", str(at / "out"), *more]

    return make


def shown(content: Callable[[], bytes]) -> Callable[[Path], list[str]]:
    """`adapter info` of the bad one."""

    def make(at: Path) -> list[str]:
        (at / "bad.safetensors").write_bytes(content())
        return ["adapter", "info", str(at / "bad.safetensors")]

    return make


GENERATED = (
    "NaN",
    "alpha 1e30",
    "three tensors",
    "another model",
    "cut short",
)  # the others are refused by `adapter info`


def case(name: str, content: Callable[[], bytes], *words: str) -> Case:
    """A bad file, given to `generate` or to `adapter info`."""
    make = generated if name in GENERATED else shown
    return Case(name, make(content), 2, ("bad.safetensors", *words), ("\x1b",))


UNREADABLE = ("cannot be read as an adapter", "Copy it again")
ADAPTERS = (
    case("NaN", lambda: with_value(np.nan), "lora_B.weight", "1 of", "NaN or infinite"),
    case("infinity", lambda: with_value(np.inf), "lora_B.weight", "NaN or infinite"),
    *(
        case(f"alpha {v!r}", lambda v=v: with_peft({"lora_alpha": v}), "lora_alpha=", "should be")
        for v in (0, -4, "abc", None, True, [4], float("inf"), float("nan"), 10**400)
    ),
    case("alpha 1e30", lambda: with_peft({"lora_alpha": 1e30}), "alpha", "scale 5e+29", "at most 10000"),
    case(
        "alpha of a layer",
        lambda: with_peft({"alpha_pattern": {"to_q": -1}}),
        "alpha_pattern.to_q=-1",
        "greater than 0",
    ),
    case("no pattern", lambda: with_peft({"alpha_pattern": 3}), "alpha_pattern=3", "dictionary"),
    case("pattern", lambda: with_peft({"alpha_pattern": {"(": 4}}), "alpha_pattern is no regular expression"),
    case("rank", lambda: with_peft({"r": 0}), "r=0", "greater than 0"),
    case("rank of text", lambda: with_peft({"r": "\x1b[2J"}), "r=\\x1b[2J", "integer"),
    case("target modules", lambda: with_peft({"target_modules": 5}), "target_modules", "=5"),
    case(
        "initialisation that changes the base",
        lambda: with_peft({"init_lora_weights": "pissa"}),
        "init_lora_weights=pissa",
    ),
    case("three tensors", lambda: only(3), "holds 3 of", "layers that it says it adapts"),
    case(
        "another model",
        lambda: renamed("transformer_blocks.0.", "transformer_blocks.99."),
        "trained on another model",
        "transformer_blocks.99",
        "Choose the model",
    ),
    case("no tensors", lambda: only(0), "has no lora_A tensors"),
    case("empty tensors", without_values, "x has lora_A (0, 4)"),
    case("no partner", lambda: renamed("lora_B", "lora_A.default"), "lora_B ()"),
    case("other tensors", lambda: renamed("lora_A", "lora_C"), "lora_C.weight is no tensor of a LoRA or DoRA"),
    case("type", lambda: with_entry(dtype="F8_E5M2", shape=[1, 2], data_offsets=[0, 2]), "cannot be read"),
    case("metadata of numbers", lambda: with_metadata("5"), "its metadata is no JSON object"),
    case("metadata of text", lambda: with_metadata("{"), "its metadata is not valid JSON"),
    case("offsets", lambda: with_entry(data_offsets=[0, 10**12]), *UNREADABLE),
    case("cut short", lambda: good()[:-100], *UNREADABLE),
    case("empty", lambda: b"", *UNREADABLE),
    case("no safetensors", lambda: np.random.default_rng(1).bytes(500), *UNREADABLE),
    Case("markup", shown(lambda: with_record(base_model="[/red]\x1b[2J")), 0, ("[/red]\\x1b[2J",), ("\x1b",)),
)
