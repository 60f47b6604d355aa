"""Shared by all tests: a cache of their own, a small run, the recordings where they are."""

import gc
import os
import socket
import subprocess
import sys
import tarfile
import time
from multiprocessing import forkserver
from pathlib import Path

import psutil
import pytest

os.environ.setdefault("WANDB_MODE", "offline")
os.environ["WANDB_SILENT"] = "true"
os.environ["HF_HUB_OFFLINE"] = "1"
# Containers set PYTHONDONTWRITEBYTECODE, with which every process compiles 4,000 modules anew: 13 seconds of 20.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

ROOT = Path(__file__).parent.parent
REAL_DATA = Path(os.environ.get("COSMOS_EXP_REAL_DATA", ROOT.parent / "shared" / "data"))

IS_LONG = bool(os.environ.get("COSMOS_EXP_LONG_TESTS"))
GUARDRAIL = Path(sys.prefix) / "guardrail"  # the real cosmos_guardrail; `make` installs it beside the environment
needs_guardrail = pytest.mark.skipif(
    not GUARDRAIL.is_dir(), reason="cosmos_guardrail is not in .venv/guardrail; `make test` installs it"
)
long_test = pytest.mark.skipif(not IS_LONG, reason="set COSMOS_EXP_LONG_TESTS=1: it takes half a minute or more")

