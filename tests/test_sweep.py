"""Sweeps: runs and names, isolation, failure, resuming, launchers."""

import signal

import pytest
from conftest import SMALL, wait_until

from cosmos_exp.config.composing import compose_config
from cosmos_exp.config.paths import sweeps_dir
from cosmos_exp.errors import UserError
from cosmos_exp.experiment.launching import run_isolated
from cosmos_exp.files import read_json_lines, write_json_lines
from cosmos_exp.run_folder import RunFolder
from cosmos_exp.sweep.running import check_same_samples
from cosmos_exp.sweep.runs import expand_sweep, run_name

QUICK = [*SMALL, "training.max_steps=2", "generation.max_prompts=1", "sampson.enabled=false"]


def planned(name, tmp_path, *overrides):
    return expand_sweep(name, sweeps_dir(), overrides, tmp_path)


def test_runs_are_named_by_what_differs_and_the_base_is_one_run(tmp_path):
    names = " ".join(r.name for r in planned("lora_vs_dora", tmp_path, "seed=0,1", "rank=8,32"))
    assert names == "base lora-r8 lora-r8-seed1 lora-r32 lora-r32-seed1 dora-r8 dora-r8-seed1 dora-r32 dora-r32-seed1"
    names = [r.name for r in planned("rank", tmp_path, "training.learning_rate=0.001,0.002", "rank=8")]
    assert names == ["lora-r8-learning_rate0.001", "lora-r8-learning_rate0.002"]
    assert len(planned("alpha", tmp_path)) == 10  # alpha = rank and alpha = 16 are one at rank 16
    assert run_name(compose_config(["adapter=none", "rank=8", "seed=3"]), {"rank": "8"}) == "base"


def test_a_sweep_isolates_its_runs_and_again_does_only_the_rest(cli, tmp_path, monkeypatch, capsys):
    """One run breaks its loss (a learning rate of 1e30), the other does not notice; each is a process with a log of its own."""
    monkeypatch.chdir(tmp_path)
    words = [*QUICK, "rank=8", "training.max_steps=3", "training.schedule.warmup_samples=0"]
    rates = "training.learning_rate=1e30,0.001"
    sweep = tmp_path / "outputs" / "sweeps" / "rank"
    broken, good = "lora-r8-learning_rate1e+30", "lora-r8-learning_rate0.001"

    def starts(name):
        return RunFolder(sweep / name).manifest["starts"]

    assert cli("sweep", "rank", *words, rates, "fail_fast=true") == 1
    said = capsys.readouterr()
    assert f"{broken}: failed: " in said.err
    assert f"{good}: missing: no status was written" in said.err
    assert not (sweep / good).exists()
    assert not (sweep / ".fail_fast").exists()
    assert cli("sweep", "rank", *words, rates) == 1  # without it, again from the failed one on
    said = capsys.readouterr()
    assert f"{good}: done" in said.out
    assert f"{broken}: failed: " in said.err
    assert "not finite" in said.err
    assert "1 of 2 runs are done" in said.err
    assert (sweep / good / "log.txt").stat().st_size > 0
    assert (sweep / "page.html").is_file()
    before = starts(good)
    assert cli("sweep", "rank", *words, rates) == 1  # only the failed one is tried again
    assert starts(good) == before
    assert len(starts(broken)) == 3
    capsys.readouterr()
    assert cli("sweep", "rank", *words, "training.learning_rate=0.001,0.002", "--list") == 0
    out = capsys.readouterr().out
    assert "done" in out
    assert "missing" in out
    assert cli("sweep", "rank", *words, rates, "adapter.target_modules=[to_q]") == 2
    assert "another configuration (adapter.target_modules" in capsys.readouterr().err


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


