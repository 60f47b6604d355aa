"""Sweeps over a real Slurm of one node: requeue, time limit, scancel, Ctrl-C, the same command twice, refusals."""

import json
import signal
import subprocess
import time

import psutil
import pytest
from cluster import Cluster, missing
from conftest import SMALL, long_test, wait_until

from cosmos_exp.files import read_json_lines
from cosmos_exp.run_folder import RunFolder
from cosmos_exp.sweep import slurm
from cosmos_exp.sweep.slurm import start_jobs, wait_for_jobs

pytestmark = [pytest.mark.slurm, pytest.mark.skipif(missing() is not None, reason=str(missing()))]

STEPS = 12
QUICK = [*SMALL, "generation.max_prompts=1", "data.validation_videos=0"]
QUICK += [f"training.max_steps={STEPS}", "training.epochs=20", "training.checkpoint_every_steps=100"]
CPU = ["hydra/launcher=slurm_cpu", "hydra.launcher.cpus_per_task=1", "hydra.launcher.mem_gb=null"]
HELD = [*CPU, "hydra.launcher.additional_parameters={hold: true}"]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    cluster = Cluster(tmp_path_factory.mktemp("slurm"))
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()


@pytest.fixture(autouse=True)
def in_the_cluster(cluster, tmp_path, monkeypatch):
    """Slurm's commands use this cluster; the sweep's folder is the test's."""
    for name in ("SLURM_CONF", "PATH"):
        monkeypatch.setenv(name, cluster.environment[name])
    monkeypatch.setattr(slurm, "_submitted", [])  # no later test of this process asks Slurm for these jobs
    monkeypatch.setattr(slurm, "QUEUE", slurm.Queue())
    monkeypatch.setattr(slurm, "_SECONDS_BETWEEN_CALLS", 0.5)
    monkeypatch.chdir(tmp_path)
    yield
    subprocess.run(["scancel", "--user=root"], check=True)
    wait_until(lambda: not cluster.call("squeue", "--noheader"))


def process_of(folder):
    """The process that holds a run."""
    (found,) = [
        process
        for process in psutil.process_iter(["cmdline"])
        if {f"run_dir='{folder.path}'", "-m", "cosmos_exp"} <= {*(process.info["cmdline"] or [])}
    ]
    return found


def stop_while_it_trains(folder):
    wait_until(lambda: read_json_lines(folder.train_log))
    process = process_of(folder)
    process.send_signal(signal.SIGSTOP)
    assert len(read_json_lines(folder.train_log)) < STEPS
    return process


def job_id(folder):
    return json.loads(folder.job.read_text())["id"]


def end_soon(cluster, job):
    """Give a running job a time limit that leaves it 45 to 105 s; its signal comes 70 s before that."""
    minutes, seconds = cluster.call("squeue", "-h", "-j", job, "-o", "%M").strip().rsplit(":", 1)
    limit = (int(minutes) * 60 + int(seconds) + 45) // 60 + 1
    subprocess.run(["scontrol", "update", f"JobId={job}", f"TimeLimit={limit}"], check=True)


def start_again(cluster, job):
    """Slurm waits two minutes before it starts a requeued job; here five seconds (at once, it would revoke its credential)."""
    wait_until(lambda: cluster.call("squeue", "-h", "-j", job, "-o", "%T").strip() == "PENDING")
    subprocess.run(["scontrol", "update", f"JobId={job}", "TimeLimit=30", "StartTime=now+5"], check=True)


