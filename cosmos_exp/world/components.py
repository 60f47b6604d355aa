"""The parts of a Cosmos Predict 2.5 model, from the hub, a folder, or the embedded world: one code path for all.

A model is a normal diffusers folder: transformer/ vae/ text_encoder/ tokenizer/ scheduler/. Parts are loaded one by
one, when they are needed, and each is checked to have been loaded whole.
"""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from diffusers import (
    AutoencoderKLWan,
    Cosmos2_5_PredictBasePipeline,
    CosmosTransformer3DModel,
    UniPCMultistepScheduler,
)
from diffusers.pipelines.cosmos.pipeline_cosmos2_5_predict import DEFAULT_NEGATIVE_PROMPT
from safetensors import safe_open
from torch import nn
from transformers import AutoTokenizer, Qwen2_5_VLForConditionalGeneration
from transformers.utils import logging as transformers_logging

from cosmos_exp.errors import RunError
from cosmos_exp.world.linear_autoencoder import LinearVideoAutoencoder
from cosmos_exp.world.model_folder import ModelFolder, check_guardrail

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
    for kind, names in (("missing in the files", missing), ("left unloaded", meta),
                        ("of another shape", sorted(map(str, info.get("mismatched_keys", [])))),
                        ("in the files but not in the model", unexpected)):  # fmt: skip
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


class Encoders:
    """VAE encoder, text encoder and projection: what turns data into what training sees. Dropped after caching."""

    def __init__(self, folder: ModelFolder, device: torch.device, dtype: torch.dtype, prompt_tokens: int):
        self.device, self.dtype, self.prompt_tokens = device, dtype, prompt_tokens
        self.vae = load_vae(folder, dtype).to(device)
        text, info = Qwen2_5_VLForConditionalGeneration.from_pretrained(
            folder.path / "text_encoder", dtype=dtype, output_loading_info=True, local_files_only=True
        )
        check_loaded("the text encoder", text, info)
        self.text_encoder = text.requires_grad_(False).eval().to(device)
        self.tokenizer = AutoTokenizer.from_pretrained(folder.path / "tokenizer", local_files_only=True)
        self.projection = load_projection(folder, dtype).to(device)

    @torch.no_grad()
    def encode_video(self, frames: np.ndarray) -> torch.Tensor:
        """Posterior mean of uint8 (T, H, W, 3), not normalised: (C, t, h, w) in the VAE's dtype, on the CPU."""
        return encode_frames(self.vae, frames, self.device, self.dtype)

    @torch.no_grad()
    def encode_prompt(self, prompt: str | None) -> torch.Tensor:
        """Projected prompt (tokens, channels); None is the zero embedding that text dropout puts in.

        The embedding is the pipeline's own: all hidden layers, normalised, side by side.
        """
        holder = SimpleNamespace(tokenizer=self.tokenizer, text_encoder=self.text_encoder)
        embeds = Cosmos2_5_PredictBasePipeline._get_prompt_embeds(
            holder, prompt or "", max_sequence_length=self.prompt_tokens, device=self.device, dtype=self.dtype
        )
        if prompt is None:
            embeds = torch.zeros_like(embeds)
        return self.projection(embeds)[0].cpu()


def encode_frames(vae: nn.Module, frames: np.ndarray, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """Posterior mean of uint8 (T, H, W, 3) RGB scaled to [-1, 1]; returns (C, t, h, w) on the CPU."""
    video = torch.from_numpy(frames).permute(3, 0, 1, 2)[None].to(device).float().div(127.5).sub(1.0)
    return vae.encode(video.to(dtype)).latent_dist.mean[0].cpu()


def latent_statistics(folder: ModelFolder) -> tuple[torch.Tensor, torch.Tensor]:
    """The VAE's latents_mean and latents_std, each (C, 1, 1, 1), fp32."""
    config = json.loads((folder.path / "vae" / "config.json").read_text())
    mean, std = (
        torch.tensor(config[k], dtype=torch.float32).view(-1, 1, 1, 1) for k in ("latents_mean", "latents_std")
    )
    return mean, std


class GuardrailOff:
    """Passes everything. Used only when model.guardrail=off, which the run's record states."""

    def to(self, *args: Any, **kwargs: Any) -> GuardrailOff:
        return self

    def check_text_safety(self, prompt: str) -> bool:
        return True

    def check_video_safety(self, video: np.ndarray) -> np.ndarray:
        return video


def load_guardrail(choice: str) -> Any:
    """The safety checker that the pipeline insists on.

    Raises:
        UserError: cosmos_guardrail is asked for and not installed.
    """
    if check_guardrail(choice) == "off":
        return GuardrailOff()
    from cosmos_guardrail import CosmosSafetyChecker

    return CosmosSafetyChecker()


class _Pipeline(Cosmos2_5_PredictBasePipeline):
    """diffusers' own, but encodes the given frames alone: the autoencoder is causal, frames after them change nothing.

    diffusers encodes 92 made-up frames behind a first frame and multiplies their latents by zero.
    """

    def prepare_latents(self, video: torch.Tensor | None = None, num_frames_in: int = 93, **words: Any) -> Any:
        given = video[:, :, :num_frames_in] if video is not None and num_frames_in else video
        latents, cond, mask, indicator = super().prepare_latents(video=given, num_frames_in=num_frames_in, **words)
        padding = latents.shape[2] - cond.shape[2]
        return latents, torch.nn.functional.pad(cond, (0, 0, 0, 0, 0, padding)), mask, indicator


def load_pipeline(
    folder: ModelFolder, transformer: nn.Module, vae: nn.Module, guardrail: Any
) -> Cosmos2_5_PredictBasePipeline:
    """diffusers' own pipeline around a transformer that takes projected prompts."""
    scheduler = UniPCMultistepScheduler.from_pretrained(folder.path / "scheduler", local_files_only=True)
    pipe = _Pipeline(
        text_encoder=None,
        tokenizer=None,
        transformer=transformer,
        vae=vae,
        scheduler=scheduler,
        safety_checker=guardrail,
    )
    # The pipeline derives 8 from the number of down-sampling stages, which is wrong for a VAE that patches its input.
    pipe.vae_scale_factor_spatial = vae.config.scale_factor_spatial or pipe.vae_scale_factor_spatial
    pipe.video_processor.register_to_config(vae_scale_factor=pipe.vae_scale_factor_spatial)
    pipe.set_progress_bar_config(disable=True)
    torch.set_grad_enabled(True)
    return pipe


def negative_prompt(choice: str | None) -> str | None:
    """The text behind generation.negative_prompt; None means the zero embedding."""
    return DEFAULT_NEGATIVE_PROMPT if choice == "default" else choice
