"""The runs of a sweep as jobs of one Slurm array: `cosmos-exp run run_dir=FOLDER` each, under its own requeue.

A run resumes from its folder, so that a job needs nothing but the folder's path: no pickle, no result file. What happens
at the time limit, on preemption and on scancel is in the batch script, beside the table in docs/sweeps.md. Slurm is asked
through its own commands: sbatch, squeue, scancel. The job id of a run is in its job.json.
"""

from __future__ import annotations

import datetime
import shlex
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cosmos_exp.config.record import save_config
from cosmos_exp.config.schema import Config
from cosmos_exp.errors import UserError
from cosmos_exp.experiment.launching import last_lines
from cosmos_exp.files import write_json
from cosmos_exp.provenance import now
from cosmos_exp.run_folder import RunFolder
from cosmos_exp.text import printable

Settings = Mapping[str, Any]  # of hydra.launcher: strings, numbers, and the lists and mappings of a few keys

QUEUED = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "RESV_DEL_HOLD", "SPECIAL_EXIT")
RUNNING = ("RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING")
GONE = "GONE"  # Slurm has forgotten the job
_UNKNOWN = "Invalid job id"  # what squeue says if it has forgotten the only job it is asked for
_NOT_FOUND = 127  # the exit code where there is no Slurm
_SECONDS_BETWEEN_CALLS = 5.0  # of squeue
_SECONDS_BETWEEN_LOOKS = 0.5
_PATIENCE = 60.0  # seconds for a command of Slurm
_submitted: list[RunFolder] = []
"""Runs that this process has submitted."""

# Keys of hydra.launcher that are not options of sbatch, and those that sbatch has under another name.
_OURS = ("_target_", "signal_delay_s", "max_num_timeout", "array_parallelism", "additional_parameters", "setup")
_OPTIONS = {"name": "job-name", "timeout_min": "time", "mem_gb": "mem"}

_SCRIPT = """\
run=$(sed -n "$((SLURM_ARRAY_TASK_ID + 1))p" {runs})
exec >>"$run/log.txt" 2>&1
job="${{SLURM_ARRAY_JOB_ID}}_$SLURM_ARRAY_TASK_ID"  # SLURM_JOB_ID of the last task is the id of the whole array
host=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
{setup}
# USR1: the time limit is near. TERM: preempted or canceled; Slurm sends it to every process of the job. SIGCONT, which comes
# with both, is not trapped: of two signals at once, bash may forget the second while it waits.
stop() {{ {stop}; }}
trap 'echo "the time limit is near: a checkpoint is written"; stop' USR1
trap : TERM
{command} -m cosmos_exp {words} &
pid=$!
while kill -0 $pid 2>/dev/null; do wait $pid; done
wait $pid
code=$?
# A run that was interrupted has a checkpoint; a shard (143: it got SIGTERM) skips what exists. A job that was canceled or requeued is
# COMPLETING and not for its time limit.
if {{ [ $code = 143 ] || grep -qs '"state": "interrupted"' "$run/status.json"; }} && [ "${{SLURM_RESTART_COUNT:-0}}" -lt {restarts} ]; then
    case $(squeue --noheader --states=all --format="%T %r" --jobs="$job") in
    RUNNING* | *TimeLimit)
        echo "requeued: the run resumes from its checkpoint when Slurm starts the job again"
        scontrol requeue "$job"
        code=0 ;;
    esac
fi
exit $code
"""
_RUN = "run \"run_dir='$run'\""
# On several nodes torchrun starts the processes of each, which meet at a port of the first.
_TORCHRUN = (
    'srun --ntasks-per-node=1 --kill-on-bad-exit=1 --cpus-per-task="${{SLURM_CPUS_PER_TASK:-1}}" {python} -m '
    'torch.distributed.run --nnodes={nodes} --nproc-per-node={processes} --rdzv-backend=c10d --rdzv-id="$job" '
    '--rdzv-endpoint="$host:$((20000 + SLURM_JOB_ID % 20000))"'
)


@dataclass(frozen=True)
class Job:
    """A job as Slurm knows it now.

    state: Slurm's word, e.g. PENDING; GONE if Slurm has forgotten the job.
    reason: why it waits.
    """

    id: str
    state: str
    reason: str = ""

    @property
    def run_state(self) -> str | None:
        """queued or running; None if the job has ended."""
        if self.state in QUEUED:
            return "queued"
        return "running" if self.state in RUNNING else None


