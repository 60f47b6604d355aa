"""Pretraining of the embedded weights: from nothing to a folder that loads, in one or more calls."""

import pytest
import torch
from conftest import long_test

from benchmarks.pretraining.__main__ import main
from benchmarks.pretraining.transformer import Muon
from cosmos_exp.world.loading import load_transformer, load_vae
from cosmos_exp.world.model_folder import ModelFolder


@pytest.fixture
def small(tmp_path):
    words = "--clips 4 --shard 2 --code-clips 2 --batch 2 --every 2 --decoder-steps 2 --decoder-clips 1 --workers 0 --no-compile"
    options = ["--work", str(tmp_path / "work"), "--out", str(tmp_path / "weights"), *words.split()]
    return tmp_path, lambda *more: main([*options, *more])


@long_test
def test_two_calls_equal_one_and_write_a_folder_that_loads(small):
    """Random numbers depend on the step only, and the checkpoint holds all state: 1 + 1 steps equal 2 steps."""
    folder, run = small
    run("--stage", "code")
    run("--stage", "clips")
    results = []
    for calls in (("2",), ("1", "2")):
        (folder / "work" / "transformer.pt").unlink(missing_ok=True)
        for steps in calls:
            run("--stage", "transformer", "--steps", steps)
        results.append(torch.load(folder / "work" / "transformer.pt", weights_only=True)["ema"])
    assert all(torch.allclose(results[0][n], results[1][n], atol=1e-6) for n in results[0])
    run("--steps", "2")
    weights = ModelFolder(folder / "weights", folder)
    load_vae(weights, torch.float32)
    model, _ = load_transformer(weights, torch.bfloat16)
    assert torch.equal(model.proj_out.weight, results[1]["proj_out.weight"].bfloat16())


def test_muon_moves_a_matrix_as_torchs_does_up_to_bf16():
    ours, theirs = (torch.nn.Parameter(torch.eye(24, 64)) for _ in range(2))
    optimizers = (Muon([ours]), torch.optim.Muon([theirs], lr=1.0, weight_decay=0.01, adjust_lr_fn="match_rms_adamw"))
    for step in range(3):
        for matrix, optimizer in zip((ours, theirs), optimizers, strict=True):
            matrix.grad = torch.randn(24, 64, generator=torch.Generator().manual_seed(step))
            optimizer.step()
    assert (ours - theirs).norm() < 0.02 * theirs.norm()  # its update is in bf16
