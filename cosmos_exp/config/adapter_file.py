"""Adapter files: what is read from one, and how one is written. No torch.

`read_adapter` is the one reader: generate, info, merge, truncate, export and publish get layers and scales from it. What
a file may hold, and in which spellings, is in `PREFIXES`, `PARTS`, `ALPHA_KEYS` and `PEFT_CONFIG`; anything else is refused
by name. Sources: the writers of diffusers, peft, kohya's sd-scripts, LyCORIS, musubi-tuner and SimpleTuner.

A file is in safetensors format: the header's length (eight bytes, little endian), the header (JSON), the data. The
header's metadata hold peft's configuration of the adapter, under diffusers' key, and our record of its training.
"""

from __future__ import annotations

import contextlib
import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, PositiveFloat, PositiveInt, TypeAdapter, ValidationError
from safetensors import SafetensorError, deserialize
from safetensors.numpy import save

from cosmos_exp.config.layers import MOST_SCALE, adapted_layers, linear_layers, pattern_value, transformer_config
from cosmos_exp.config.schema import Model, Pattern
from cosmos_exp.errors import UserError
from cosmos_exp.files import JsonObject, atomic_path, file_sha256, json_sha256, read_json
from cosmos_exp.run_folder import ADAPTER_FILE
from cosmos_exp.text import one_line

Array = NDArray[np.floating[Any]]  # Any: of any precision

# Keys of the metadata.
LORA_METADATA_KEY = "lora_adapter_metadata"  # diffusers' name for peft's configuration
OWN_METADATA_KEY = "cosmos_exp"

PREFIX = "transformer."  # of every name in a file that diffusers reads
PREFIXES = (PREFIX, "base_model.model.", "diffusion_model.", "module.", "model.")
COMPILED = "_orig_mod."  # anywhere in the names of a compiled module
# What the end of a tensor's name says it is. The first four are the names that are written.
PARTS = {
    ".lora_A.weight": "a",
    ".lora_B.weight": "b",
    ".lora_B.bias": "bias",
    ".lora_magnitude_vector": "magnitude",
    ".alpha": "alpha",  # of the layer, one number (kohya)
    ".lora_down.weight": "a",
    ".lora_up.weight": "b",
    ".dora_scale": "magnitude",  # (out, 1)
    ".magnitude": "magnitude",
    ".lora_magnitude_vector.weight": "magnitude",  # peft's adapter_model.safetensors
    ".lora.down.weight": "a",  # diffusers' older names
    ".lora.up.weight": "b",
}
# Inside a model peft's names hold that of the adapter: lora_A.default.weight, lora_A.default_0.weight.
ADAPTER_NAME = re.compile(r"(\.lora_(?:A|B|magnitude_vector))\.[^.]+(\.weight|\.bias)$")
ENDS = {part: end for end, part in list(PARTS.items())[:4]}  # the name that is written
ALPHA_KEYS = ("lora_alpha", "alpha", "network_alpha", "ss_network_alpha")  # of the header's metadata, for all layers
PEFT_FILE, PEFT_CONFIG = "adapter_model.safetensors", "adapter_config.json"  # what peft's save_pretrained writes
FULL_FILES = "diffusion_pytorch_model*.safetensors"  # of a full fine-tuning, as diffusers' save_pretrained writes it
RECORD_FILE = "cosmos_exp.json"  # our record of the training where no header holds it
TYPES = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": np.uint16}  # by safetensors' names


@dataclass(frozen=True)
class LayerAdapter:
    """An adapted layer: W + s B A; for DoRA each of its rows is then divided by its length and multiplied by a magnitude.

    a: A (rank, in). b: B (out, rank).
    alpha: of the layer. scale: s, alpha / rank or alpha / sqrt(rank).
    magnitude: (out,); None for LoRA.
    bias: (out,); None: the adapter has none.
    """

    a: Array
    b: Array
    alpha: float
    scale: float
    magnitude: Array | None = None
    bias: Array | None = None

    @property
    def rank(self) -> int:
        """The rows of A."""
        return len(self.a)


