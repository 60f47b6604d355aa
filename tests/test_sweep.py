"""Sweeps: runs and names, isolation, failure, resuming, launchers."""

import shutil
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import SMALL

from cosmos_exp.config.composing import compose_config
from cosmos_exp.config.paths import conf_dir, sweeps_dir
from cosmos_exp.errors import UserError
from cosmos_exp.experiment.launching import run_isolated
from cosmos_exp.files import read_json_lines
from cosmos_exp.run_folder import RunFolder
from cosmos_exp.sweep import live
from cosmos_exp.sweep.running import check_same_samples
from cosmos_exp.sweep.runs import expand_sweep, run_name

QUICK = [*SMALL, "training.max_steps=2", "generation.max_prompts=1"]


def planned(name, tmp_path, *overrides):
    return expand_sweep(name, sweeps_dir(), overrides, tmp_path)


def test_runs_are_named_by_what_differs_and_the_base_is_one_run(tmp_path):
    names = " ".join(r.name for r in planned("lora_vs_dora", tmp_path, "seed=0,1", "rank=8"))
    assert names == "base lora-r8 lora-r8-seed1 dora-r8 dora-r8-seed1"
    names = [r.name for r in planned("rank", tmp_path, "training.learning_rate=0.001,0.002", "rank=8")]
    assert names == ["lora-r8-learning_rate0.001", "lora-r8-learning_rate0.002"]
    assert len(planned("alpha", tmp_path)) == 10  # alpha = rank and alpha = 16 are one at rank 16
    assert run_name(compose_config(["adapter=none", "rank=8", "seed=3"]), {"rank": "8"}) == "base"


def test_a_sweep_isolates_its_runs_and_again_does_only_the_rest(tmp_path, monkeypatch, answered):
    """One run breaks its loss (a learning rate of 1e30), the other does not notice; each is a process with a log of its own."""
    monkeypatch.chdir(tmp_path)
    Path("mine/rank").mkdir(parents=True)
    shutil.copy(conf_dir() / "rank" / "8.yaml", "mine/rank/eight.yaml")
    words = [*QUICK, "--config-dir", "mine", "rank=eight", "training.max_steps=3", "training.schedule.warmup_samples=0"]
    rates = "training.learning_rate=1e30,0.001"
    sweep = tmp_path / "outputs" / "sweeps" / "rank"
    broken, good = "lora-r8-learning_rate1e+30", "lora-r8-learning_rate0.001"

    said = (f"{broken}: failed: ", f"{good}: missing: no status was written")
    answered(["sweep", "rank", *words, rates, "fail_fast=true"], 1, *said)
    assert not (sweep / good).exists()
    assert not (sweep / ".fail_fast").exists()
    said = (f"{good}: done", f"{broken}: failed: ", "not finite", "1 of 2 runs are done")
    answered(["sweep", "rank", *words, rates], 1, *said)  # without it, again
    assert (sweep / good / "log.txt").stat().st_size > 0
    assert (sweep / "page.html").is_file()
    assert [len(RunFolder(sweep / name).manifest["starts"]) for name in (broken, good)] == [2, 1]
    answered(["sweep", "rank", *words, "training.learning_rate=0.001,0.002", "--list"], 0, "done", "missing")
    answered(
        ["sweep", "rank", *words, rates, "adapter.target_modules=[to_q]"],
        2,
        "another configuration (adapter.target_modules",
    )


def test_the_live_table_reads_a_run_that_wrote_and_few_others(tmp_path, monkeypatch, capsys):
    runs, ends, read = planned("rank", tmp_path, "rank=8", "seed=range(0,20)"), iter([False, True]), []

    def wait(_):
        runs[15].folder.set_status("running", "train")
        read.append(0)
        return next(ends)

    monkeypatch.setattr(live, "place_of", lambda run: read.append(1) or ("failed", run.folder.status.get("stage")))
    live.print_changes(runs, SimpleNamespace(wait=wait))
    assert "".join(map(str, read)) == 20 * "1" + "0" + (live.IN_TURN + 1) * "1" + "0" + 21 * "1"
    assert capsys.readouterr().out.count(f"{runs[15].name}: failed train") == 1


def test_runs_with_other_test_samples_are_refused_by_name(tmp_path):
    def configs(*overrides):
        return {run.name: run.config for run in planned("rank", tmp_path, "rank=8", *overrides)}

    own = ["data=folder", f"data.path={tmp_path}", "data.test_videos=2"]
    check_same_samples(configs("seed=0,1", *own))
    check_same_samples(configs("training.learning_rate=0.001,0.002", "data.train_clips=5,6"))
    with pytest.raises(UserError, match="lora-r8-split_seed0 and lora-r8-split_seed1 would be tested on different"):
        check_same_samples(configs("data.split_seed=0,1", *own))


def test_a_running_run_stops_when_it_is_asked_to(small_config, tmp_path):
    """What fail_fast does to the runs beside a failed one."""
    folder = RunFolder(tmp_path / "run")
    config = small_config("training.max_steps=200", "training.epochs=200", f"run_dir={folder.path}")
    assert not run_isolated(config, lambda: bool(read_json_lines(folder.train_log)))
    assert folder.status["state"] == "interrupted"
    assert list(folder.checkpoints.glob("step_*"))


def test_a_dry_run_of_a_sweep_prints_plans_and_starts_nothing(answered, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    answered(["sweep", "everything"], 2, "lora_vs_dora")
    answered(["sweep", "rank", "--tune"], 2, "--tune: the sweep rank has no tuning")
    answered(["sweep", "rank", "dry_run=true", "rank=8,16", *SMALL], 0, "lora-r8", "dry run: 2 runs would start now")
    assert not (tmp_path / "outputs").exists()
