"""The runs of a sweep as jobs of one Slurm array: `cosmos-exp run run_dir=FOLDER` each, under its own requeue.

A run resumes from its folder, so that a job needs nothing but the folder's path: no pickle, no result file. What happens
at the time limit, on preemption and on scancel is in the batch script, beside the table in docs/sweeps.md.
"""

from __future__ import annotations

import datetime
import shlex
import sys
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from cosmos_exp.config.record import load_config, save_config
from cosmos_exp.config.schema import Config, Sweep
from cosmos_exp.errors import UserError
from cosmos_exp.experiment.launching import last_lines
from cosmos_exp.files import write_json
from cosmos_exp.run_folder import RunFolder
from cosmos_exp.sweep.slurm_queue import GONE, cancel, compact, job_of, live_job, record_job, submit

Settings = Mapping[str, object]  # of hydra.launcher

_SECONDS_BETWEEN_LOOKS = 0.5
_submitted: list[RunFolder] = []
"""Runs that this process has submitted."""

# Keys of hydra.launcher that sbatch has under another name, or not at all.
_OPTIONS = {"name": "job-name", "timeout_min": "time", "mem_gb": "mem"}
_OURS = ("_target_", "signal_delay_s", "max_num_timeout", "array_parallelism", "additional_parameters", "setup")

_SCRIPT = """\
run=$(sed -n "$((SLURM_ARRAY_TASK_ID + 1))p" {runs})
exec >>"$run/log.txt" 2>&1
job="${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID"  # SLURM_JOB_ID of the last task is the id of the whole array
{setup}
# USR1: the time limit is near. TERM: preempted or canceled; Slurm sends it to every process of the job. SIGCONT, which comes
# with both, is not trapped: of two signals at once, bash may forget the second while it waits.
stop() {{ {stop}; }}
trap 'echo "the time limit is near: a checkpoint is written"; stop' USR1
trap : TERM
{command} "run_dir='$run'" &
pid=$!
while kill -0 $pid 2>/dev/null; do wait $pid; done
wait $pid
code=$?
# A run that was interrupted has a checkpoint. A job that was canceled or requeued is COMPLETING and not for its time limit.
if grep -q '"state": "interrupted"' "$run/status.json" && [ "${{SLURM_RESTART_COUNT:-0}}" -lt {restarts} ]; then
    case $(squeue --noheader --states=all --format="%T %r" --jobs="$job") in
    RUNNING* | *TimeLimit)
        echo "requeued: the run resumes from its checkpoint when Slurm starts the job again"
        scontrol requeue "$job"
        code=0 ;;
    esac
fi
exit $code
"""


def start_jobs(configs: Sequence[Config], settings: Settings) -> list[str]:
    """Submit runs whose `run_dir` is set as one array, and record each job in its run's folder. Returns the job ids.

    Raises:
        UserError: Slurm refuses, or a configuration cannot be written down.
    """
    folders = [RunFolder(str(c.run_dir)) for c in configs]
    for config, folder in zip(configs, folders, strict=True):
        _write_config(config, folder)
    stamp = datetime.datetime.now().strftime("%Y-%m-%d_%H-%M-%S_")
    parent = folders[0].path.parent / ".slurm"
    parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=stamp, dir=parent))
    (work / "runs.txt").write_text("".join(f"{f.path}\n" for f in folders))
    (work / "job.sh").write_text(batch_script(work, len(folders), {**settings, "nodes": _nodes(configs, settings)}))
    array = submit(work / "job.sh")
    ids = [f"{array}_{number}" for number in range(len(folders))]
    for job_id, folder in zip(ids, folders, strict=True):
        record_job(folder, job_id)
    _submitted.extend(folders)
    return ids


def _nodes(configs: Sequence[Config], settings: Settings) -> int:
    """Nodes of each job: hardware.num_machines."""
    machines = {c.hardware.num_machines for c in configs}
    asked = _whole(settings, "nodes", 1)
    if len(machines) > 1 or (asked != 1 and {asked} != machines):
        raise UserError(
            f"hydra.launcher.nodes={asked}, but hardware.num_machines is {', '.join(map(str, sorted(machines)))}. Give all "
            "runs of a sweep one hardware.num_machines and leave hydra.launcher.nodes out."
        )
    return machines.pop()


def _write_config(config: Config, folder: RunFolder) -> None:
    """Write the configuration that the job reads. A secret would be missing from it."""
    folder.path.mkdir(parents=True, exist_ok=True)
    save_config(config, folder.config)
    if load_config(folder.config) != config.updated({"sweep": Sweep()}):
        raise UserError(
            f"{folder.config}: a value of this configuration looks like a secret and is not written to disk, so a Slurm "
            "job cannot read it. Put a judge's key into OPENAI_API_KEY."
        )


