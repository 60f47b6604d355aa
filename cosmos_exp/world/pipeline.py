"""The parts of a Cosmos Predict 2.5 model, from the hub, a folder, or the embedded world: one code path for all.

A model is a normal diffusers folder: transformer/ vae/ text_encoder/ tokenizer/ scheduler/. Parts are loaded one by
one, when they are needed, and each is checked to have been loaded whole."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import Cosmos2_5_PredictBasePipeline, UniPCMultistepScheduler
from diffusers.pipelines.cosmos.pipeline_cosmos2_5_predict import DEFAULT_NEGATIVE_PROMPT
from torch import nn

from cosmos_exp.world.model_folder import ModelFolder


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
