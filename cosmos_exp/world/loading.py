"""Load the parts of a model from its diffusers folder: transformer/ vae/ text_encoder/ tokenizer/ scheduler/.

Parts are loaded one by one, when they are needed. Each is checked to be complete.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping

import numpy as np
import torch
from diffusers import CosmosTransformer3DModel, ModelMixin
from diffusers.utils import logging as diffusers_logging
from safetensors import safe_open
from torch import nn
from transformers.utils import logging as transformers_logging

from cosmos_exp.config.registry import VAE_CLASSES
from cosmos_exp.errors import RunError
from cosmos_exp.world.model_folder import ModelFolder

# No file is downloaded, and no pickle is read: it can run code.
FILES = {"local_files_only": True, "use_safetensors": True}

for library in (transformers_logging, diffusers_logging):
    library.disable_progress_bar()  # a run has its own; theirs also draw without a terminal


def check_loaded(what: str, module: nn.Module, info: Mapping[str, Collection[object]]) -> None:
    """Check that every tensor of the model came from the files and every tensor of the files is in the model.

    Args:
        what: name of the part, for the error.
        info: from `from_pretrained(…, output_loading_info=True)`.

    Raises:
        RunError: it lists the first tensors for which this fails.
    """
    # `_tied_weights_keys` is private: transformers reports tied weights as missing and has no public list of them.
    # Checked with transformers 5.0 to 5.24.
    tied = set(getattr(module, "_tied_weights_keys", None) or [])
    missing = sorted(str(k) for k in info.get("missing_keys", []) if k not in tied)
    # Buffers that are computed at load time and the records of NVIDIA's layers are not weights.
    unexpected = sorted(
        str(k) for k in info.get("unexpected_keys", []) if not str(k).endswith(("_extra_state", "inv_freq"))
    )
    meta = [n for n, p in module.named_parameters() if p.is_meta]
    for kind, names in (
        ("missing in the files", missing),
        ("not loaded", meta),
        ("of a different shape", sorted(map(str, info.get("mismatched_keys", [])))),
        ("in the files but not in the model", unexpected),
    ):
        if names:
            raise RunError(
                f"check failed: {what} is incomplete: {len(names)} tensors {kind}, e.g. {', '.join(names[:3])}. "
                "Check that this is the right model and that its download is complete."
            )


def load_transformer(folder: ModelFolder, dtype: torch.dtype) -> tuple[CosmosTransformer3DModel, nn.Module]:
    """The frozen transformer and its prompt projection, separated.

    The transformer receives prompts that are already projected (512 x 1024 instead of 512 x 100,352), so an identity
    replaces the projection in it.
    """
    model, info = CosmosTransformer3DModel.from_pretrained(
        folder.path / "transformer", torch_dtype=dtype, output_loading_info=True, **FILES
    )
    check_loaded("the transformer", model, info)
    model.requires_grad_(False)
    projection = model.crossattn_proj if model.config.use_crossattn_projection else nn.Identity()
    model.crossattn_proj = nn.Identity()
    return model.eval(), projection


def load_projection(folder: ModelFolder, dtype: torch.dtype) -> nn.Module:
    """The prompt projection (Linear and GELU), read from the transformer's files without loading the transformer."""
    config = json.loads((folder.path / "transformer" / "config.json").read_text())
    if not config.get("use_crossattn_projection"):
        return nn.Identity()
    linear = nn.Linear(config["crossattn_proj_in_channels"], config["encoder_hidden_states_channels"], dtype=dtype)
    tensors: dict[str, torch.Tensor] = {}
    for file in sorted((folder.path / "transformer").glob("*.safetensors")):
        with safe_open(file, "pt") as content:
            tensors |= {k: content.get_tensor(k) for k in content.keys() if k.startswith("crossattn_proj.")}  # noqa: SIM118
    try:
        linear.load_state_dict({k: tensors[f"crossattn_proj.0.{k}"] for k in ("weight", "bias")})
    except KeyError as error:
        raise RunError(f"check failed: {folder.path}/transformer has no tensor {error}") from error
    return nn.Sequential(linear, nn.GELU()).requires_grad_(False).eval()


def load_vae(folder: ModelFolder, dtype: torch.dtype) -> ModelMixin:
    """The frozen video autoencoder, of the class that its config.json names.

    Raises:
        RunError: the class is unknown, or the files are incomplete.
    """
    name = json.loads((folder.path / "vae" / "config.json").read_text()).get("_class_name", "AutoencoderKLWan")
    if name not in VAE_CLASSES.names:
        raise RunError(
            f"check failed: {folder.path}/vae is a {name}, which is unknown; supported are {', '.join(VAE_CLASSES.names)}"
        )
    vae, info = VAE_CLASSES.get(name).from_pretrained(
        folder.path / "vae", torch_dtype=dtype, output_loading_info=True, **FILES
    )
    check_loaded("the VAE", vae, info)
    return vae.requires_grad_(False).eval()


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