@dataclass(frozen=True)
class AdapterFile:
    """The content of an adapter file.

    layers: by the layer's name in diffusers' transformer, sorted.
    peft: peft's configuration; for a file that records none, what its tensors show.
    record: what it was trained on; empty for another tool's file.
    types: of its tensors, as safetensors names them (F32, BF16 …).
    alpha_recorded: False: alpha was given or assumed to be the rank, as diffusers does.
    """

    file: Path
    layers: dict[str, LayerAdapter]
    peft: JsonObject
    record: JsonObject
    types: tuple[str, ...]
    alpha_recorded: bool

    @property
    def kind(self) -> str:
        """lora, dora, full, or the name of another method of peft; the last two have no layers here."""
        if not self.layers:
            return kind_of(self.file)
        return "dora" if any(layer.magnitude is not None for layer in self.layers.values()) else "lora"

    @property
    def rslora(self) -> bool:
        """Whether the update is scaled by alpha / sqrt(rank) instead of alpha / rank."""
        return bool(self.peft.get("use_rslora"))

    @property
    def ranks(self) -> dict[str, int]:
        """The rank of every layer."""
        return {name: layer.rank for name, layer in self.layers.items()}

    @property
    def scales(self) -> dict[str, float]:
        """The factor s of the update s B A of every layer."""
        return {name: layer.scale for name, layer in self.layers.items()}

    @property
    def biased(self) -> list[str]:
        """The layers with a bias."""
        return [name for name, layer in self.layers.items() if layer.bias is not None]


def find_adapter(path: Path) -> Path:
    """The adapter file at a path: the path itself, or the file in a folder, an adapter/ folder or a run folder.

    Of a full fine-tuning it is the folder of its files.

    Raises:
        UserError: there is no adapter file.
    """
    if path.is_file():
        return path
    for folder in (path, path / "adapter"):
        for name in (ADAPTER_FILE, PEFT_FILE):
            if (folder / name).is_file():
                return folder / name
        if any(folder.glob(FULL_FILES)):
            return folder
    raise UserError(f"{path}: no adapter found; expected a .safetensors file or a folder with {ADAPTER_FILE}")


def kind_of(file: Path) -> str:
    """`full`, the method of an adapter of peft that is no LoRA, or `lora` for any other file.

    Args:
        file: from `find_adapter`.
    """
    if file.is_dir():
        return "full"
    beside = file.with_name(PEFT_CONFIG)
    if file.name == PEFT_FILE and beside.is_file():
        with contextlib.suppress(ValueError, AttributeError):  # `read_adapter` reports it
            return str(json.loads(beside.read_text()).get("peft_type", "LORA")).lower()
    return "lora"


def adapter_sha256(file: Path) -> str:
    """The hash of an adapter file; of a full fine-tuning that of all its files' hashes."""
    if file.is_dir():
        return json_sha256({part.name: file_sha256(part) for part in sorted(file.glob(FULL_FILES))})
    return file_sha256(file)


def open_adapter(file: Path, alpha: float | None = None, model: Model | None = None) -> AdapterFile:
    """`read_adapter`; of a full fine-tuning and of other methods of peft the record alone, without layers.

    Raises:
        UserError: as `read_adapter`, or the full fine-tuning is of another model.
    """
    kind = kind_of(file)
    if kind == "lora":
        return read_adapter(file, alpha, model)
    folder = file if kind == "full" else file.parent
    try:
        record = read_json(folder / RECORD_FILE) if (folder / RECORD_FILE).is_file() else {}
        content = read_json(folder / "config.json") if kind == "full" else {}
    except ValueError as error:
        raise UserError(f"{folder}: {error}. Copy it again.") from error
    if model:
        for key, value in transformer_config(model).items():
            if content.get(key, value) != value:
                raise UserError(
                    f"{folder}: was trained on another model: {key} is {one_line(content[key])} there, {value} in "
                    f"model={model.name}. Choose the model that it was trained on."
                )
    return AdapterFile(file, {}, {}, record, (), True)


