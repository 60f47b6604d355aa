"""Stage `code`: fit the linear video code. Also the latents of a clip at unit scale."""

from __future__ import annotations

import numpy as np
import torch
from tqdm import tqdm

from cosmos_exp.tabletop.pretraining.recipe import CODE_SEEDS, Recipe
from cosmos_exp.tabletop.scene import Scene
from cosmos_exp.tabletop.vocabulary import APPEARANCES
from cosmos_exp.world.linear_autoencoder import LinearVideoAutoencoder, fit_linear_code
from cosmos_exp.world.loading import to_unit_range


def code_stage(recipe: Recipe) -> None:
    """Fit the linear code to clips of both appearances and write work/vae. An existing code is kept."""
    if (recipe.work / "vae" / "config.json").is_file():
        return
    videos = [
        to_unit_range(Scene.sample(CODE_SEEDS + i, appearance).clip().frames)
        for i in tqdm(range(recipe.code_clips), desc="rendering for the code", unit="pair", disable=None)
        for appearance in APPEARANCES
    ]
    fit_linear_code(videos, recipe.z_dim, hidden=recipe.decoder_width).save_pretrained(recipe.work / "vae")


def normalise(vae: LinearVideoAutoencoder, latents: torch.Tensor) -> torch.Tensor:
    """Latents (B, z, T, h, w) of the autoencoder at zero mean and unit scale."""
    return (latents - vae.latent_mean) / vae.latent_scale


def denormalise(vae: LinearVideoAutoencoder, latents: torch.Tensor) -> torch.Tensor:
    """The inverse of `normalise`."""
    return latents * vae.latent_scale + vae.latent_mean


def unit_latents(vae: LinearVideoAutoencoder, frames: np.ndarray) -> torch.Tensor:
    """Normalised latents (z, T, h, w) of uint8 frames (T, H, W, 3)."""
    (posterior,) = vae.encode(to_unit_range(frames)[None], return_dict=False)
    return normalise(vae, posterior.mean)[0]
