"""Load the parts of a model from its diffusers folder: transformer/ vae/ text_encoder/ tokenizer/ scheduler/.

Parts are loaded one by one, when they are needed. Each is checked to be complete.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import CosmosTransformer3DModel, ModelMixin
from diffusers.utils import logging as diffusers_logging
from safetensors import safe_open
from torch import nn
from transformers.utils import logging as transformers_logging

from cosmos_exp.config.registry import VAE_CLASSES
from cosmos_exp.errors import RunError
from cosmos_exp.text import one_line
from cosmos_exp.world.model_folder import ModelFolder

# No file is downloaded, and no pickle is read: it can run code.
FILES = {"local_files_only": True, "use_safetensors": True}

for library in (transformers_logging, diffusers_logging):
    library.disable_progress_bar()  # a run has its own; theirs also draw without a terminal


def load_part(folder: ModelFolder, part: str, kind: type[ModelMixin], **precision: torch.dtype) -> Any:  # Any: a `kind`
    """A frozen part of a model. Every tensor of it comes from the files, and every tensor of the files is in it.

    Args:
        part: name of its folder.
        kind: its class, of diffusers or transformers.
        precision: `torch_dtype` for diffusers, `dtype` for transformers.

    Raises:
        RunError: it lists the first tensors for which this fails.
    """
    model, info = kind.from_pretrained(folder.path / part, output_loading_info=True, **precision, **FILES)
    # `_tied_weights_keys` is private: transformers reports tied weights as missing and has no public list of them.
    # Checked with transformers 5.0 to 5.24.
    tied = set(getattr(model, "_tied_weights_keys", None) or [])
    missing = sorted(set(map(str, info["missing_keys"])) - tied)
    # Buffers that are computed at load time and the records of NVIDIA's layers are not weights.
    computed = ("_extra_state", "inv_freq")
    unexpected = sorted(key for key in map(str, info["unexpected_keys"]) if not key.endswith(computed))
    for fault, names in (("missing in the files", missing), ("in the files but not in the model", unexpected)):
        if names:
            raise RunError(
                f"check failed: {folder.path}/{part} is incomplete: {len(names)} tensors {fault}, e.g. "
                f"{', '.join(names[:3])}. Check that this is the right model and that its download is complete."
            )
    return model.requires_grad_(False).eval()


def load_transformer(folder: ModelFolder, dtype: torch.dtype) -> tuple[CosmosTransformer3DModel, nn.Module]:
    """The frozen transformer and its prompt projection, separated.

    The transformer receives prompts that are already projected (512 x 1024 instead of 512 x 100,352), so an identity
    replaces the projection in it.
    """
    model = load_part(folder, "transformer", CosmosTransformer3DModel, torch_dtype=dtype)
    projection = nn.Identity()
    if model.config.use_crossattn_projection:
        projection = model.crossattn_proj
    model.crossattn_proj = nn.Identity()
    return model, projection


def stored_tensors(folder: Path) -> Iterator[tuple[str, Callable[[], torch.Tensor]]]:
    """The name of each tensor in a folder's files, and what reads it."""
    for file in sorted(folder.glob("*.safetensors")):
        content = safe_open(file, "pt")
        for name in content.keys():  # noqa: SIM118  # not a dictionary
            yield name, partial(content.get_tensor, name)


def load_projection(folder: ModelFolder, dtype: torch.dtype) -> nn.Module:
    """The prompt projection (Linear and GELU), read from the transformer's files without loading the transformer."""
    config = json.loads((folder.path / "transformer" / "config.json").read_text())
    if not config.get("use_crossattn_projection"):
        return nn.Identity()
    linear = nn.Linear(config["crossattn_proj_in_channels"], config["encoder_hidden_states_channels"], dtype=dtype)
    tensors = {}
    for name, read in stored_tensors(folder.path / "transformer"):
        if name.startswith("crossattn_proj.0."):
            tensors[name.removeprefix("crossattn_proj.0.")] = read()
    try:
        linear.load_state_dict(tensors)
    except RuntimeError as error:
        raise RunError(f"check failed: {folder.path}/transformer: {one_line(error)}") from error
    return nn.Sequential(linear, nn.GELU()).requires_grad_(False).eval()


def load_vae(folder: ModelFolder, dtype: torch.dtype) -> ModelMixin:
    """The frozen video autoencoder, of the class that its config.json names.

    Raises:
        UserError: the class is unknown.
    """
    name = json.loads((folder.path / "vae" / "config.json").read_text()).get("_class_name", "AutoencoderKLWan")
    vae: ModelMixin = load_part(folder, "vae", VAE_CLASSES.get(name), torch_dtype=dtype)
    return vae


def latent_statistics(folder: ModelFolder) -> tuple[torch.Tensor, torch.Tensor]:
    """The VAE's latents_mean and latents_std, each (C, 1, 1, 1), fp32."""
    config = json.loads((folder.path / "vae" / "config.json").read_text())
    mean = torch.tensor(config["latents_mean"], dtype=torch.float32)
    std = torch.tensor(config["latents_std"], dtype=torch.float32)
    return mean.view(-1, 1, 1, 1), std.view(-1, 1, 1, 1)


def to_unit_range(frames: np.ndarray, device: torch.device | None = None) -> torch.Tensor:
    """Decoded video as the autoencoder takes it, in [-1, 1].

    Args:
        frames: uint8 (T, H, W, 3) RGB.
        device: where the result is computed; None: on the CPU.

    Returns:
        fp32 (3, T, H, W).
    """
    video = torch.from_numpy(frames).permute(3, 0, 1, 2)
    if device is not None:
        video = video.to(device)
    return video.float().div(127.5).sub(1.0)
