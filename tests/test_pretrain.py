"""Pretraining of the embedded weights: from nothing to a folder that loads, in one or more calls."""

import contextlib

import pytest
import torch

from benchmarks.pretraining.__main__ import main
from benchmarks.pretraining.decoder import regenerate
from cosmos_exp.world.loading import load_transformer, load_vae
from cosmos_exp.world.model_folder import ModelFolder


@pytest.fixture
def small(tmp_path, monkeypatch):
    # In fp32 and without Muon, which works in bf16: a CPU without AVX-512 emulates it, 20 seconds a step.
    monkeypatch.setattr(torch, "autocast", lambda *_: contextlib.nullcontext())
    words = "--clips 4 --shard 2 --code-clips 2 --batch 2 --every 2 --decoder-steps 2 --decoder-clips 1 --workers 0 --no-compile --no-muon"
    options = ["--work", str(tmp_path / "work"), "--out", str(tmp_path / "weights"), *words.split()]
    return tmp_path, lambda *more: main([*options, *more])


def test_two_calls_equal_one_and_write_a_folder_that_loads(small):
    """Random numbers depend on the step only, and the checkpoint holds all state: 2 + 2 steps equal 4 steps."""
    folder, run = small
    run("--stage", "code")
    run("--stage", "clips")
    results = []
    for calls in (("4",), ("2", "4")):
        (folder / "work" / "transformer.pt").unlink(missing_ok=True)
        for steps in calls:
            run("--stage", "transformer", "--steps", steps)
        results.append(torch.load(folder / "work" / "transformer.pt", weights_only=True)["ema"])
    assert all(torch.allclose(results[0][n], results[1][n], atol=1e-6) for n in results[0])
    run("--steps", "4")
    weights = ModelFolder(folder / "weights", folder)
    load_vae(weights, torch.float32)
    model, _ = load_transformer(weights, torch.bfloat16)
    assert torch.equal(model.proj_out.weight, results[1]["proj_out.weight"].bfloat16())


def test_regeneration_with_the_true_velocity_returns_the_clip():
    """Along a straight path the velocity (x - clean) / sigma is constant: Euler steps are exact."""
    generator = torch.Generator().manual_seed(0)
    clean = torch.randn(2, 3, 4, 2, 2, generator=generator)

    def forward(hidden_states, timestep, condition_mask, **_):
        assert torch.equal(hidden_states[:, :, 0], clean[:, :, 0])
        assert condition_mask[:, :, 0].min() == 1
        assert condition_mask[:, :, 1:].max() == 0
        return ((hidden_states - clean) / timestep,)

    start = torch.tensor([0.75, 0.5])
    made = regenerate(forward, clean, torch.zeros(2, 1, 1), start, generator)
    assert torch.allclose(made, clean, atol=1e-4)
    assert torch.equal(made[:, :, 0], clean[:, :, 0])
