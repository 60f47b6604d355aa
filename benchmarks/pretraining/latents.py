"""Stages `code` and `clips`: fit the linear video code; render human clips and store their latents and prompts in shards."""

from __future__ import annotations

import math
import multiprocessing
import shutil
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from benchmarks.pretraining.recipe import CLIP_SEEDS, CODE_SEEDS, VALIDATION_SEEDS, Recipe, shipped_settings
from cosmos_exp.files import atomic_path
from cosmos_exp.tabletop.build import WEIGHTS
from cosmos_exp.tabletop.geometry import Triple
from cosmos_exp.tabletop.linear_autoencoder import GROUP, LinearVideoAutoencoder
from cosmos_exp.tabletop.scene import Scene
from cosmos_exp.tabletop.world import APPEARANCES
from cosmos_exp.world.loading import load_vae, to_unit_range
from cosmos_exp.world.model_folder import ModelFolder

Embed = Callable[[str], torch.Tensor]  # prompt -> embedding (tokens, channels)


def code_stage(recipe: Recipe) -> None:
    """Fit the linear code to clips of both appearances and write work/vae. An existing code is kept."""
    if (recipe.work / "vae" / "config.json").is_file():
        return
    if recipe.initial:
        shutil.copytree(recipe.initial / "vae", recipe.work / "vae")
        return
    videos = []
    for i in tqdm(range(recipe.code_clips), desc="rendering for the code", unit="pair", disable=None):
        for appearance in APPEARANCES:
            videos.append(to_unit_range(Scene.sample(CODE_SEEDS + i, appearance).clip().frames))
    fit_linear_code(videos, shipped_settings().z_dim).save_pretrained(recipe.work / "vae")


def fit_linear_code(videos: list[torch.Tensor], z_dim: int, **options: int) -> LinearVideoAutoencoder:
    """An autoencoder with the linear code of `videos`, and a refining network that adds nothing yet.

    Normalised latents have mean 0. A number's standard deviation is the square root of its true one, scaled so that the
    mean square over all numbers is 1. Full whitening would make a generator spend its capacity on fine detail.

    Args:
        videos: each (3, T, H, W) in [-1, 1].
        z_dim: numbers per patch.
        options: further arguments of `LinearVideoAutoencoder`.
    """
    blank = LinearVideoAutoencoder(z_dim, **options)
    firsts, rests = [], []
    for video in videos:
        first_patches, rest_patches = blank.patches(video[None])
        firsts.append(first_patches.reshape(-1, first_patches.shape[-1]))
        rests.append(rest_patches.reshape(-1, rest_patches.shape[-1]))
    first, rest = torch.cat(firsts).double(), torch.cat(rests).double()
    group_mean, frame_mean = rest.mean(0), first.mean(0)
    basis = _leading(rest - group_mean, z_dim)
    # Rotate the code so that the directions of still patches, equal in all four frames, come first.
    still = basis.view(GROUP, -1, z_dim).sum(0)  # (192, z): the code of a still patch
    left, gain, turn = torch.linalg.svd(still, full_matrices=False)
    basis = basis @ turn.T
    kept = int((gain > 0.7 * GROUP**0.5).sum())
    shared = left[:, :kept]
    spare = first - frame_mean
    fine = _leading(spare - spare @ shared @ shared.T, z_dim - kept)
    # The group code of a still patch p is gain_i (left_i . p); the first frame's code uses the same numbers.
    frame_basis = torch.cat([shared * gain[:kept], fine], dim=1)
    frame_decoder = torch.cat([shared / gain[:kept], fine], dim=1).T
    code = torch.cat([(first - frame_mean) @ frame_basis, (rest - group_mean) @ basis])
    spread = code.std(0).sqrt()
    std = spread * ((code.std(0) / spread).square().mean()).sqrt()
    model = LinearVideoAutoencoder(z_dim, latents_mean=code.mean(0).tolist(), latents_std=std.tolist(), **options)
    model.group_mean.data.copy_(group_mean)
    model.group_basis.data.copy_(basis)
    model.frame_mean.data.copy_(frame_mean)
    model.frame_basis.data.copy_(frame_basis)
    model.frame_decoder.data.copy_(frame_decoder)
    return model


def _leading(rows: torch.Tensor, count: int) -> torch.Tensor:
    """The `count` directions of largest variance, as columns. Signs are fixed, so that a refit gives the same code."""
    _, vectors = torch.linalg.eigh(rows.T @ rows / len(rows))
    vectors = vectors.flip(1)[:, :count]
    return vectors * torch.sign(vectors.sum(0) + 1e-12)


def latent_mean(vae: LinearVideoAutoencoder) -> torch.Tensor:
    """latents_mean as (1, z, 1, 1, 1)."""
    return torch.tensor(vae.config.latents_mean).view(1, -1, 1, 1, 1)


