"""Merge an adapter into a copy of its base model: a diffusers folder for tools that know no adapters, DoRA or alpha."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from diffusers import CosmosTransformer3DModel

from cosmos_exp.config.adapter_file import AdapterFile, adapter_sha256, open_adapter
from cosmos_exp.errors import UserError
from cosmos_exp.files import JsonObject, atomic_folder, write_json
from cosmos_exp.text import one_line
from cosmos_exp.world.adapter import apply
from cosmos_exp.world.loading import load_part, stored_tensors
from cosmos_exp.world.model_folder import COMPONENTS, RANDOM_MARK, ModelFolder

MERGED_RECORD = "merged_adapter.json"
TRANSFORMER = "transformer"
TOP_FILES = ("model_index.json", RANDOM_MARK, "LICENSE*", "NOTICE*")  # that are copied besides the components


def merge_adapter(
    file: Path, base: ModelFolder, out: Path, dtype: torch.dtype | None = None, alpha: float | None = None
) -> JsonObject:
    """Write the base model's folder with the adapter merged into the transformer. The sums are computed in fp32.

    Args:
        file: the adapter file, or the folder of a full fine-tuning.
        base: the model that the adapter was trained on.
        out: the new folder. It appears complete or not at all.
        dtype: of the transformer; None: that of the base.
        alpha: for files that do not record it.

    Returns:
        The content of `MERGED_RECORD`. rounding: root of the sum of squares of the rounding errors of the merged weights,
        relative to that of the update; 0 if they are stored in fp32.

    Raises:
        UserError: `out` exists, the adapter was trained on another transformer or does not fit it, or it has biases,
            which diffusers' transformer cannot hold.
    """
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"--out {out}: exists already. Choose a new folder.")
    adapter = open_adapter(file, alpha)
    check_base(adapter, base)
    with atomic_folder(out) as work:
        dtype, layers, rounding = _merge_transformer(adapter, alpha, base, work / TRANSFORMER, dtype)
        _copy_rest(base.path, work)
        record: JsonObject = {
            "layers": layers,
            "dtype": str(dtype).removeprefix("torch."),
            "rounding": rounding,
            "adapter": {"sha256": adapter_sha256(file), "record": adapter.record},
            "base_fingerprints": base.fingerprints(),
        }
        write_json(work / MERGED_RECORD, record)
    return record


def check_base(adapter: AdapterFile, base: ModelFolder) -> None:
    """Check that an adapter was trained on this transformer. A file without a record passes.

    Raises:
        UserError: it was trained on another one.
    """
    fingerprint = base.fingerprint(TRANSFORMER)
    trained = adapter.record.get("fingerprints", {}).get(TRANSFORMER, fingerprint)
    if trained != fingerprint:
        raise UserError(
            f"{adapter.file} was trained on {one_line(adapter.record.get('base_model'))} with the transformer {one_line(trained)}; "
            f"the one of {base.path} is {fingerprint}. Give the model that it was trained on: --model FOLDER"
        )


def _merge_transformer(
    adapter: AdapterFile, alpha: float | None, base: ModelFolder, out: Path, dtype: torch.dtype | None
) -> tuple[torch.dtype, int, float]:
    """Load, merge and save the transformer. Returns its type, the merged layers, and the error as in `merge_adapter`."""
    stored = _stored_type(base.path / TRANSFORMER)
    wanted = dtype or stored
    model = load_part(base, TRANSFORMER, CosmosTransformer3DModel, torch_dtype=torch.promote_types(stored, wanted))
    lost = [layer for layer in adapter.biased if model.get_submodule(layer).bias is None]
    if lost:  # a plain transformer would drop them without an error
        raise UserError(
            f"{adapter.file}: has biases on {len(lost)} layers (adapter.bias=true), e.g. {lost[0]}, where the model has "
            "none, so that a merged folder cannot hold them. Load the adapter file instead: pipe.load_lora_weights."
        )
    error = update = 0.0
    layers = 0

    def observe(layer: str, before: torch.Tensor, after: torch.Tensor) -> None:
        nonlocal error, update, layers
        layers += 1
        error += (after.to(wanted).float() - after).double().square().sum().item()
        update += (after - before).double().square().sum().item()

    apply(model, [(adapter.file, 1.0)], alpha, observe=observe)
    model.to(wanted).save_pretrained(out)
    shutil.copyfile(base.path / TRANSFORMER / "config.json", out / "config.json")  # diffusers' has this machine's paths
    return wanted, layers, (error / max(update, 1e-300)) ** 0.5


def _stored_type(folder: Path) -> torch.dtype:
    """The type of the tensors in a component's files."""
    for _, read in stored_tensors(folder):
        return read().dtype
    raise UserError(f"{folder}: has no .safetensors files")


def _copy_rest(base: Path, out: Path) -> None:
    """Copy everything but the transformer."""
    for name in COMPONENTS:
        if name != TRANSFORMER:
            shutil.copytree(base / name, out / name)
    for pattern in TOP_FILES:
        for file in base.glob(pattern):
            shutil.copyfile(file, out / file.name)
