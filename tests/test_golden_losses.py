"""Golden losses: a short LoRA and a short DoRA training whose loss curves are stored, so that a change of arithmetic is seen.

A refactoring must leave the curves as they are. When a change of arithmetic is intended, record again, and show the
difference of the file in the change's description:

    python tests/test_golden_losses.py --write tests/golden/losses_cpu.json
    python tests/test_golden_losses.py --write tests/golden/losses_cuda.json --device cuda

On the CPU and torch version of the file the curves must be equal bit for bit. On another CPU, or another version, the
kernels sum in another order (AVX2 adds 8 numbers at a time, AVX-512 16), so each step may differ by rounding.
"""

import argparse
import datetime
import importlib.metadata
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from conftest import SMALL, settled

GOLDEN = Path(__file__).parent / "golden"
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


def words(kind, device):
    """The arguments of `cosmos-exp` that train one adapter."""
    return settled(["run", *TRAINING, *DEVICES[device], f"adapter={kind}"])


def curve(run_dir):
    """Step, loss and gradient norm of each optimizer step in a run folder, in full precision."""
    rows = map(json.loads, (Path(run_dir) / "train_log.jsonl").read_text().splitlines())
    return [{key: row[key] for key in ("step", "loss", "grad_norm")} for row in rows]


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


def largest_difference(old, new):
    """The largest relative difference over all steps, with the step and the figure where it is."""
    found = [
        (abs(a[key] - b[key]) / abs(a[key]), f"step {a['step']}, {key}: {a[key]!r} -> {b[key]!r}")
        for a, b in zip(old, new, strict=True)
        for key in ("loss", "grad_norm")
    ]
    return max(found)


def compare(stored, device, kind, new):
    """Fail if the curve differs from the stored one, bit for bit where the machine is the same."""
    difference, where = largest_difference(stored[kind], new)
    hint = "\nIf the change of arithmetic is intended, record again (see the docstring of tests/test_golden_losses.py)."
    if device == "cpu" and stored["machine"] == machine(device):
        assert new == stored[kind], f"{kind}: differs from the stored curve, most at {where}{hint}"
    assert difference <= TOLERANCE[device], f"{kind}: relative difference {difference:.1e} at {where}{hint}"


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
    file = GOLDEN / f"losses_{device}.json"
    if not file.is_file():
        pytest.skip(f"no {file.name}: `python tests/test_golden_losses.py --write {file} --device {device}` records it")
    assert cli(*words(kind, device), f"run_dir={tmp_path / 'run'}") == 0
    compare(json.loads(file.read_text()), device, kind, curve(tmp_path / "run"))


def test_a_change_of_arithmetic_is_seen_and_the_step_is_named():
    stored = json.loads((GOLDEN / "losses_cpu.json").read_text())
    new = [dict(row) for row in stored["lora"]]
    new[3]["loss"] *= 1 + 1e-4
    with pytest.raises(AssertionError, match=r"step 4, loss"):
        compare(stored, "cpu", "lora", new)
    elsewhere = stored | {"machine": {"processor": "another", "torch": "0"}}
    with pytest.raises(AssertionError, match=r"step 4, loss"):
        compare(elsewhere, "cpu", "lora", new)
    new[3]["loss"] = stored["lora"][3]["loss"] * (1 + 1e-6)
    compare(elsewhere, "cpu", "lora", new)
    assert all(row["loss"] > 0 and row["grad_norm"] > 0 for kind in KINDS for row in stored[kind])


def record(file, device):
    """Train both adapters and write their curves to `file`."""
    program = Path(sys.executable).with_name("cosmos-exp")
    new = {"command": f"cosmos-exp {' '.join(words('KIND', device))}", "recorded": datetime.date.today().isoformat()}
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"COSMOS_EXP_CACHE": f"{folder}/cache", "HF_HUB_OFFLINE": "1"}
        for kind in KINDS:
            run_dir = f"{folder}/{kind}"
            subprocess.run(
                [program, *words(kind, device), f"run_dir={run_dir}"], env=environment, cwd=folder, check=True
            )
            new[kind] = curve(run_dir)
        new["commit"] = json.loads((Path(run_dir) / "manifest.json").read_text())["git"]["commit"]
    new["machine"] = machine(device)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(new, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path, metavar="FILE", required=True, help="file to record")
    parser.add_argument("--device", choices=DEVICES, default="cpu")
    options = parser.parse_args()
    record(options.write.absolute(), options.device)