def normalise(vae: LinearVideoAutoencoder, latents: torch.Tensor) -> torch.Tensor:
    """Latents (B, z, T, h, w) of the autoencoder at zero mean and unit scale."""
    return (latents - latent_mean(vae)) / vae.latent_scale


def denormalise(vae: LinearVideoAutoencoder, latents: torch.Tensor) -> torch.Tensor:
    """The inverse of `normalise`."""
    return latents * vae.latent_scale + latent_mean(vae)


def unit_latents(vae: LinearVideoAutoencoder, frames: np.ndarray) -> torch.Tensor:
    """Normalised latents (z, T, h, w) of uint8 frames (T, H, W, 3)."""
    return normalise(vae, vae.encode(to_unit_range(frames)[None]).latent_dist.mean)[0]


def decode(vae: LinearVideoAutoencoder, latents: torch.Tensor) -> np.ndarray:
    """Frames uint8 (T, H, W, 3) of latents (1, z, T, h, w) at the autoencoder's scale."""
    video = vae.decode(latents).sample[0]
    return ((video.permute(1, 2, 3, 0) + 1) * 127.5).round().clamp(0, 255).byte().numpy()


@cache
def autoencoder() -> LinearVideoAutoencoder:
    """The autoencoder of the embedded model, fp32."""
    return load_vae(ModelFolder(WEIGHTS, WEIGHTS), torch.float32)


def clips_stage(recipe: Recipe) -> None:
    """Render the validation shard and the training shards. Existing shards are kept."""
    shards = {recipe.clip_folder / "validation.npz": VALIDATION_SEEDS}
    for k in range(math.ceil(recipe.clips / recipe.shard)):
        shards[recipe.clip_folder / f"human_{k:05d}.npz"] = CLIP_SEEDS + k * recipe.shard
    tasks = [(recipe.work, seed, path, recipe.shard) for path, seed in shards.items() if not path.is_file()]
    bar = tqdm(tasks, desc=f"rendering {recipe.clips} human clips", unit="shard", disable=None)
    if not recipe.workers:
        threads = torch.get_num_threads()
        for task in bar:
            render_shard(task)
        torch.set_num_threads(threads)
    elif tasks:
        with multiprocessing.get_context("spawn").Pool(recipe.workers) as pool:
            for _ in pool.imap_unordered(render_shard, tasks):
                bar.update(1)


def render_shard(task: tuple[Path, int, Path, int]) -> None:
    """Write one shard: normalised latents (size, z, T, h, w) in fp16, and prompts.

    Args:
        task: folder with the autoencoder, vae/; seed of the first clip; the shard's file; number of clips.
    """
    work, first_seed, path, size = task
    torch.set_num_threads(1)
    vae = LinearVideoAutoencoder.from_pretrained(work / "vae").requires_grad_(False).eval()
    latents, prompts = [], []
    for seed in range(first_seed, first_seed + size):
        clip = pretraining_scene(seed).clip()
        with torch.no_grad():
            latents.append(unit_latents(vae, clip.frames).half().numpy())
        prompts.append(clip.scene.prompt)
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, latents=np.stack(latents), prompts=np.array(prompts))


def pretraining_scene(seed: int) -> Scene:
    """A human scene. In one half, skin and sleeve have any colour, as gloves have.

    A base that has seen five skins only paints them onto a gripper; one that has seen gloves copies the first frame.
    """
    scene = Scene.sample(seed, "human")
    rng = np.random.RandomState(np.random.MT19937(np.random.SeedSequence((seed, 0x6107E))))
    if rng.uniform() < 0.5:
        return scene
    return replace(scene, skin=_any_color(rng), sleeve=_any_color(rng))


def _any_color(rng: np.random.RandomState) -> Triple:
    """RGB of 25 to 240, grey in one half of the draws."""
    red, green, blue = rng.uniform(25, 240, size=3)
    return (red, red, red) if rng.uniform() < 0.5 else (red, green, blue)


def training_shards(recipe: Recipe) -> list[Path]:
    """The training shards that are complete at this moment; another process may be rendering more."""
    return sorted(recipe.clip_folder.glob("human_*.npz"))


class LatentClips:
    """The clips of some shards.

    latents: (N, z, T, h, w) fp16. embeddings: (P, tokens, channels), one per distinct prompt.
    prompt: (N,), the row of `embeddings` of each clip.
    """

    def __init__(self, files: list[Path], embed: Embed):
        latents, prompts = [], []
        for file in files:
            shard = np.load(file)
            latents.append(shard["latents"])
            prompts.append(shard["prompts"])
        self.latents = torch.from_numpy(np.concatenate(latents))
        unique, rows = np.unique(np.concatenate(prompts), return_inverse=True)
        self.embeddings = torch.stack([embed(str(prompt)) for prompt in unique])
        self.prompt = torch.from_numpy(rows)