def refuse_unlike_lora(file: Path) -> None:
    """Refuse what has no A and B, without reading its weights.

    Raises:
        UserError: the file is of another kind than LoRA and DoRA.
    """
    if kind_of(file) != "lora":
        raise UserError(
            f"{file}: is {kind_of(file)}, which has no A and B of a rank: only LoRA and DoRA can be truncated, exported and "
            "mixed. Merge it (cosmos-exp adapter merge), or cut a full fine-tuning with a run of adapter=lora and "
            "adapter.truncate_from."
        )


def read_adapter(file: Path, alpha: float | None = None, model: Model | None = None) -> AdapterFile:
    """Read and check the file of a LoRA or DoRA.

    Args:
        alpha: for files that do not record it; None: the rank of each layer.
        model: the model that it is for; None: that is not checked.

    Raises:
        UserError: the file cannot be read, is no LoRA or DoRA, holds NaN or another alpha than the given one, its scale
            is no usable number, or layers are missing or of another model.
    """
    refuse_unlike_lora(file)
    tensors, types, metadata = _read(file)
    peft, record = _settings(file, metadata)
    beside: JsonObject = {}
    config = file.with_name(PEFT_CONFIG)
    if config.is_file():
        beside, _ = _settings(config, {LORA_METADATA_KEY: config.read_bytes()})
    parts = parts_by_layer(file, tensors)
    places: dict[str, dict[str, float]] = {}
    for where, key, settings in (("metadata ", LORA_METADATA_KEY, peft), ("", PEFT_CONFIG, beside)):
        if settings:
            _check_settings(file, key, settings, parts)
            places[where + key] = _alphas_of(settings, parts)
    places[".alpha tensors"] = {name: float(part["alpha"].item()) for name, part in parts.items() if "alpha" in part}
    for key in ALPHA_KEYS:
        if key in metadata:
            places[f"metadata {key}"] = dict.fromkeys(parts, _positive(file, key, metadata[key]))
    recorded = any(places.values())
    if alpha is not None:
        places["--alpha"] = dict.fromkeys(parts, alpha)
    alphas = _agreed(file, places, parts)
    if not peft:
        peft = shown_settings(parts, alphas) | {"use_rslora": bool(beside.get("use_rslora"))}
    scaled = _alphas_of(peft, parts)
    layers = {name: _layer(file, name, parts[name], scaled[name], peft) for name in sorted(parts)}
    adapter = AdapterFile(file, layers, peft, record, types, recorded)
    if model is not None:
        _check_model(adapter, model)
    return adapter


def _read(file: Path) -> tuple[dict[str, Array], tuple[str, ...], JsonObject]:
    """The tensors by name, bfloat16, which numpy does not know, as float32; their types; the header's metadata."""
    try:
        content = file.read_bytes()
        entries = deserialize(content)  # type: ignore[no-untyped-call]  # safetensors gives it no types
        header, _ = split_file(content)
    except (OSError, SafetensorError, ValueError) as error:
        raise UserError(
            f"{file}: cannot be read as an adapter ({one_line(error)[:200]}). Copy it again, or name another file."
        ) from error
    tensors: dict[str, Array] = {}
    types = set()
    for name, entry in entries:
        kind = entry["dtype"]
        if kind not in TYPES:
            raise UserError(f"{file}: {one_line(name)} has the type {kind}; known are {', '.join(TYPES)}")
        values = np.frombuffer(entry["data"], TYPES[kind])
        if kind == "BF16":  # bfloat16 is the upper half of a float32
            values = (values.astype(np.uint32) << 16).view(np.float32)
        tensors[name] = values.reshape(entry["shape"])
        types.add(kind)
    return tensors, tuple(sorted(types)), header.get("__metadata__") or {}


_JSON_OBJECT = TypeAdapter(JsonObject)


