"""The frozen encoders: video to latents, text to projected prompts."""

from __future__ import annotations

import warnings
from types import SimpleNamespace

import numpy as np
import torch
from diffusers import Cosmos2_5_PredictBasePipeline
from transformers import AutoTokenizer, PreTrainedTokenizerBase, Qwen2_5_VLForConditionalGeneration

from cosmos_exp.text import one_line
from cosmos_exp.world.loading import load_part, load_projection, load_vae, to_unit_range
from cosmos_exp.world.model_folder import ModelFolder


class Encoders:
    """VAE, text encoder and prompt projection. They leave memory once everything is in the cache.

    Args:
        folder: the model.
        device, dtype: where and in which precision they run.
        prompt_tokens: length to which prompts are padded or cut.
    """

    def __init__(self, folder: ModelFolder, device: torch.device, dtype: torch.dtype, prompt_tokens: int):
        self.device, self.dtype, self.prompt_tokens = device, dtype, prompt_tokens
        self.vae = load_vae(folder, dtype).to(device)
        text = load_part(folder, "text_encoder", Qwen2_5_VLForConditionalGeneration, dtype=dtype)
        self.text_encoder = text.to(device)
        self.tokenizer = AutoTokenizer.from_pretrained(
            folder.path / "tokenizer", local_files_only=True, trust_remote_code=False
        )
        self.projection = load_projection(folder, dtype).to(device)

    @torch.no_grad()
    def encode_video(self, frames: np.ndarray) -> torch.Tensor:
        """Posterior mean of the VAE, not normalised: (C, t, h, w) on the CPU, of uint8 (T, H, W, 3) RGB."""
        video = to_unit_range(frames, self.device)[None]
        latent: torch.Tensor = self.vae.encode(video.to(self.dtype)).latent_dist.mean[0].cpu()
        return latent

    @torch.no_grad()
    def encode_prompt(self, prompt: str | None) -> torch.Tensor:
        """Projected prompt (tokens, channels), on the CPU; None: the zero embedding that text dropout uses.

        The embedding before the projection is the pipeline's: all hidden layers, normalised, concatenated.
        """
        length = len(self.tokenizer(prompt or "", add_special_tokens=False)["input_ids"])
        if length > self.prompt_tokens:
            warnings.warn(
                f"the prompt '{one_line(prompt)[:60]}…' has {length} tokens and is cut to {self.prompt_tokens} "
                "(model.prompt_tokens). Shorten it.",
                stacklevel=2,
            )
        embeds = embed_prompt(self.tokenizer, self.text_encoder, prompt or "", self.prompt_tokens, self.dtype)
        if prompt is None:
            embeds = torch.zeros_like(embeds)
        return self.projection(embeds)[0].cpu()


def embed_prompt(
    tokenizer: PreTrainedTokenizerBase,
    text_encoder: Qwen2_5_VLForConditionalGeneration,
    prompt: str,
    tokens: int,
    dtype: torch.dtype,
) -> torch.Tensor:
    """The pipeline's embedding of a prompt before the projection, (1, tokens, channels), on the encoder's device."""
    parts = SimpleNamespace(tokenizer=tokenizer, text_encoder=text_encoder)
    # `_get_prompt_embeds` is private: the public `encode_prompt` requires a whole pipeline and returns the negative
    # prompt too. It uses these two attributes of the pipeline only. Checked with diffusers 0.39 to 0.42.
    embeds: torch.Tensor = Cosmos2_5_PredictBasePipeline._get_prompt_embeds(
        parts, prompt, max_sequence_length=tokens, device=text_encoder.device, dtype=dtype
    )
    return embeds
