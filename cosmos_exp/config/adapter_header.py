"""Adapter files without torch: where they are, what their header records, and their tensors.

A file is in safetensors format: the header's length (eight bytes, little endian), the header (JSON), the data. The
header's metadata hold peft's configuration of the adapter, under diffusers' key, and our record of its training.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open

from cosmos_exp.config.adapter_format import check_entries, check_settings
from cosmos_exp.config.layers import Layers, pattern_value
from cosmos_exp.errors import UserError
from cosmos_exp.files import JsonObject
from cosmos_exp.run_folder import ADAPTER_FILE
from cosmos_exp.text import one_line

# Keys of the metadata.
LORA_METADATA_KEY = "lora_adapter_metadata"  # diffusers' name for peft's configuration
OWN_METADATA_KEY = "cosmos_exp"

PREFIX = "transformer."  # of every name in the file
A_SUFFIX, B_SUFFIX = ".lora_A.weight", ".lora_B.weight"
MAGNITUDE = "lora_magnitude_vector"

Array = NDArray[np.floating[Any]]  # Any: of any precision
_TYPES = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": np.uint16}


@dataclass(frozen=True)
class AdapterHeader:
    """What the header of an adapter file says.

    file: the adapter file.
    peft: peft's configuration of the adapter; None if the file has none (other tools).
    record: what it was trained on; empty for another tool's file.
    shapes: of each tensor, by peft's name without the prefix.
    dtypes: of each tensor, as safetensors names them (F32, BF16 …).
    assumed_alpha: alpha of a file that does not record it; None: each layer's rank, which diffusers assumes too.
    """

    file: Path
    peft: JsonObject | None
    record: JsonObject
    shapes: dict[str, tuple[int, ...]]
    dtypes: dict[str, str]
    assumed_alpha: float | None = None

    @property
    def layers(self) -> Layers:
        """Name -> (in_features, out_features) of every adapted layer, sorted."""
        names = sorted(k.removesuffix(A_SUFFIX) for k in self.shapes if k.endswith(A_SUFFIX))
        return {n: (self.shapes[n + A_SUFFIX][1], self.shapes[n + B_SUFFIX][0]) for n in names}

    @property
    def ranks(self) -> dict[str, int]:
        """The rank of every adapted layer: the rows of its A."""
        return {n: self.shapes[n + A_SUFFIX][0] for n in self.layers}

    @property
    def kind(self) -> str:
        """lora or dora."""
        return "dora" if any(MAGNITUDE in k for k in self.shapes) else "lora"

    @property
    def rslora(self) -> bool:
        """Whether the update is scaled by alpha / sqrt(rank) instead of alpha / rank."""
        return bool(self.peft and self.peft.get("use_rslora"))

    @property
    def alphas(self) -> dict[str, float]:
        """Alpha of every adapted layer."""
        if self.peft is None:
            return {n: float(r if self.assumed_alpha is None else self.assumed_alpha) for n, r in self.ranks.items()}
        pattern, default = self.peft.get("alpha_pattern") or {}, self.peft["lora_alpha"]
        return {n: float(pattern_value(pattern, n, default)) for n in self.ranks}

    @property
    def scales(self) -> dict[str, float]:
        """The factor s of the update s B A of every adapted layer."""
        alphas = self.alphas
        return {n: alphas[n] / (r**0.5 if self.rslora else r) for n, r in self.ranks.items()}


def find_adapter(path: Path) -> Path:
    """The adapter file at a path: the path itself, or the file in a folder, an adapter/ folder or a run folder.

    Raises:
        UserError: there is no adapter file.
    """
    for candidate in (path, path / ADAPTER_FILE, path / "adapter" / ADAPTER_FILE):
        if candidate.is_file():
            return candidate
    raise UserError(f"{path}: no adapter found; expected a .safetensors file or a folder with {ADAPTER_FILE}")


def read_header(file: Path, alpha: float | None = None) -> AdapterHeader:
    """The header of an adapter file.

    Args:
        alpha: for files without metadata.

    Raises:
        UserError: the file is not an adapter in diffusers' format, or it records another alpha.
    """
    entries, _ = _raw_header(file)
    metadata = entries.pop("__metadata__", {})
    try:
        packed = json.loads(metadata[LORA_METADATA_KEY]) if LORA_METADATA_KEY in metadata else None
        own = json.loads(metadata.get(OWN_METADATA_KEY, "{}"))
    except (ValueError, RecursionError) as error:
        raise UserError(f"{file}: its metadata is not valid JSON ({error})") from error
    peft = {k.removeprefix(PREFIX): v for k, v in packed.items()} if isinstance(packed, dict) else packed
    check_settings(file, peft, own)
    header = AdapterHeader(
        file,
        peft,
        own,
        {peft_name(k): tuple(v["shape"]) for k, v in entries.items()},
        {peft_name(k): v["dtype"] for k, v in entries.items()},
        alpha,
    )
    if header.peft is not None and alpha not in (None, header.peft["lora_alpha"]):
        raise UserError(
            f"--alpha {alpha:g}: {file} records alpha {header.peft['lora_alpha']}. Leave --alpha out for this file."
        )
    _check_pairs(header)
    return header


def read_tensors(file: Path) -> dict[str, Array]:
    """The tensors by peft's name without the prefix; bfloat16, which numpy does not know, as float32."""
    entries, start = _raw_header(file)
    entries.pop("__metadata__", None)
    data = np.memmap(file, np.uint8, "r", offset=start) if entries else np.empty(0, np.uint8)
    tensors = {}
    for name, entry in entries.items():
        if entry["dtype"] not in _TYPES:
            raise UserError(f"{file}: {name} has the type {entry['dtype']}; known are {', '.join(_TYPES)}")
        first, last = entry["data_offsets"]
        flat = np.frombuffer(data[first:last].tobytes(), _TYPES[entry["dtype"]])
        if entry["dtype"] == "BF16":  # bfloat16 is the upper half of a float32
            flat = (flat.astype(np.uint32) << 16).view(np.float32)
        tensors[peft_name(name)] = flat.reshape(entry["shape"])
    return tensors