class _Peft(BaseModel):
    """What is read of peft's configuration. `init_lora_weights`: others (pissa, olora, eva …) change the base."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)
    r: PositiveInt
    lora_alpha: PositiveFloat
    rank_pattern: dict[Pattern, PositiveInt] | None = None
    alpha_pattern: dict[Pattern, PositiveFloat] | None = None
    use_dora: bool | None = None
    use_rslora: bool | None = None
    lora_bias: bool | None = None
    target_modules: list[str] | str | None = None
    init_lora_weights: Literal[True, False, "gaussian", "orthogonal"] | None = None


def _settings(file: Path, metadata: JsonObject) -> tuple[JsonObject, JsonObject]:
    """peft's configuration (empty if the file has none), and our record of the training.

    Raises:
        UserError: it names the key: alpha is no positive number, a rank no whole number …
    """
    try:
        packed = _JSON_OBJECT.validate_json(metadata.get(LORA_METADATA_KEY, "{}"))
        record = _JSON_OBJECT.validate_json(metadata.get(OWN_METADATA_KEY, "{}"))
        peft = {key.removeprefix(PREFIX): value for key, value in packed.items()}
        if peft:
            _Peft.model_validate(peft)
    except ValidationError as error:
        first = error.errors()[0]
        key = one_line(".".join(map(str, first["loc"])))
        raise UserError(
            f"{file}: {key}={one_line(first['input'])[:40]} in its metadata: {first['msg']}. Make the file again."
        ) from error
    return peft, record


def _check_settings(file: Path, place: str, peft: JsonObject, parts: Mapping[str, Mapping[str, Array]]) -> None:
    """Check that the tensors have the ranks and the magnitudes that peft's configuration says.

    Raises:
        UserError: it names the layer.
    """
    if peft.get("use_dora") and not any("magnitude" in part for part in parts.values()):
        raise UserError(f"{file}: {place} says DoRA, and the file has no magnitudes. Make the file again.")
    for name, part in parts.items():
        rank = pattern_value(peft.get("rank_pattern") or {}, name, peft["r"])
        if rank != len(part["a"]):
            raise UserError(
                f"{file}: {one_line(name)} has rank {len(part['a'])}, and {place} says {rank}. Put the file beside its own configuration."
            )


def _positive(file: Path, key: str, text: object) -> float:
    """A number of the header's metadata, which are texts."""
    try:
        return TypeAdapter(PositiveFloat).validate_python(text)
    except ValidationError as error:
        raise UserError(
            f"{file}: {key}={one_line(text)[:40]} in its metadata: not an alpha. Make the file again."
        ) from error


def _alphas_of(peft: JsonObject, layers: Iterable[str]) -> dict[str, float]:
    """The alpha of each layer by peft's configuration."""
    patterns = peft.get("alpha_pattern") or {}
    return {name: float(pattern_value(patterns, name, peft["lora_alpha"])) for name in layers}


def _agreed(file: Path, places: Mapping[str, Mapping[str, float]], layers: Iterable[str]) -> dict[str, float]:
    """The alpha of each layer that all places in a file give; empty if no place has one.

    Raises:
        UserError: two places differ, or some layers have none.
    """
    alphas: dict[str, tuple[str, float]] = {}
    for place, given in places.items():
        for name, alpha in given.items():
            other, same = alphas.setdefault(name, (place, alpha))
            if other != place and same != alpha:
                raise UserError(
                    f"{file}: {one_line(name)} has alpha {same:g} by {other} and {alpha:g} by {place}. Find out which is right, "
                    "and leave out --alpha or make the file again."
                )
    missing = sorted(set(layers) - set(alphas))
    if alphas and missing:
        raise UserError(
            f"{file}: has an alpha for some layers, but none for {one_line(missing[0])}. Make the file again."
        )
    return {name: alpha for name, (_, alpha) in alphas.items()}