def test_a_killed_sweep_leaves_no_run_behind_and_is_finished_by_the_same_command(
    start, cli, tmp_path, monkeypatch, capsys
):
    """kill -9 of the sweep ends its run too, and the same command resumes that run and does the next."""
    words = ["sweep", "rank", *QUICK, "rank=8,16", "training.max_steps=8", "training.epochs=8"]
    words += ["training.checkpoint_every_steps=2", "generation.num_steps=1"]
    sweep, log = tmp_path / "outputs" / "sweeps" / "rank", tmp_path / "log.txt"
    first, second = RunFolder(sweep / "lora-r8"), RunFolder(sweep / "lora-r16")
    child = start(*words, log=log, cwd=tmp_path)
    wait_until(lambda: len(read_json_lines(first.train_log)) >= 3 or child.poll() is not None)
    child.kill()
    assert child.wait(60) == -signal.SIGKILL
    wait_until(lambda: not first.is_locked())
    assert first.status["state"] in ("interrupted", "running")
    killed_at = max(int(p.name.removeprefix("step_")) for p in first.checkpoints.glob("step_*"))
    assert 2 <= killed_at < 8
    assert not second.path.exists()
    trained = read_json_lines(first.train_log)[:killed_at]

    monkeypatch.chdir(tmp_path)
    assert cli(*words) == 0, capsys.readouterr().err
    for folder in (first, second):
        assert folder.status["state"] == "done"
        assert [r["step"] for r in read_json_lines(folder.train_log)] == list(range(1, 9))
    assert read_json_lines(first.train_log)[:killed_at] == trained  # with the seconds: these steps were not made again
    assert len(first.manifest["starts"]) == 2
    assert len(second.manifest["starts"]) == 1


def test_a_rerun_is_the_same_to_the_byte_and_says_what_differs(cli, tmp_path, capsys):
    """Same config and seed twice on CPU: identical losses, adapter, videos and scores."""
    words = [*SMALL, "judge=rules", f"run_dir={tmp_path / 'run'}"]
    assert cli("run", *words) == 0
    RunFolder(tmp_path / "run").update_manifest(packages={"torch": "1.0"})
    capsys.readouterr()
    assert cli("rerun", tmp_path / "run", "--strict") == 0
    said = capsys.readouterr()
    assert "packages.torch: 1.0 -> " in said.out
    assert "exactness" not in said.out
    lines = [line for line in said.out.splitlines() if line.startswith(("same", "DIFFERENT"))]
    assert {line.split()[1] for line in lines} >= {"training", "adapter", "videos", "instruction", "physics", "tse"}
    assert all(line.startswith("same") for line in lines)
    assert (tmp_path / "run-rerun" / "adapter").is_dir()
    rows = read_json_lines(tmp_path / "run" / "scores.jsonl")
    for row in rows:
        row["value"] += row["measure"] == "physics"
    write_json_lines(tmp_path / "run" / "scores.jsonl", rows)
    assert cli("rerun", tmp_path / "run", "--strict", "--out", tmp_path / "again") == 1
    assert "DIFFERENT  physics" in capsys.readouterr().out
    assert cli("rerun", tmp_path / "nothing") == 2


def test_the_dashboard_asks_for_runs_and_a_login(cli, tmp_path, monkeypatch, capsys):
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "none"))
    assert cli("dashboard", tmp_path / "empty") == 2
    assert "no runs found" in capsys.readouterr().err
    RunFolder(tmp_path / "mine" / "lora-r8").set_status("done", "record")
    assert cli("dashboard", tmp_path / "mine", "--project", "p") == 2
    assert "wandb login" in capsys.readouterr().err


def test_a_dry_run_of_a_sweep_prints_plans_and_starts_nothing(cli, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert cli("sweep", "everything") == 2
    assert "lora_vs_dora" in capsys.readouterr().err  # the sweeps there are
    assert cli("sweep", "rank", "dry_run=true", "rank=8,16", *SMALL) == 0
    said = capsys.readouterr().out
    assert "lora-r8" in said
    assert "dry run: 2 runs would start now" in said
    assert not (tmp_path / "outputs").exists()
