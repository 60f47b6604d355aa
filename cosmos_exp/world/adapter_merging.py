"""Merge an adapter into a copy of its base model: a diffusers folder for tools that know no adapters, DoRA or alpha."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from diffusers import CosmosTransformer3DModel
from safetensors import safe_open

from cosmos_exp.config.adapter_file import AdapterFile, read_adapter
from cosmos_exp.errors import UserError
from cosmos_exp.files import atomic_folder, file_sha256, write_json
from cosmos_exp.text import one_line
from cosmos_exp.world.adapter import load_adapter, merge
from cosmos_exp.world.loading import check_loaded
from cosmos_exp.world.model_folder import COMPONENTS, RANDOM_MARK, ModelFolder

MERGED_RECORD = "merged_adapter.json"
TRANSFORMER = "transformer"
TOP_FILES = ("model_index.json", RANDOM_MARK, "LICENSE*", "NOTICE*")  # that are copied besides the components
_TYPES = {"F32": torch.float32, "BF16": torch.bfloat16, "F16": torch.float16}


@dataclass(frozen=True)
class MergedModel:
    """A folder with a merged adapter.

    layers: number of merged layers.
    dtypes: of the transformer's tensors, e.g. (bfloat16,).
    rounding: root of the sum of squares of the rounding errors of the merged weights, relative to that of the update; 0
        if the merged weights are stored in fp32.
    """

    folder: Path
    layers: int
    dtypes: tuple[str, ...]
    rounding: float


def merge_adapter(
    file: Path,
    base: ModelFolder,
    out: Path,
    dtype: torch.dtype | None = None,
    link: bool = False,
    alpha: float | None = None,
) -> MergedModel:
    """Write the base model's folder with the adapter merged into the transformer. The sums are computed in fp32.

    Args:
        file: the adapter file.
        base: the model that the adapter was trained on.
        out: the new folder. It appears complete or not at all.
        dtype: of the transformer's tensors; None: each as the base stores it.
        link: link to the base's other components instead of copying them.
        alpha: for files that do not record it.

    Raises:
        UserError: `out` exists, the adapter was trained on another transformer or does not fit it, or it has biases,
            which diffusers' transformer cannot hold.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"--out {out}: exists already. Choose a new folder.")
    adapter = read_adapter(file, alpha)
    check_base(adapter, base)
    stored = _stored_types(base.path / TRANSFORMER)
    _check_biases(adapter, stored)
    with atomic_folder(out) as work:
        _copy_rest(base.path, work, link)
        wanted = stored if dtype is None else dict.fromkeys(stored, dtype)
        rounding = _merge_transformer(file, alpha, base, work / TRANSFORMER, stored, wanted)
        names = tuple(sorted({str(t).removeprefix("torch.") for t in wanted.values()}))
        merged = MergedModel(out, len(adapter.layers), names, rounding)
        _write_record(merged, adapter, base, work / MERGED_RECORD)
    return merged


def check_base(adapter: AdapterFile, base: ModelFolder) -> None:
    """Check that an adapter was trained on this transformer. A file without a record passes.

    Raises:
        UserError: it was trained on another one.
    """
    trained = adapter.record.get("fingerprints", {}).get(TRANSFORMER)
    if not trained:
        return
    fingerprint = base.fingerprint(TRANSFORMER)
    if trained != fingerprint:
        raise UserError(
            f"{adapter.file} was trained on {one_line(adapter.record.get('base_model'))} with the transformer {one_line(trained)}; "
            f"the one of {base.path} is {fingerprint}. Give the model that it was trained on: --model FOLDER"
        )


def _check_biases(adapter: AdapterFile, names: Collection[str]) -> None:
    """Refuse biases on layers that have none in the base: a plain transformer would drop them without an error."""
    lost = [layer for layer in adapter.biased if f"{layer}.bias" not in names]
    if lost:
        raise UserError(
            f"{adapter.file}: has biases on {len(lost)} layers (adapter.bias=true), e.g. {lost[0]}, where the model has "
            "none, so that a merged folder cannot hold them. Load the adapter file instead: pipe.load_lora_weights."
        )


def _stored_types(folder: Path) -> dict[str, torch.dtype]:
    """The type of every tensor in a component's files, by name."""
    found = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, "pt") as content:
            for name in content.keys():  # noqa: SIM118  # not a dictionary
                kind = content.get_slice(name).get_dtype()
                if kind not in _TYPES:
                    raise UserError(f"{file}: {name} has the type {kind}; known are {', '.join(_TYPES)}")
                found[name] = _TYPES[kind]
    if not found:
        raise UserError(f"{folder}: has no .safetensors files")
    return found


def _merge_transformer(
    file: Path,
    alpha: float | None,
    base: ModelFolder,
    out: Path,
    stored: dict[str, torch.dtype],
    wanted: dict[str, torch.dtype],
) -> float:
    """Load, merge and save the transformer. Returns the relative rounding error, as in `MergedModel`."""
    types = {*stored.values(), *wanted.values()}
    model, info = CosmosTransformer3DModel.from_pretrained(
        base.path / TRANSFORMER,
        torch_dtype=types.pop() if len(types) == 1 else torch.float32,
        output_loading_info=True,
        local_files_only=True,
    )
    check_loaded("the transformer", model, info)
    load_adapter(model.requires_grad_(False).eval(), file, alpha)
    lost = changed = 0.0

    def observe(layer: str, before: torch.Tensor, after: torch.Tensor) -> None:
        nonlocal lost, changed
        rounded = after.to(wanted[f"{layer}.weight"]).float()
        lost += (rounded - after).double().square().sum().item()
        changed += (after - before).double().square().sum().item()

    merge(model, observe=observe)
    model.unload_lora()
    for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
        if name in wanted:
            tensor.data = tensor.data.to(wanted[name])
    model.save_pretrained(out)
    shutil.copyfile(base.path / TRANSFORMER / "config.json", out / "config.json")  # diffusers' has this machine's paths
    return float((lost / changed) ** 0.5) if changed > 0 else 0.0


def _copy_rest(base: Path, out: Path, link: bool) -> None:
    """Copy, or link to, everything but the transformer."""
    for name in COMPONENTS:
        if name == TRANSFORMER:
            continue
        if link:
            (out / name).symlink_to((base / name).resolve(), target_is_directory=True)
        else:
            shutil.copytree(base / name, out / name)
    for pattern in TOP_FILES:
        for file in base.glob(pattern):
            shutil.copyfile(file, out / file.name)


def _write_record(merged: MergedModel, adapter: AdapterFile, base: ModelFolder, file: Path) -> None:
    entries = asdict(merged)
    del entries["folder"]
    entries["adapter"] = {"sha256": file_sha256(adapter.file), "record": adapter.record}
    entries["base_fingerprints"] = base.fingerprints()
    write_json(file, entries)
