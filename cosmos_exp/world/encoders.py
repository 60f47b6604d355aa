"""The parts of a Cosmos Predict 2.5 model, from the hub, a folder, or the embedded world: one code path for all.

A model is a normal diffusers folder: transformer/ vae/ text_encoder/ tokenizer/ scheduler/. Parts are loaded one by
one, when they are needed, and each is checked to have been loaded whole."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import torch
from diffusers import Cosmos2_5_PredictBasePipeline
from torch import nn
from transformers import AutoTokenizer, Qwen2_5_VLForConditionalGeneration

from cosmos_exp.world.loading import check_loaded, load_projection, load_vae
from cosmos_exp.world.model_folder import ModelFolder


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
