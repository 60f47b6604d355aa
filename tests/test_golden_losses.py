"""Golden losses: a short LoRA and a short DoRA training whose loss curves are stored, so that a change of arithmetic is seen.

A refactoring must leave the curves as they are. When a change of arithmetic is intended, record again, and show the
difference of the file in the change's description:

    RECORD=1 pytest tests/test_golden_losses.py -k stored

On the CPU and torch version of the file the curves must be equal bit for bit. On another CPU, or another version, the
kernels sum in another order (AVX2 adds 8 numbers at a time, AVX-512 16), so each step may differ by rounding.
"""

import importlib.metadata
import json
import os
from pathlib import Path

import pytest
from conftest import SMALL

from cosmos_exp.files import read_json_lines
from cosmos_exp.run_folder import RunFolder

GOLDEN = Path(__file__).parent / "golden"
RECORD = "RECORD" in os.environ
KINDS = ("lora", "dora")
# Generation is no part of the comparison. The rate is above 0 from step 2 on.
TRAINING = [*SMALL, "rank=8", "training.max_steps=6", "generation.split=none"]
DEVICES = {
    "cpu": ["hardware=cpu", "hardware.num_threads=1"],
    # fp32 without compilation: bf16 rounds too coarsely to tell a change of arithmetic from another GPU's kernels.
    "cuda": ["hardware=1xh100", "hardware.compile=false", "hardware.mixed_precision='no'"],
}
# Largest relative difference of a loss or gradient norm on another machine. CPU: AVX2 against AVX-512 kernels on one
# machine differed by up to 3e-7 (losses) and 1e-6 (gradient norms). CUDA: a guess until two kinds of GPU were compared.
TOLERANCE = {"cpu": 1e-5, "cuda": 1e-4}


def machine(device):
    """What decides which kernels run: the processor with its instruction set, or the GPU; and the torch version."""
    import torch

    name = torch.cuda.get_device_name() if device == "cuda" else ""
    if not name:
        keys = ("model name", "cpu family", "model")
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        found = {line.partition("\t")[0]: line.partition(": ")[2] for line in reversed(lines)}
        parts = [found["model name"], *(f"{key} {found[key]}" for key in keys[1:])]
        name = ", ".join([*parts, torch.backends.cpu.get_cpu_capability()])
    return {"processor": name, "torch": importlib.metadata.version("torch")}


def compare(stored, device, kind, new):
    """Fail if the curve differs from the stored one, bit for bit where the machine is the same."""
    is_same = device == "cpu" and stored["machine"] == machine(device)
    for old, row in zip(stored[kind], new, strict=True):
        wanted = old if is_same else pytest.approx(old, rel=TOLERANCE[device])
        assert row == wanted, f"{kind}, step {old['step']}. If it is intended, record again (see the docstring)."


@pytest.fixture(scope="module")
def own_encodings(tmp_path_factory):
    """A cache of this file alone: other tests encode with more threads, which rounds differently."""
    patch = pytest.MonkeyPatch()
    patch.setenv("COSMOS_EXP_CACHE", str(tmp_path_factory.mktemp("golden_cache")))
    yield
    patch.undo()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("device", ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)])
def test_training_repeats_the_stored_losses(device, kind, cli, own_encodings, tmp_path, monkeypatch):
    import torch

    monkeypatch.chdir(tmp_path)
    if device == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device")
    file, run = GOLDEN / f"losses_{device}.json", RunFolder(tmp_path / "run")
    if not file.is_file() and not RECORD:
        pytest.skip(f"no {file.name}; the docstring of this file says how to record it")
    assert cli("run", *TRAINING, *DEVICES[device], f"adapter={kind}", f"run_dir={run.path}") == 0
    new = [{key: row[key] for key in ("step", "loss", "grad_norm")} for row in read_json_lines(run.train_log)]
    stored = json.loads(file.read_text()) if file.is_file() else {}
    if not RECORD:
        compare(stored, device, kind, new)
        return
    stored |= {kind: new, "machine": machine(device), "commit": run.manifest["git"]["commit"]}
    file.write_text(json.dumps(stored, indent=1, sort_keys=True) + "\n")


def test_a_change_of_arithmetic_is_seen_and_the_step_is_named():
    stored = json.loads((GOLDEN / "losses_cpu.json").read_text())
    new = [dict(row) for row in stored["lora"]]
    new[3]["loss"] *= 1 + 1e-4
    elsewhere = stored | {"machine": {"processor": "another", "torch": "0"}}
    with pytest.raises(AssertionError, match="lora, step 4"):
        compare(elsewhere, "cpu", "lora", new)
    new[3]["loss"] = stored["lora"][3]["loss"] * (1 + 1e-6)
    compare(elsewhere, "cpu", "lora", new)
    assert all(row["loss"] > 0 and row["grad_norm"] > 0 for kind in KINDS for row in stored[kind])
