"""The embedded model: its linear code against closed forms, and its shipped weights."""

import copy

import numpy as np
import pytest
import torch

from benchmarks.pretraining.latents import fit_linear_code, normalise
from benchmarks.pretraining.transformer import prompt_embedder
from cosmos_exp.tabletop.build import WEIGHTS
from cosmos_exp.tabletop.scene import Scene
from cosmos_exp.tabletop.world import APPEARANCES
from cosmos_exp.world.loading import load_transformer, load_vae, to_unit_range
from cosmos_exp.world.model_folder import ModelFolder
from cosmos_exp.world.rectified_flow import FlowBatch, flow_loss


def video(seed, appearance="robot"):
    return to_unit_range(Scene.sample(seed, appearance, num_frames=9).clip().frames)


def psnr(a, b):
    return float(10 * torch.log10(4 / (a - b).square().mean()))


class TestLinearCode:
    """The autoencoder with a principal component code."""

    @pytest.fixture(scope="class")
    def fitted(self):
        videos = [video(s) for s in range(3)]
        return videos, fit_linear_code(videos, 24, hidden=8, blocks=1)

    def test_it_is_causal_and_has_the_shapes_of_the_wan_class(self, fitted):
        model = copy.deepcopy(fitted[1])
        torch.nn.init.normal_(model.refiner.out.weight, std=0.1)  # a decoder network that adds something
        clip = video(5)
        with torch.no_grad():
            whole = model.encode(clip[None]).latent_dist.mean
            start = model.encode(clip[None, :, :5]).latent_dist.mean
            assert whole.shape == (1, 24, 3, 12, 20)
            assert torch.equal(whole[:, :, :2], start)
            decoded = model.decode(whole).sample
            assert torch.allclose(model.decode(start).sample, decoded[:, :, :5], atol=1e-5)


class TestShippedWeights:
    """The weights in the package."""

    def test_they_are_small_and_have_a_card(self):
        files = [f for f in WEIGHTS.rglob("*") if f.is_file()]
        assert sum(f.stat().st_size for f in files) < 16e6
        assert {"README.md", "LICENSE"} <= {f.name for f in files}

    def test_held_out_clips_survive_the_autoencoder(self):
        """27 dB is the requirement on weights trained without a GPU."""
        vae = load_vae(ModelFolder(WEIGHTS, WEIGHTS), torch.float32)
        for appearance in APPEARANCES:
            clips = [video(60_000_000 + s, appearance) for s in range(3)]
            with torch.no_grad():
                back = [vae.decode(vae.encode(c[None]).latent_dist.mean).sample[0] for c in clips]
            assert np.mean([psnr(a, b) for a, b in zip(clips, back, strict=True)]) > 27

    def test_the_transformer_has_learned_the_human_clips(self):
        """Its loss on held-out human clips is far below that of the best constant prediction, 1.0 at sigma 0.8."""
        folder = ModelFolder(WEIGHTS, WEIGHTS)
        model, projection = load_transformer(folder, torch.float32)
        vae, embed = load_vae(folder, torch.float32), prompt_embedder(WEIGHTS)
        clips = [Scene.sample(61_000_000 + s, "human").clip() for s in range(4)]
        videos = torch.stack([to_unit_range(c.frames) for c in clips])
        with torch.no_grad():
            clean = normalise(vae, vae.encode(videos).latent_dist.mean)
            prompts = projection(torch.stack([embed(c.scene.prompt) for c in clips]))
            generator = torch.Generator().manual_seed(0)
            noise = torch.randn(clean.shape, generator=generator)
            batch = FlowBatch(clean, noise, torch.full((4,), 0.8), torch.ones(4).long(), prompts)
            assert flow_loss(model, batch, 0.0001, (96, 160)).mean() < 0.5
