"""Shared by all tests: a cache of their own, a small run, the recordings where they are."""

import os
import sys
from pathlib import Path

import pytest

os.environ.setdefault("WANDB_MODE", "offline")
os.environ["WANDB_SILENT"] = "true"
os.environ["HF_HUB_OFFLINE"] = "1"

ROOT = Path(__file__).parent.parent
REAL_DATA = Path(os.environ.get("COSMOS_EXP_REAL_DATA", ROOT.parent / "shared" / "data"))

# A whole run of the embedded world in seconds.
SMALL = [
    "data.train_clips=5",
    "data.validation_videos=1",
    "data.test_pairs=1",
    "data.windows_per_video=1",
    "generation.num_steps=2",
    "training.global_batch_size=2",
    "training.max_steps=4",
    "training.validation.every_steps=2",
    "training.checkpoint_every_steps=2",
    "training.schedule.warmup_samples=2",
    "tracking=none",
]
# The embedded model with the real model's autoencoder class, as the 2B model has it: 16 channels, random weights.
WAN = [
    "model.weights=random",
    "model.max_first_loss=null",
    "model.z_dim=16",
    "model.transformer.in_channels=17",
    "model.transformer.out_channels=16",
]


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """Nothing outside the tests' own folders is read or written."""
    os.environ["COSMOS_EXP_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture
def real_data():
    """The recordings; skips with a reason where they are not."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"no recordings at {REAL_DATA}; set COSMOS_EXP_REAL_DATA")
    return REAL_DATA


@pytest.fixture
def cli():
    """Call the command line in this process: cli('run', …) returns the exit code."""
    from cosmos_exp.cli.entry import main

    def call(*words):
        argv = sys.argv
        try:
            return main([str(w) for w in words])
        except SystemExit as leave:
            return leave.code
        finally:
            sys.argv = argv

    return call


@pytest.fixture(scope="session")
def small_config():
    """The configuration of the small run, with any further overrides."""
    from cosmos_exp.config.composing import compose_config

    return lambda *overrides: compose_config([*SMALL, *overrides])