def parts_by_layer(file: Path, tensors: Mapping[str, Array]) -> dict[str, dict[str, Array]]:
    """The tensors of each layer by what they are (a, b, bias, magnitude).

    Raises:
        UserError: there is no adapter, or a tensor is no part of one, is broken or lacks its partner.
    """
    parts: dict[str, dict[str, Array]] = {}
    for name, values in tensors.items():
        layer, end = split_name(name)
        if layer.startswith("lora_unet_"):
            raise UserError(
                f"{file}: {one_line(name)[:80]}: kohya's names, with _ for each dot, do not say the layer. Convert it to diffusers' names."
            )
        if end is None:
            raise UserError(f"{file}: {one_line(name)[:80]} is no tensor of a LoRA or DoRA. Name another file.")
        wrong = values.size - int(np.isfinite(values).sum())
        if wrong:
            raise UserError(
                f"{file}: {one_line(name)} has {wrong} of {values.size} values that are NaN or infinite. Its training "
                "failed, or the file is damaged. Use another adapter."
            )
        if parts.setdefault(layer, {}).setdefault(PARTS[end], values) is not values:
            raise UserError(f"{file}: {one_line(layer)} has its {PARTS[end]} twice, in two spellings. Make it again.")
    if not parts:
        raise UserError(f"{file}: has no lora_A tensors; is it an adapter in diffusers format?")
    for layer, tensors_of_layer in parts.items():
        a, b = np.shape(tensors_of_layer.get("a", 0)), np.shape(tensors_of_layer.get("b", 0))
        if len(a) != 2 or len(b) != 2 or a[0] != b[1] or 0 in (*a, *b):
            raise UserError(
                f"{file}: {one_line(layer)} has lora_A {a} and lora_B {b}; expected (rank, in) and (out, rank). Make the "
                "file again."
            )
        magnitude = tensors_of_layer.get("magnitude")
        if magnitude is not None:
            if np.shape(magnitude) not in ((b[0],), (b[0], 1)):
                raise UserError(
                    f"{file}: {one_line(layer)} has a DoRA magnitude of {np.shape(magnitude)}; expected one number for each of its "
                    f"{b[0]} rows. Train with magnitudes per output (LyCORIS: wd_on_output)."
                )
            tensors_of_layer["magnitude"] = magnitude.reshape(-1)
        if np.size(tensors_of_layer.get("alpha", 0)) != 1:
            raise UserError(f"{file}: {one_line(layer)}.alpha is not one number. Make the file again.")
    magnitudes = sum("magnitude" in part for part in parts.values())
    if magnitudes not in (0, len(parts)):
        raise UserError(f"{file}: only {magnitudes} of {len(parts)} layers have a DoRA magnitude. Make the file again.")
    return parts


def split_name(name: str) -> tuple[str, str | None]:
    """The layer of a tensor, and the end of its name, which is in `PARTS`; None for the end of any other tensor."""
    plain = ADAPTER_NAME.sub(r"\1\2", name)
    for end in PARTS:
        if plain.endswith(end):
            layer = plain.removesuffix(end).replace(COMPILED, "")
            while layer.startswith(PREFIXES):
                layer = layer.partition(next(filter(layer.startswith, PREFIXES)))[2]
            return layer, end
    return name, None


def shown_settings(parts: Mapping[str, Mapping[str, Array]], alphas: Mapping[str, float] | None) -> JsonObject:
    """peft's configuration as far as the tensors show it.

    Args:
        parts: from `parts_by_layer`.
        alphas: of each layer; None: the rank of each.
    """
    kinds: set[str] = set().union(*parts.values())
    settings = {
        "peft_type": "LORA",
        "target_modules": sorted(parts),
        "use_dora": "magnitude" in kinds,
        "lora_bias": "bias" in kinds,
    }
    ranks = {layer: len(tensors["a"]) for layer, tensors in parts.items()}
    return settings | rank_settings(ranks, alphas or ranks)


def rank_settings(ranks: Mapping[str, int], alphas: Mapping[str, float]) -> JsonObject:
    """The entries of peft's configuration for a rank and an alpha of each layer: the most frequent, and patterns."""
    settings: JsonObject = {}
    # Alphas without the rounding of a product: 15.999999999999998 is 16.
    rounded = {layer: float(f"{alpha:.12g}") for layer, alpha in alphas.items()}
    for key, pattern, values in (("r", "rank_pattern", ranks), ("lora_alpha", "alpha_pattern", rounded)):
        counts = Counter(values.values())
        usual = min(counts, key=lambda value: (-counts[value], value))
        settings[key] = usual
        settings[pattern] = {f"^{name}": value for name, value in values.items() if value != usual}
    return settings


