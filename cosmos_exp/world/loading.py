"""The parts of a Cosmos Predict 2.5 model, from the hub, a folder, or the embedded world: one code path for all.

A model is a normal diffusers folder: transformer/ vae/ text_encoder/ tokenizer/ scheduler/. Parts are loaded one by
one, when they are needed, and each is checked to have been loaded whole."""

from __future__ import annotations

import json
from typing import Any

import torch
from diffusers import AutoencoderKLWan, CosmosTransformer3DModel
from safetensors import safe_open
from torch import nn
from transformers.utils import logging as transformers_logging

from cosmos_exp.errors import RunError
from cosmos_exp.world.linear_autoencoder import LinearVideoAutoencoder
from cosmos_exp.world.model_folder import ModelFolder

VAE_CLASSES = {"AutoencoderKLWan": AutoencoderKLWan, "LinearVideoAutoencoder": LinearVideoAutoencoder}

transformers_logging.disable_progress_bar()  # a run has its own bars


def check_loaded(what: str, module: nn.Module, info: dict[str, Any]) -> None:
    """Every tensor of the model came from the files and every tensor of the files went into it.

    Raises:
        RunError: names the first tensors that did not.
    """
    tied = set(getattr(module, "_tied_weights_keys", None) or [])
    missing = sorted(k for k in info.get("missing_keys", []) if k not in tied)
    # Buffers that are computed anew, and bookkeeping of NVIDIA's layers, are no weights.
    unexpected = sorted(k for k in info.get("unexpected_keys", []) if not k.endswith(("_extra_state", "inv_freq")))
    meta = [n for n, p in module.named_parameters() if p.is_meta]
    for kind, names in (
        ("missing in the files", missing),
        ("left unloaded", meta),
        ("of another shape", sorted(map(str, info.get("mismatched_keys", [])))),
        ("in the files but not in the model", unexpected),
    ):
        if names:
            raise RunError(
                f"check failed: {what} was not loaded whole; {len(names)} tensors {kind}, e.g. {', '.join(names[:3])}. "
                "Is this the right model, and is its download complete?"
            )


def load_transformer(folder: ModelFolder, dtype: torch.dtype) -> tuple[CosmosTransformer3DModel, nn.Module]:
    """The frozen transformer and its prompt projection, taken out of it.

    Runs hand the transformer prompts that are projected already (512 x 1024 instead of 512 x 100,352), so the
    projection's place in the model holds an identity.
    """
    model, info = CosmosTransformer3DModel.from_pretrained(
        folder.path / "transformer", torch_dtype=dtype, output_loading_info=True, local_files_only=True
    )
    check_loaded("the transformer", model, info)
    model.requires_grad_(False)
    projection = model.crossattn_proj if model.config.use_crossattn_projection else nn.Identity()
    model.crossattn_proj = nn.Identity()
    return model.eval(), projection


def load_projection(folder: ModelFolder, dtype: torch.dtype) -> nn.Module:
    """The prompt projection alone: Linear and GELU, read from the transformer's files without the rest of it."""
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
        raise RunError(f"check failed: {folder.path}/transformer holds no tensor {error}") from error
    return nn.Sequential(linear, nn.GELU()).requires_grad_(False).eval()


def load_vae(folder: ModelFolder, dtype: torch.dtype) -> nn.Module:
    """The frozen video autoencoder, of the class that its config.json names.

    Raises:
        RunError: a class that is not known.
    """
    name = json.loads((folder.path / "vae" / "config.json").read_text()).get("_class_name", "AutoencoderKLWan")
    if name not in VAE_CLASSES:
        raise RunError(f"check failed: {folder.path}/vae is a {name}; known are {', '.join(VAE_CLASSES)}")
    vae, info = VAE_CLASSES[name].from_pretrained(
        folder.path / "vae", torch_dtype=dtype, output_loading_info=True, local_files_only=True
    )
    check_loaded("the VAE", vae, info)
    return vae.requires_grad_(False).eval()


def latent_statistics(folder: ModelFolder) -> tuple[torch.Tensor, torch.Tensor]:
    """The VAE's latents_mean and latents_std, each (C, 1, 1, 1), fp32."""
    config = json.loads((folder.path / "vae" / "config.json").read_text())
    mean, std = (
        torch.tensor(config[k], dtype=torch.float32).view(-1, 1, 1, 1) for k in ("latents_mean", "latents_std")
    )
    return mean, std
