"""The decoder's training data: clips, their true latents, and latents that the base generates from partial noise."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from tqdm import tqdm

from cosmos_exp.tabletop.pretraining.latents import unit_latents
from cosmos_exp.tabletop.pretraining.recipe import CONDITION_TIMESTEP, DECODER_SEEDS, PIXELS, Recipe
from cosmos_exp.tabletop.pretraining.transformer import new_transformer, prompt_embedder
from cosmos_exp.tabletop.scene import Scene
from cosmos_exp.tabletop.vocabulary import APPEARANCES
from cosmos_exp.world.fast_forward import PerFrameForward, run_block
from cosmos_exp.world.linear_autoencoder import LinearVideoAutoencoder
from cosmos_exp.world.rectified_flow import FlowBatch, condition_indicator, noised, velocity

# Noise levels from which the base generates, by appearance. It preserves the motion from these. Robot clips start lower:
# from higher levels the base, which was trained on human hands only, replaces the grippers.
STARTS = ({"human": 0.5, "robot": 0.3}, {"human": 0.75, "robot": 0.5})
BATCH = 10


def decoder_scenes(recipe: Recipe) -> list[tuple[int, str]]:
    """Seed and appearance of each clip."""
    return [(DECODER_SEEDS + i, appearance) for i in range(recipe.decoder_clips) for appearance in APPEARANCES]


def decoder_clips(recipe: Recipe) -> list[np.ndarray]:
    """The clips, uint8 (T, H, W, 3) each; rendered once and kept in work/decoder_clips.npy."""
    file = recipe.work / "decoder_clips.npy"
    if not file.is_file():
        scenes = tqdm(decoder_scenes(recipe), desc="rendering for the decoder", unit="clip", disable=None)
        np.save(file, np.stack([Scene.sample(seed, appearance).clip().frames for seed, appearance in scenes]))
    return list(np.load(file, mmap_mode="r"))


@torch.no_grad()
def decoder_latents(recipe: Recipe, vae: LinearVideoAutoencoder, videos: list[np.ndarray]) -> torch.Tensor:
    """Normalised latents (1 + len(STARTS), clips, z, T, h, w) in fp16: the true ones, then the base's for each start."""
    model = new_transformer(recipe)
    trained = torch.load(recipe.transformer_checkpoint, map_location="cpu", weights_only=True)["ema"]
    model.load_state_dict(trained, strict=False)
    forward = PerFrameForward(model, torch.compile(run_block) if recipe.compile else run_block)
    embed = prompt_embedder(recipe.frozen)
    scenes = decoder_scenes(recipe)
    own = torch.stack([unit_latents(vae, np.array(v)) for v in videos])
    versions, generator = [own.half()], torch.Generator().manual_seed(recipe.seed)
    for starts in STARTS:
        made = []
        for k in tqdm(range(0, len(own), BATCH), desc=f"the base from sigma {starts}", unit="batch", disable=None):
            rows = slice(k, k + BATCH)
            start = torch.tensor([starts[appearance] for _, appearance in scenes[rows]])
            prompts = torch.stack([embed(Scene.sample(s, appearance).prompt) for s, appearance in scenes[rows]])
            made.append(regenerate(forward, own[rows], prompts, start, generator).half())
        versions.append(torch.cat(made))
    return torch.stack(versions)


def regenerate(
    forward: Callable[..., tuple[torch.Tensor, ...]],
    clean: torch.Tensor,
    prompts: torch.Tensor,
    start: torch.Tensor,
    generator: torch.Generator,
    steps: int = 8,
) -> torch.Tensor:
    """Add noise to latents and denoise them with the model, with frame 0 as the conditioning frame.

    Args:
        forward: the transformer's forward pass.
        clean: normalised latents (B, z, T, h, w).
        prompts: embeddings (B, tokens, channels).
        start: noise level (B,) from 0 to 1.
        steps: number of Euler steps from `start` to 0.

    Returns:
        Latents (B, z, T, h, w).
    """
    frames, width = torch.ones(len(clean)).long(), start.view(-1, 1, 1, 1, 1) / steps
    noise = torch.randn(clean.shape, generator=generator)
    x = noised(clean, noise, start, condition_indicator(frames, clean.shape[2]))
    for i in range(steps):
        # x as both clean latents and noise: their mixture is x.
        batch = FlowBatch(x, x, start * (1 - i / steps), frames, prompts)
        with torch.autocast("cpu", torch.bfloat16):
            v, indicator = velocity(forward, batch, CONDITION_TIMESTEP, PIXELS)
        x = x - (1 - indicator) * width * v.float()
    return x