def _layer(file: Path, name: str, parts: Mapping[str, Array], alpha: float, peft: JsonObject) -> LayerAdapter:
    """A layer with its scale.

    Raises:
        UserError: its scale is not between 0 and `MOST_SCALE`.
    """
    rank = len(parts["a"])
    scale = alpha / (math.sqrt(rank) if peft.get("use_rslora") else rank)
    if not 0 < scale <= MOST_SCALE:
        raise UserError(
            f"{file}: alpha gives {one_line(name)} the scale {scale:.3g}; it must be above 0 and at most {MOST_SCALE:g}. "
            "Make the file again with another alpha."
        )
    return LayerAdapter(parts["a"], parts["b"], alpha, scale, parts.get("magnitude"), parts.get("bias"))


def _check_model(adapter: AdapterFile, model: Model) -> None:
    """Check that the file has the layers that it says, and that they are those of the model.

    Raises:
        UserError: layers are missing in the file, or the model does not have them at this size.
    """
    config = transformer_config(model)
    known = linear_layers(config)
    for name, layer in adapter.layers.items():
        size, has = (layer.a.shape[1], layer.b.shape[0]), known.get(name, "no such layer")
        if has != size:
            raise UserError(
                f"{adapter.file}: was trained on another model: {one_line(name)} has (in, out) {size} in the file; "
                f"model={model.name} has {has}. Choose the model that it was trained on."
            )
    peft = adapter.peft
    targets = peft.get("target_modules")
    some_layers_only = peft.get("exclude_modules") is not None or peft.get("layers_to_transform") is not None
    if not isinstance(targets, list) or some_layers_only:
        return
    missing = sorted(set(adapted_layers(config, targets)) - set(adapter.layers))
    if missing:
        count = len(adapter.layers)
        raise UserError(
            f"{adapter.file}: holds {count} of {count + len(missing)} layers that it says it adapts; {missing[0]} is "
            "missing. Copy the file again, or make it again."
        )


def tensors_of(layers: Mapping[str, LayerAdapter]) -> dict[str, Array]:
    """The tensors of layers by peft's names, without the prefix."""
    tensors: dict[str, Array] = {}
    for name, layer in layers.items():
        for part, end in ENDS.items():
            values = getattr(layer, part)
            if values is not None:
                tensors[name + end] = values
    return tensors


def write_adapter(directory: Path, tensors: Mapping[str, Array], peft: JsonObject, record: JsonObject) -> Path:
    """Write an adapter file atomically, in the format of diffusers' `save_lora_weights`.

    Args:
        directory: gets the file `ADAPTER_FILE`.
        tensors: by peft's name without the prefix; stored in fp32.
        peft: peft's configuration.
        record: what it was trained on and made from.

    Returns:
        the file.
    """
    target, packed = directory / ADAPTER_FILE, {}
    named = {f"{PREFIX}{name}": np.ascontiguousarray(values, np.float32) for name, values in tensors.items()}
    for key, value in peft.items():
        names = isinstance(value, (list, set)) and all(isinstance(entry, str) for entry in value)
        packed[f"{PREFIX}{key}"] = sorted(value) if names else value  # peft's target_modules may be a set
    metadata = {
        OWN_METADATA_KEY: json.dumps(record, default=str),
        "format": "pt",
        LORA_METADATA_KEY: json.dumps(packed, sort_keys=True),
    }
    header, data = split_file(save(named, metadata))
    with atomic_path(target) as temporary:
        # safetensors writes metadata in arbitrary order; in this one the same adapter gives the same bytes.
        temporary.write_bytes(join_file(header | {"__metadata__": metadata}, data))
    return target


def split_file(content: bytes) -> tuple[JsonObject, bytes]:
    """Header and data of a safetensors file."""
    end = 8 + int.from_bytes(content[:8], "little")
    return json.loads(content[8:end]), content[end:]


def join_file(header: JsonObject, data: bytes) -> bytes:
    """The inverse of `split_file`."""
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # the header is padded with spaces to a multiple of eight bytes
    return len(text).to_bytes(8, "little") + text + data
