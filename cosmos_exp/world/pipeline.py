"""diffusers' pipeline around parts that are already loaded."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import Cosmos2_5_PredictBasePipeline, CosmosTransformer3DModel, ModelMixin, UniPCMultistepScheduler
from diffusers.pipelines.cosmos.pipeline_cosmos2_5_predict import DEFAULT_NEGATIVE_PROMPT

from cosmos_exp.config.schema import Config
from cosmos_exp.world.guardrail import Guardrail
from cosmos_exp.world.model_folder import ModelFolder


class ConditionOnlyPipeline(Cosmos2_5_PredictBasePipeline):
    """diffusers' pipeline, encoding the conditioning frames only.

    diffusers pads a first frame with 92 more, encodes all of them and multiplies the padding's latents by zero. The
    autoencoder is causal: frames after the conditioning frames do not change their latents.
    """

    def prepare_latents(
        self,
        video: torch.Tensor | None = None,
        num_frames_in: int = 93,
        **options: Any,  # Any: passed on to diffusers
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """As in diffusers; the latents of `video` are padded with zeros after encoding."""
        if video is not None and num_frames_in:
            video = video[:, :, :num_frames_in]
        latents, cond, mask, indicator = super().prepare_latents(video=video, num_frames_in=num_frames_in, **options)
        padding = latents.shape[2] - cond.shape[2]
        return latents, torch.nn.functional.pad(cond, (0, 0, 0, 0, 0, padding)), mask, indicator


def load_pipeline(
    folder: ModelFolder, transformer: CosmosTransformer3DModel, vae: ModelMixin, guardrail: Guardrail
) -> Cosmos2_5_PredictBasePipeline:
    """diffusers' pipeline around a transformer that takes projected prompts.

    Args:
        folder: only its scheduler is read.
        transformer, vae: from `world.loading`, with or without an adapter.
    """
    scheduler = UniPCMultistepScheduler.from_pretrained(folder.path / "scheduler", local_files_only=True)
    pipe = ConditionOnlyPipeline(
        text_encoder=None,
        tokenizer=None,
        transformer=transformer,
        vae=vae,
        scheduler=scheduler,
        safety_checker=guardrail,
    )
    # The pipeline derives 8 from the number of downsampling stages, which is wrong for a VAE that patches its input.
    pipe.vae_scale_factor_spatial = vae.config.scale_factor_spatial or pipe.vae_scale_factor_spatial
    pipe.video_processor.register_to_config(vae_scale_factor=pipe.vae_scale_factor_spatial)
    pipe.set_progress_bar_config(disable=True)
    torch.set_grad_enabled(True)  # defensive: a safety checker may switch gradients off when it is loaded
    return pipe


def negative_prompt(config: Config) -> str | None:
    """The text that generation.negative_prompt selects; None: the zero embedding."""
    choice = config.generation.negative_prompt
    return DEFAULT_NEGATIVE_PROMPT if choice == "default" else choice