def peft_name(name: str) -> str:
    """A tensor's name without the prefix, and with lora_A and lora_B for diffusers' older names."""
    name = name.removeprefix(PREFIX)
    return name.replace(".lora.down.", ".lora_A.").replace(".lora.up.", ".lora_B.")


def layer_type(layer: str) -> str:
    """`attn1.to_q` for transformer_blocks.3.attn1.to_q; a name without a block's number is returned whole."""
    parts = layer.split(".")
    digits = [i for i, p in enumerate(parts) if p.isdigit()]
    return ".".join(parts[digits[0] + 1 :]) if digits else layer


def by_type(layers: Iterable[str]) -> dict[str, list[str]]:
    """The layers of each type, both sorted."""
    found: dict[str, list[str]] = {}
    for layer in sorted(layers):
        found.setdefault(layer_type(layer), []).append(layer)
    return dict(sorted(found.items()))


def _raw_header(file: Path) -> tuple[JsonObject, int]:
    """The header's entries, and where the data begins."""
    try:
        with file.open("rb") as content:
            size = int.from_bytes(content.read(8), "little")
            if not 0 < size < file.stat().st_size:
                raise ValueError("no safetensors header")
            entries = json.loads(content.read(size))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(
            f"{file}: cannot be read as an adapter ({error}). Copy it again, or name another file."
        ) from error
    check_entries(file, entries, file.stat().st_size - 8 - size)
    try:
        with safe_open(file, framework="numpy"):  # what the libraries that load the file require
            pass
    except (SafetensorError, OSError) as error:
        raise UserError(f"{file}: cannot be read as an adapter ({one_line(error)}). Copy the file again.") from error
    return dict(entries), 8 + size


def _check_pairs(header: AdapterHeader) -> None:
    """Check that the file has A tensors, and for each of them a B of the same rank."""
    downs = [k for k in header.shapes if k.endswith(A_SUFFIX)]
    if not downs:
        raise UserError(f"{header.file}: has no lora_A tensors; is it an adapter in diffusers format?")
    for down in downs:
        a, b = header.shapes[down], header.shapes.get(down.removesuffix(A_SUFFIX) + B_SUFFIX)
        if b is None or len(a) != 2 or len(b) != 2 or a[0] != b[1]:
            raise UserError(f"{header.file}: {down} has the shape {a}, its lora_B {b}; expected (r, in) and (out, r)")
        if not all((*a, *b)):
            raise UserError(
                f"{header.file}: {down} has the shape {a}, its lora_B {b}: an empty tensor. Make the file again."
            )