# A whole run of the embedded world in seconds. A test that needs a measure asks for it.
SMALL = [
    "data.train_clips=5",
    "data.validation_videos=1",
    "data.test_pairs=1",
    "data.windows_per_video=1",
    "data.height=64",
    "data.width=96",
    "generation.num_steps=2",
    "training.global_batch_size=2",
    "training.max_steps=4",
    "training.validation.every_steps=2",
    "training.checkpoint_every_steps=2",
    "training.schedule.warmup_samples=2",
    "sampson.enabled=false",
    "measures.references=false",
    "measures.recording=false",
    "measures.motion=false",
    "measures.words=false",
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
# A transformer of the real class that is made in milliseconds: its sizes, and the keys beside them.
TINY = {
    "in_channels": 5,
    "out_channels": 4,
    "num_attention_heads": 2,
    "attention_head_dim": 16,
    "num_layers": 2,
    "mlp_ratio": 2.0,
    "text_embed_dim": 32,
    "adaln_lora_dim": 8,
}
REST = {"max_size": (8, 16, 16), "patch_size": (1, 2, 2), "extra_pos_embed_type": None}


def pytest_configure(config):
    """Each worker of pytest-xdist gets a core of its own: two that share both cores take longer than one alone."""
    worker = getattr(config, "workerinput", {}).get("workerid")
    if worker and hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[int(worker.removeprefix("gw")) % len(cores)]})


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory):
    """Nothing outside the tests' own folders is read or written."""
    os.environ["COSMOS_EXP_CACHE"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module", autouse=True)
def long_lived():
    """What is imported stays: a run collects garbage between its stages, and would visit a million objects each time."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def demo_records(tmp_path_factory):
    """The published records of `make demo`, unpacked: a sweep without videos and adapters. Copy it to change it."""
    folder = tmp_path_factory.mktemp("records")
    with tarfile.open(ROOT / "docs" / "demo.tar.xz") as archive:
        archive.extractall(folder, filter="data")
    return folder / "demo"


@pytest.fixture
def no_login(monkeypatch, tmp_path):
    """Nobody is logged in to wandb, and no mode is set."""
    for name in ("WANDB_MODE", "WANDB_API_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))


@pytest.fixture
def real_data():
    """The recordings; skips with a reason where they are not."""
    if not REAL_DATA.is_dir():
        pytest.skip(f"no recordings at {REAL_DATA}; set COSMOS_EXP_REAL_DATA")
    return REAL_DATA


def settled(words):
    """The words of a command; of `run` with SMALL, the last of each key: a test changes what SMALL sets by naming it again."""
    words = [str(w) for w in words]
    if (
        "run" not in words[:1]
        or "-m" in words
        or SMALL[0].partition("=")[0] not in {w.partition("=")[0] for w in words}
    ):
        return words
    last = {w.partition("=")[0]: k for k, w in enumerate(words)}
    return [w for k, w in enumerate(words) if "=" not in w or last[w.partition("=")[0]] == k]


@pytest.fixture
def cli():
    """Call the command line in this process: cli('run', …) returns the exit code."""
    from cosmos_exp.cli import main

    def call(*words):
        argv = sys.argv
        try:
            return main(settled(words))
        except SystemExit as leave:
            return leave.code
        finally:
            sys.argv = argv

    return call


@pytest.fixture
def answered(cli, capfd):
    """Run a command: answered(words, code, *said).

    It must end with this exit code (None: any of ours) and say these words, without a traceback. Returns its output.
    """

    def call(words, code, *said, absent=("\x1b",)):
        capfd.readouterr()
        ended = cli(*words)
        text = "".join(capfd.readouterr())
        assert "Traceback (most recent call last)" not in text, text[-3000:]
        assert ended in ((0, 1, 2) if code is None else (code,)), f"exit code {ended}, expected {code}:\n{text[-2000:]}"
        assert not [part for part in said if part not in text], text[-2000:]
        assert not [part for part in absent if part in text], text[-2000:]
        return text

    return call


@pytest.fixture(scope="session")
def start():
    """Start the command line in a process of its own, from the preloaded fork server.

    start('run', …, log=PATH) returns a `fork_server.Child`; `threads` are torch's.
    """
    from cosmos_exp.experiment import fork_server

    def call(*words, log, threads=1, cwd=ROOT):
        code = f"""import os, sys
os.environ["OMP_NUM_THREADS"] = "{threads}"
os.chdir({str(cwd)!r})
from cosmos_exp.cli import main
sys.exit(main({settled(words)!r}))"""
        return fork_server.start("builtins:exec", (code, {}), log=log)

    return call


@pytest.fixture(scope="session")
def finished(start):
    """`start`, and wait until the command has succeeded."""

    def call(*words, log, cwd=ROOT):
        assert start(*words, log=log, cwd=cwd).wait(600) == 0, log.read_text()[-3000:]

    return call


def program(*words, cwd=None, **variables):
    """Run a program to its end with further variables in its environment: its exit code and what it said."""
    environment = os.environ | variables
    return subprocess.run(words, cwd=cwd, env=environment, capture_output=True, text=True, check=False)


def free_port():
    """A port of this machine that nothing listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def server_pid():
    """The process id of the fork server that was started last, or None."""
    return forkserver._forkserver._forkserver_pid


def workers(count):
    """The processes that the fork server started last, in the order of their ranks."""
    return sorted(psutil.Process(server_pid()).children(), key=lambda p: p.create_time())[-count:]


def gone(process):
    """Whether a process has ended."""
    return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE


def stop_server():
    """End the fork server."""
    forkserver._forkserver._stop()


# Files whose tests train, generate, compile or render for seconds each, the longest first; tables of hundreds of bad inputs;
# and long tests of other files. `make fast` leaves them out.
SLOW = (ROOT / "tests" / "slow.txt").read_text().split()


def pytest_ignore_collect(collection_path, config):
    """`-m "not slow"` does not even import the slow files."""
    if config.option.markexpr == "not slow" and collection_path.stem.removeprefix("test_") in SLOW:
        return True
    return None


def pytest_collection_modifyitems(items):
    """Mark slow tests. They come first, so that no worker is left alone with a long file at the end."""
    places = {name: place for place, name in enumerate(SLOW)}
    items.sort(key=lambda item: places.get(item.path.stem.removeprefix("test_"), len(SLOW)))
    for item in items:
        if item.path.stem.removeprefix("test_") in SLOW or item.name.split("[")[0] in SLOW:
            item.add_marker(pytest.mark.slow)


def pytest_collection_finish(session):
    """The fork server imports torch on the second core while the first tests run."""
    if any("start" in getattr(item, "fixturenames", ()) for item in session.items):
        from cosmos_exp.experiment.fork_server import start_server

        start_server()


def move(parameters, step, seed=1):
    """Take the parameters of an adapter away from their start, as a training does."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    for parameter in parameters.values():
        parameter.data += step * torch.randn(parameter.shape, generator=generator)


def texture(height=96, width=160, seed=0):
    """A smooth random picture, uint8 (height, width, 3)."""
    import cv2
    import numpy as np

    noise = np.random.default_rng(seed).uniform(0, 255, (height // 4, width // 4, 3)).astype(np.float32)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC).clip(0, 255).astype(np.uint8)


def wait_until(holds, seconds=200, every=0.01):
    """Wait until `holds()`; fails after `seconds`."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(every)


@pytest.fixture(scope="session")
def small_config():
    """The configuration of the small run, with any further overrides."""
    from cosmos_exp.config.composing import compose_config

    return lambda *overrides: compose_config([*SMALL, *overrides])