def batch_script(work: Path, count: int, settings: Settings) -> str:
    """The text of the batch script for `count` runs, listed in work/runs.txt."""
    parallel = min(count, _whole(settings, "array_parallelism", 256))
    options: dict[str, object] = {
        **{_OPTIONS.get(k, k): v for k, v in settings.items() if k not in _OURS},
        "array": f"0-{count - 1}%{parallel}",
        "output": str(work / "%a.txt").replace(" ", "\\ "),
        "open-mode": "append",
        "chdir": str(Path.cwd()),
        "signal": f"B:USR1@{_whole(settings, 'signal_delay_s', 120)}",
        "requeue": True,
    }
    if options.get("mem") is not None:
        options["mem"] = f"{round(float(str(options['mem'])) * 1024)}M"
    further = settings.get("additional_parameters") or {}
    assert isinstance(further, Mapping)
    options |= {str(k): v for k, v in further.items()}
    own = [f"{shlex.quote(sys.executable)} -m cosmos_exp run"]
    several = _whole(settings, "nodes", 1) > 1
    if several:  # one `cosmos-exp run` per node; each starts the processes of its node
        own.insert(0, 'srun --ntasks-per-node=1 --kill-on-bad-exit=1 --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}"')
    setup = settings.get("setup") or []
    assert isinstance(setup, Sequence)
    body = _SCRIPT.format(
        runs=shlex.quote(str(work / "runs.txt")),
        setup="\n".join(map(str, setup)),
        stop='scancel --signal=TERM "$job"' if several else "kill -TERM $pid",
        command=" ".join(own),
        restarts=_whole(settings, "max_num_timeout", 0),
    )
    return "\n".join(["#!/bin/bash", *_directives(options), body])


def _directives(options: Mapping[str, object]) -> Iterable[str]:
    for key, value in options.items():
        if value is None or value is False:
            continue
        text = "" if value is True else f"={shlex.quote(str(value))}"
        yield f"#SBATCH --{key.replace('_', '-')}{text}"


def _whole(settings: Settings, key: str, default: int) -> int:
    value = settings.get(key)
    return default if value is None else int(str(value))


def wait_for_jobs(folders: Sequence[RunFolder], fail_fast: bool = False) -> None:
    """Wait until no job of these runs waits or runs. Returns at once without jobs.

    Args:
        fail_fast: cancel the others when one fails.
    """
    mine = [f for f in folders if live_job(f)]
    canceled = False
    while jobs := [j for f in mine if (j := live_job(f))]:
        if fail_fast and not canceled and any(_failed(f) for f in folders):
            canceled = True
            cancel([j.id for j in jobs])
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    for folder in mine:
        _settle(folder)


def wait_for_submitted() -> int:
    """Wait for the jobs that this process has submitted (`cosmos-exp run -m`). Returns the exit code.

    Raises:
        KeyboardInterrupt: the jobs continue.
    """
    submitted = list(_submitted)
    _submitted.clear()
    try:
        wait_for_jobs(submitted)
    except KeyboardInterrupt:
        print(continuing(submitted), flush=True)
        raise
    unfinished = [f for f in submitted if f.status.get("state") != "done"]
    for folder in unfinished:
        print(f"{folder.path}: {folder.status.get('error') or how_job_ended(folder)}", file=sys.stderr)
    return int(bool(unfinished))


def continuing(folders: Iterable[RunFolder]) -> str:
    """The jobs that continue and how to cancel them; empty without any."""
    ids = [job.id for f in folders if (job := live_job(f))]
    count = "1 Slurm job continues" if len(ids) == 1 else f"{len(ids)} Slurm jobs continue"
    return f"{count}. Cancel with `scancel {compact(ids)}`." if ids else ""


def offer_to_cancel(folders: Sequence[RunFolder]) -> None:
    """Ask on a terminal whether to cancel the jobs that continue."""
    if not sys.stdin.isatty():
        return
    try:
        answer = input("Cancel them now? [y/N] ")
    except (EOFError, KeyboardInterrupt):
        answer = ""
    if answer.strip().lower() in ("y", "yes"):
        cancel([job.id for f in folders if (job := live_job(f))])
        print("canceled; running ones write a checkpoint first", file=sys.stderr)


def _failed(folder: RunFolder) -> bool:
    return folder.job_has_ended() and folder.status.get("state") == "failed"


def _settle(folder: RunFolder) -> None:
    """Record how a run's job ended, and a failure if the run could not record it itself."""
    job = job_of(folder)
    if job is None or folder.job_has_ended():
        return
    write_json(folder.job, {**folder.read(folder.job), "ended": job.state})
    state = folder.status.get("state")
    if state == "running" or (state is None and job.state not in ("CANCELLED", GONE)):
        last = f": {last_lines(folder.log)}" if job.state == "FAILED" else ""
        folder.record_failure(f"Slurm job {job.id} ended ({job.state}) before the run could record its end{last}")


def how_job_ended(folder: RunFolder) -> str | None:
    """The end of a run's job in words, for a run that wrote no status; None without a job."""
    recorded = folder.read(folder.job)
    if "id" not in recorded:
        return None
    ended = recorded.get("ended", GONE)
    return f"Slurm job {recorded['id']} " + (
        "was canceled, or Slurm has forgotten it" if ended == GONE else f"ended: {ended}"
    )
