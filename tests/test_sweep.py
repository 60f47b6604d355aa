"""Studies: their runs and names, isolation, failure, resuming, launchers, and the same studies as W&B sweeps."""

import itertools
import json
import os
import signal
import subprocess
import sys
import time

import pytest
import yaml
from conftest import ROOT, SMALL

from cosmos_exp.compose import compose_config
from cosmos_exp.config import stage_hash, sweeps_dir
from cosmos_exp.run_folder import RunFolder
from cosmos_exp.sweep import plan, run_name

QUICK = [*SMALL, "training.max_steps=2", "generation.max_prompts=1", "sampson.enabled=false"]


def planned(name, tmp_path, *overrides):
    return plan(name, sweeps_dir(), overrides, tmp_path)


def test_runs_are_named_by_what_differs_and_the_base_is_one_run(tmp_path):
    names = [r.name for r in planned("lora_vs_dora", tmp_path, "seed=0,1")]
    assert names == ["base", "lora-r8", "lora-r8-seed1", "lora-r32", "lora-r32-seed1",
                     "dora-r8", "dora-r8-seed1", "dora-r32", "dora-r32-seed1"]  # fmt: skip
    names = [r.name for r in planned("rank", tmp_path, "training.learning_rate=0.001,0.002", "rank=8")]
    assert names == ["lora-r8-learning_rate0.001", "lora-r8-learning_rate0.002"]
    assert len(planned("alpha", tmp_path)) == 10  # alpha = rank and alpha = 16 are one at rank 16
    assert run_name(compose_config(["adapter=none", "rank=8", "seed=3"]), {"rank": "8"}) == "base"


@pytest.mark.parametrize("name", sorted(p.stem for p in sweeps_dir().glob("*.yaml")))
def test_a_study_and_its_wandb_sweep_hold_the_same_runs(name, tmp_path):
    sweep = yaml.safe_load((sweeps_dir() / "wandb" / f"{name}.yaml").read_text())
    choices = [[f"{k}={v}" for v in p.get("values", [p.get("value")])] for k, p in sweep["parameters"].items()]
    theirs = {}
    for words in itertools.product(*choices):
        config = compose_config(list(words))
        theirs[run_name(config, {})] = (stage_hash(config) if config.adapter.kind != "none" else None, config.name)
    ours = {
        r.name: (stage_hash(r.config) if r.config.adapter.kind != "none" else None, r.config.name)
        for r in planned(name, tmp_path)
    }
    assert ours == theirs
    assert sweep["method"] == "grid"
    assert sweep["command"][:2] == ["cosmos-exp", "run"]


def test_a_study_runs_each_in_its_own_process_and_again_does_only_the_rest(cli, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    study = tmp_path / "outputs" / "sweeps" / "rank"
    assert cli("sweep", "rank", *QUICK, "rank=8") == 0
    first = json.loads((study / "lora-r8" / "manifest.json").read_text())
    assert (study / "lora-r8" / "log.txt").stat().st_size > 0
    assert "lora-r8: done" in capsys.readouterr().out
    # One rank more, and one that must fail: a rank that no machine holds.
    assert cli("sweep", "rank", *QUICK, "rank=8,16", "adapter.target_modules=[to_q]") == 2
    assert "another configuration (adapter.target_modules" in capsys.readouterr().err
    monkeypatch.setenv("COSMOS_EXP_CACHE", os.environ["COSMOS_EXP_CACHE"])
    assert cli("sweep", "rank", *QUICK, "rank=8,16") == 0
    assert json.loads((study / "lora-r8" / "manifest.json").read_text())["starts"] == first["starts"]
    assert (study / "report.md").is_file()
    assert cli("sweep", "rank", *QUICK, "rank=8,16") == 0
    assert cli("sweep", "rank", "--list", *QUICK, "rank=8,16,32") == 0
    out = capsys.readouterr().out
    assert out.count("done") >= 2
    assert "missing" in out


def test_one_failing_run_takes_no_other_along(cli, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    # A learning rate that breaks the loss in one run; the other goes on after it.
    words = [
        *QUICK,
        "rank=8",
        "name=broken",
        "training.learning_rate=1e30,0.001",
        "training.max_steps=3",
        "training.schedule.warmup_samples=0",
    ]
    assert cli("sweep", "rank", *words) == 1
    said = capsys.readouterr().err
    assert "lora-r8-learning_rate1e30: failed: " in said
    assert "not finite" in said
    assert "1 of 2 runs are done" in said
    study = tmp_path / "outputs" / "sweeps" / "broken"
    states = {p.parent.name: json.loads(p.read_text())["state"] for p in study.glob("*/status.json")}
    assert states == {"lora-r8-learning_rate1e30": "failed", "lora-r8-learning_rate0.001": "done"}


def test_a_killed_study_leaves_no_run_behind_and_goes_on(tmp_path, capsys):
    """kill -9 of the study ends its run too (it is asked to stop by the kernel), and the same command finishes."""
    words = [
        sys.executable,
        "-m",
        "cosmos_exp",
        "sweep",
        "rank",
        *QUICK,
        "rank=8",
        "training.max_steps=400",
        "training.checkpoint_every_steps=5",
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        words, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    folder = RunFolder(tmp_path / "outputs" / "sweeps" / "rank" / "lora-r8")
    for _ in range(600):
        if folder.train_log.is_file() and len(folder.train_log.read_text().splitlines()) > 12:
            break
        assert process.poll() is None
        time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    process.wait()
    for _ in range(300):
        if not folder.is_locked():
            break
        time.sleep(0.2)
    assert not folder.is_locked()
    steps = len(folder.train_log.read_text().splitlines())
    assert folder.read(folder.status_file)["state"] in ("interrupted", "running")
    assert steps < 400


def test_two_processes_do_not_share_a_run_folder(cli, tmp_path, capsys):
    folder = RunFolder(tmp_path / "run")
    folder.path.mkdir()
    held = folder.lock()
    assert cli("run", *QUICK, f"run_dir={folder.path}") == 2
    assert "another process" in capsys.readouterr().err
    held.close()
    assert not folder.is_locked()


def test_an_unknown_study_lists_those_there_are(cli, capsys):
    assert cli("sweep", "everything") == 2
    assert "lora_vs_dora" in capsys.readouterr().err
