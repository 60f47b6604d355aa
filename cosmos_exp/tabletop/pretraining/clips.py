"""Stage `clips`: render human clips and store their latents and prompts in shards."""

from __future__ import annotations

import math
import multiprocessing
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from cosmos_exp.files import atomic_path
from cosmos_exp.tabletop.pretraining.latents import unit_latents
from cosmos_exp.tabletop.pretraining.recipe import CLIP_SEEDS, VALIDATION_SEEDS, Recipe
from cosmos_exp.tabletop.scene import Scene
from cosmos_exp.world.linear_autoencoder import LinearVideoAutoencoder

Embed = Callable[[str], torch.Tensor]  # prompt -> embedding (tokens, channels)


def clips_stage(recipe: Recipe) -> None:
    """Render the validation shard and the training shards. Existing shards are kept."""
    size = recipe.shard
    tasks = [(recipe.work, VALIDATION_SEEDS, recipe.clip_folder / "validation.npz", size)]
    tasks += [
        (recipe.work, CLIP_SEEDS + k * size, recipe.clip_folder / f"human_{k:05d}.npz", size)
        for k in range(math.ceil(recipe.clips / size))
    ]
    tasks = [t for t in tasks if not t[2].is_file()]
    if not tasks:
        return
    if not recipe.workers:
        threads = torch.get_num_threads()
        for task in tqdm(tasks, desc=f"rendering {recipe.clips} human clips", unit="shard", disable=None):
            render_shard(*task)
        torch.set_num_threads(threads)
        return
    bar = tqdm(total=len(tasks), desc=f"rendering {recipe.clips} human clips", unit="shard", disable=None)
    with multiprocessing.get_context("spawn").Pool(recipe.workers) as pool:
        for result in [pool.apply_async(render_shard, task) for task in tasks]:
            result.get()
            bar.update(1)


def render_shard(work: Path, first_seed: int, path: Path, size: int) -> None:
    """Write one shard: normalised latents (size, z, T, h, w) in fp16, and prompts.

    Args:
        work: folder with the autoencoder, vae/.
        first_seed: seed of the first clip.
        size: number of clips.
    """
    torch.set_num_threads(1)
    vae = LinearVideoAutoencoder.from_pretrained(work / "vae").requires_grad_(False).eval()
    latents, prompts = [], []
    for seed in range(first_seed, first_seed + size):
        clip = Scene.sample(seed, "human").clip()
        with torch.no_grad():
            latents.append(unit_latents(vae, clip.frames).half().numpy())
        prompts.append(clip.prompt)
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, latents=np.stack(latents), prompts=np.array(prompts))


def training_shards(recipe: Recipe) -> list[Path]:
    """The training shards that are complete at this moment; another process may be rendering more."""
    return sorted(recipe.clip_folder.glob("human_*.npz"))


class LatentClips:
    """The clips of some shards.

    latents: (N, z, T, h, w) fp16. embeddings: (P, tokens, channels), one per distinct prompt.
    prompt: (N,), the row of `embeddings` of each clip.
    """

    def __init__(self, files: list[Path], embed: Embed):
        shards = [np.load(f) for f in files]
        self.latents = torch.from_numpy(np.concatenate([s["latents"] for s in shards]))
        prompts = [str(p) for s in shards for p in s["prompts"]]
        unique = sorted(set(prompts))
        self.embeddings = torch.stack([embed(p) for p in unique])
        self.prompt = torch.tensor([unique.index(p) for p in prompts])