@pytest.mark.timeout(900)  # six starts of a process that imports torch, and Slurm's own waiting times
@long_test
def test_a_sweep_survives_preemption_and_the_time_limit_and_reports_a_canceled_run(cluster, start, tmp_path):
    words = ["sweep", "rank", *QUICK, "rank=8,16,32", *CPU, "hydra.launcher.timeout_min=30"]
    log, sweep = tmp_path / "sweep.txt", tmp_path / "outputs" / "sweeps" / "rank"
    child = start(*words, "hydra.launcher.signal_delay_s=70", log=log, cwd=tmp_path)
    folders = canceled, preempted, limited = [RunFolder(sweep / f"lora-r{r}") for r in (8, 16, 32)]
    wait_until(lambda: all(f.job.is_file() for f in folders) or child.poll() is not None)
    processes = {f: stop_while_it_trains(f) for f in folders}

    end_soon(cluster, job_id(limited))
    subprocess.run(["scancel", job_id(canceled)], check=True)
    subprocess.run(["scontrol", "requeue", job_id(preempted)], check=True)
    start_again(cluster, job_id(preempted))
    wait_until(lambda: "the time limit is near" in limited.log.read_text())
    processes[limited].send_signal(signal.SIGCONT)
    start_again(cluster, job_id(limited))

    assert child.wait(400) == 1, log.read_text()
    said = log.read_text()
    assert [f.status["state"] for f in folders] == ["interrupted", "done", "done"]
    for folder in (preempted, limited):
        assert len(folder.manifest["starts"]) == 2
        assert [r["step"] for r in read_json_lines(folder.train_log)] == list(range(1, STEPS + 1))
    assert list(canceled.checkpoints.glob("step_*"))
    assert "2 of 3 runs are done. Run the same command again for the rest." in said
    assert not any(word in said for word in ("Traceback", "sacct", "submitit"))


def test_queued_runs_are_taken_and_ctrl_c_names_their_jobs(cluster, start, answered, tmp_path):
    words = ["sweep", "rank", *QUICK, "rank=8,16", *HELD]
    folders = [RunFolder(tmp_path / "outputs" / "sweeps" / "rank" / f"lora-r{r}") for r in (8, 16)]
    logs = [tmp_path / "first.txt", tmp_path / "second.txt"]
    first = start(*words, log=logs[0], cwd=tmp_path)
    wait_until(lambda: all(f.job.is_file() for f in folders) or first.poll() is not None)
    ids = [job_id(f) for f in folders]
    assert answered([*words, "--list"], 0, f"job {ids[0]}: JobHeldUser").count("queued") == 2

    second = start(*words, log=logs[1], cwd=tmp_path)  # waits for the same jobs
    for child, log, said in ((first, logs[0], "lora-r16: queued"), (second, logs[1], "of an earlier command")):
        wait_until(lambda log=log, said=said: log.is_file() and said in log.read_text())
        time.sleep(0.5)
        psutil.Process(child.pid).send_signal(signal.SIGINT)
        assert child.wait(100) == 1
        assert f"2 Slurm jobs continue. Cancel with `scancel {slurm.compact(ids)}`." in log.read_text()
        assert "Traceback" not in log.read_text()
    assert [job_id(f) for f in folders] == ids
    assert len(cluster.call("squeue", "-hr").splitlines()) == 2


def test_a_refusal_of_sbatch_is_two_lines(answered, tmp_path):
    words = ["sweep", "rank", *QUICK, "rank=8", *CPU, "hydra.launcher.partition=nowhere"]
    said = "sbatch refused the jobs: invalid partition specified: nowhere"
    answered(words, 2, said, "\nChange hydra.launcher.*; the script is ")
    assert not list(tmp_path.rglob("status.json"))


def test_fail_fast_cancels_the_other_jobs(small_config, tmp_path):
    """No run starts: the jobs are held, and one of them has a status as a failed run writes it."""
    folders = failed, other = [RunFolder(tmp_path / name) for name in ("a", "b")]
    configs = [small_config(f"run_dir={f.path}") for f in folders]
    start_jobs(configs, {"cpus_per_task": 1, "additional_parameters": {"hold": True}})
    assert [slurm._job_of(f).run_state for f in folders] == ["queued", "queued"]
    failed.set_status("failed", "train", "the loss is not finite")
    wait_for_jobs(folders, fail_fast=True)
    assert slurm._job_of(other).run_state is None
    assert json.loads(other.job.read_text())["ended"] in ("CANCELLED", "GONE")