class Queue:
    """The states of jobs, asked for at most every few seconds, for all jobs at once."""

    def __init__(self) -> None:
        self._arrays: set[str] = set()
        self._jobs: dict[str, Job] = {}
        self._asked_at = float("-inf")
        self._lock = threading.Lock()

    def job(self, job_id: str) -> Job | None:
        """A job's newest known state; None where there is no Slurm.

        Raises:
            UserError: Slurm does not answer, and nothing is known of the job.
        """
        array = job_id.split("_")[0]
        with self._lock:
            is_new = array not in self._arrays
            self._arrays.add(array)
            if is_new or time.monotonic() - self._asked_at > _SECONDS_BETWEEN_CALLS:
                done = self._ask()
                if done.returncode == _NOT_FOUND:
                    return None
                if is_new and done.returncode and _UNKNOWN not in done.stderr:
                    raise UserError(f"squeue: {_said(done)}. Try again when Slurm answers; no job was submitted.")
            # An array whose last waiting task was canceled is listed as one job without a task.
            return self._jobs.get(job_id) or Job(job_id, self._jobs.get(array, Job(array, GONE)).state)

    def _ask(self) -> subprocess.CompletedProcess[str]:
        """Without an answer, what was known stays."""
        words = ["squeue", "--noheader", "--array", "--states=all", "--format=%i|%T|%r"]
        done = _call([*words, "--jobs=" + ",".join(sorted(self._arrays))])
        self._asked_at = time.monotonic()
        if done.returncode == 0 or _UNKNOWN in done.stderr:
            self._jobs = {}
            for line in done.stdout.splitlines():
                job_id, _, rest = line.strip().partition("|")
                state, _, reason = rest.partition("|")
                self._jobs[job_id] = Job(job_id, state, reason)
        return done


QUEUE = Queue()


def live_job(folder: RunFolder) -> Job | None:
    """The job of a run if it waits or runs."""
    job = _job_of(folder)
    return job if job and job.run_state and not folder.job_has_ended() else None


def _job_of(folder: RunFolder) -> Job | None:
    recorded = folder.read(folder.job)
    return QUEUE.job(str(recorded.get("id"))) if recorded.get("scheduler") == "slurm" else None


def start_jobs(configs: Sequence[Config], settings: Settings, words: Sequence[str] | None = None) -> list[str]:
    """Submit runs whose `run_dir` is set as one array, and record each job in its run's folder. Returns the job ids.

    Args:
        words: the command of which each job is a shard, named as its folder; None: each job is a run.

    Raises:
        UserError: Slurm refuses, or the runs need different numbers of machines.
    """
    folders, shapes = [], set()
    for config in configs:
        shapes.add((config.hardware.num_machines, config.hardware.num_processes))
        folders.append(RunFolder(str(config.run_dir)))
    if len(shapes) > 1:
        raise UserError("hardware.num_machines, hardware.num_processes: give all runs of a sweep the same numbers")
    stamp = datetime.datetime.now().strftime("%Y-%m-%d_%H-%M-%S_")
    parent = folders[0].path.parent / ".slurm"
    parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=stamp, dir=parent))
    with open(work / "runs.txt", "w") as file:
        for config, folder in zip(configs, folders, strict=True):
            folder.path.mkdir(parents=True, exist_ok=True)
            if words is None:
                save_config(config, folder.config)
            print(folder.path, file=file)
    command = _RUN if words is None else f'{shlex.join(words)} --shards "${{run##*/}}"'
    (work / "job.sh").write_text(batch_script(work, len(folders), settings, *shapes.pop(), command))
    done = _call(["sbatch", "--parsable", str(work / "job.sh")])
    if done.returncode:
        raise UserError(
            f"sbatch refused the jobs: {_said(done)}.\nChange hydra.launcher.*; the script is {work / 'job.sh'}"
        )
    array = done.stdout.strip().split(";")[0]
    ids = []
    for number, folder in enumerate(folders):
        ids.append(f"{array}_{number}")
        record_job(folder, ids[-1])
    _submitted.extend(folders)
    return ids


def record_job(folder: RunFolder, job_id: str) -> None:
    """Write the job of a run into its folder."""
    write_json(folder.job, {"scheduler": "slurm", "id": job_id, "submitted": now()})


