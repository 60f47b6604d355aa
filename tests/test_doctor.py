"""`doctor`, `dry_run` and `run` share one list of checks; the first two download and write nothing. `data make`."""

import socket
import sys
from types import SimpleNamespace

import pytest
from conftest import program

from cosmos_exp.experiment.checks import CHECKS


@pytest.fixture(autouse=True)
def no_network(monkeypatch, tmp_path):
    """Any download or connection fails the test; the hub's cache is empty."""
    import huggingface_hub

    real = huggingface_hub.snapshot_download

    def guarded(*args, **words):
        assert words.get("local_files_only"), f"a download was started: {args} {words}"
        return real(*args, **words)

    def refuse(*where, **words):
        raise AssertionError(f"the network was asked: {where}")

    monkeypatch.setattr(huggingface_hub, "snapshot_download", guarded)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def test_the_default_run_passes_every_check_and_nothing_is_written(answered, tmp_path):
    words = ["doctor", f"cache_dir={tmp_path / 'cache'}", "tracking=none", "generation.crf=30"]
    lines = answered(words, 0, "generation.crf=30").splitlines()
    assert [line.split()[1] for line in lines if line.startswith("ok")] == list(CHECKS)
    assert list(tmp_path.iterdir()) == []


def test_what_the_2b_model_lacks_here_is_the_same_for_doctor_plan_and_run(tmp_path, monkeypatch, answered):
    from cosmos_exp.world import guardrail

    monkeypatch.setattr(guardrail.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    words = ["model=cosmos_predict25_2b", "hardware=8xh100", "hardware.num_processes=64", f"cache_dir={tmp_path}"]
    words += ["judge=reason2_2b", "sampson.matcher=superpoint_lightglue"]
    said = answered(["doctor", *words], 1, "nvidia/Cosmos-Predict2.5-2B: not on this machine; the run downloads it")
    assert said.count("HF_HUB_OFFLINE is set") == 1  # seven repositories, one line
    assert [line.split()[1] for line in said.splitlines() if line.startswith("FAIL")] == [
        "guardrail",
        "access",
        "device",
    ]
    error = "cosmos-exp: dry run: missing here: guardrail, access, device. The plan says how to get it."
    assert answered(["run", *words, "dry_run=true"], 1, error, "45.875 M").count("MISSING") == 3
    run = ["run", *words, f"run_dir={tmp_path / 'run'}"]
    answered(run, 2, "model.guardrail=cosmos_guardrail: the package is not installed", "num_processes=64")
    assert list(tmp_path.iterdir()) == []


def test_more_memory_than_there_is_fails_with_both_numbers(monkeypatch, answered):
    from cosmos_exp.experiment import checks

    doctor = ["doctor", "tracking=none"]
    answered([*doctor, "hardware.memory_gb=0.01", "hardware.device=cuda"], 1, "; a device has 0.01 GB. Lower")
    monkeypatch.setattr(checks.psutil, "virtual_memory", lambda: SimpleNamespace(available=0.01 * 2**30))
    answered(doctor, 1, "FAIL  memory", "training needs about", "; 0.0 GiB are free. Lower")


def test_a_limit_of_memory_is_one_line():
    done = program("bash", "-c", f"ulimit -v 600000; {sys.executable} -m cosmos_exp doctor")
    assert (done.returncode, done.stderr.count("\n"), "ulimit -v" in done.stderr) == (1, 1, True), done.stderr


def test_an_incomplete_model_folder_is_named_and_leaves_nothing_behind(answered, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "model" / "transformer").mkdir(parents=True)
    lacking = "has no folder vae, text_encoder, tokenizer, scheduler"
    answered(["doctor", "model.source=./model", "cache_dir=cache"], 1, lacking)
    answered(["run", "model.source=./model", "cache_dir=cache"], 2, lacking)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]
    (tmp_path / "model" / "transformer" / "config.json").write_text('{"num_layers": 1e20, "mlp_ratio": 4}')
    answered(["run", "model.source=./model"], 2, "transformer/config.json: num_layers=1e+20: ")


def test_made_data_is_what_check_and_doctor_accept(tmp_path, answered):
    for split in ("train", "test"):
        words = f"--split {split} --count {1 + 2 * (split == 'train')} --seed 3".split()
        answered(["data", "make", "tabletop", "--out", tmp_path / split, *words], 0)
    test = f"data.test_path={tmp_path / 'test'}"
    check = ["data", "check", tmp_path / "train", test]
    answered(check, 0, "3 good videos, 51 frames, 2 test pairs")
    answered(["data", "make", "tabletop", "--out", tmp_path / "test"], 2, "is not empty")
    doctor = ["doctor", "data=folder", f"data.path={tmp_path / 'train'}", test, f"cache_dir={tmp_path / 'cache'}"]
    answered([*doctor, "tracking=none"], 0, "2 of 3 in")
    video = next((tmp_path / "train" / "videos").iterdir())
    video.write_bytes(b"no video")
    answered([*doctor, "tracking=none"], 1, "FAIL  videos", video.name)
    (tmp_path / "test" / "robot_0003_left.txt").unlink()
    answered(check, 1, video.name, "robot_0003_left.png: has no prompt")