def batch_script(
    work: Path, count: int, settings: Settings, nodes: int = 1, processes: int = 1, words: str = _RUN
) -> str:
    """The text of the batch script for `count` runs, listed in work/runs.txt.

    Args:
        nodes: machines of each run. processes: of the run on each of them.
        words: of cosmos-exp, as the shell reads them.
    """
    options = {}
    for key, value in settings.items():
        if key not in _OURS:
            options[_OPTIONS.get(key, key.replace("_", "-"))] = value
    if options.get("mem") is not None:
        options["mem"] = f"{round(options['mem'] * 1024)}M"
    options |= {
        "nodes": nodes,
        "array": f"0-{count - 1}%{settings.get('array_parallelism', count)}",
        "output": str(work / "%a.txt").replace(" ", "\\ "),
        "open-mode": "append",
        "chdir": str(Path.cwd()),
        "signal": f"B:USR1@{settings.get('signal_delay_s', 120)}",
        "requeue": True,
        **(settings.get("additional_parameters") or {}),
    }
    lines = ["#!/bin/bash"]
    for key, value in options.items():
        if value is True:
            lines.append(f"#SBATCH --{key}")
        elif value is not None and value is not False:
            lines.append(f"#SBATCH --{key}={shlex.quote(str(value))}")
    command, stop = shlex.quote(sys.executable), "kill -TERM $pid"
    if nodes > 1:
        command, stop = (
            _TORCHRUN.format(python=command, nodes=nodes, processes=processes),
            'scancel --signal=TERM "$job"',
        )
    body = _SCRIPT.format(
        runs=shlex.quote(str(work / "runs.txt")),
        setup="\n".join(settings.get("setup") or []),
        stop=stop,
        command=command,
        words=words,
        restarts=settings.get("max_num_timeout", 0),
    )
    return "\n".join([*lines, body])


def wait_for_jobs(folders: Sequence[RunFolder], fail_fast: bool = False) -> None:
    """Wait until no job of these runs waits or runs. Returns at once without jobs.

    Args:
        fail_fast: cancel the others when one fails.
    """
    waiting = list(filter(live_job, folders))
    while jobs := live_jobs(waiting):
        if fail_fast and any(map(_failed, folders)):
            _call(["scancel", *jobs])
            fail_fast = False
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    for folder in waiting:
        _settle(folder)


def live_jobs(folders: Iterable[RunFolder]) -> list[str]:
    """The ids of the jobs that wait or run."""
    return [job.id for folder in folders if (job := live_job(folder))]


def _failed(folder: RunFolder) -> bool:
    return folder.job_has_ended() and folder.status.get("state") == "failed"


def _settle(folder: RunFolder) -> None:
    """Record how a run's job ended, and a failure if the run could not record it itself."""
    job = _job_of(folder)
    if job is None or folder.job_has_ended():
        return
    write_json(folder.job, {**folder.read(folder.job), "ended": job.state})
    state = folder.status.get("state")
    if state == "running" or (state is None and job.state not in ("COMPLETED", "CANCELLED", GONE)):
        last = f": {last_lines(folder.log)}" if job.state == "FAILED" else ""
        folder.record_failure(f"Slurm job {job.id} ended ({job.state}) before the run could record its end{last}")


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
    code = 0
    for folder in submitted:
        if folder.status.get("state") != "done":
            print(f"{folder.path}: {folder.status.get('error') or how_job_ended(folder)}", file=sys.stderr)
            code = 1
    return code


def continuing(folders: Iterable[RunFolder]) -> str:
    """The jobs that continue and how to cancel them; empty without any."""
    ids = live_jobs(folders)
    if not ids:
        return ""
    return f"{len(ids)} Slurm jobs continue. Cancel with `scancel {compact(ids)}`."


def how_job_ended(folder: RunFolder) -> str | None:
    """The end of a run's job in words, for a run that wrote no status; None without a job."""
    recorded = folder.read(folder.job)
    if "id" not in recorded:
        return None
    return f"Slurm job {recorded['id']} ended: {recorded.get('ended', GONE)}"


def compact(job_ids: Iterable[str]) -> str:
    """Job ids as scancel takes them: `12_[0,1] 13_[0]`."""
    tasks: dict[str, list[str]] = {}
    for job_id in job_ids:
        array, _, task = job_id.partition("_")
        tasks.setdefault(array, []).append(task)
    return " ".join(f"{array}_[{','.join(numbers)}]" for array, numbers in tasks.items())


def _call(words: Sequence[str]) -> subprocess.CompletedProcess[str]:
    try:
        return subprocess.run(words, capture_output=True, text=True, check=False, timeout=_PATIENCE)
    except FileNotFoundError:
        said = "not found. Run the command where Slurm's commands are (a login node), or leave hydra/launcher out"
        return subprocess.CompletedProcess(words, _NOT_FOUND, "", said)
    except subprocess.TimeoutExpired:
        return subprocess.CompletedProcess(words, 1, "", f"no answer in {_PATIENCE:g} s; see `squeue --me`")


def _said(done: subprocess.CompletedProcess[str]) -> str:
    """An error of Slurm in one line, without the command's name in front of each."""
    lines = []
    for line in done.stderr.splitlines():
        lines.append(line.split("error: ", 1)[-1].strip().rstrip("."))
    return printable("; ".join(lines)) or "no reason given"
