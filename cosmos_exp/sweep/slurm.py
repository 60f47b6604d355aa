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

from cosmos_exp.config.record import load_config, save_config
from cosmos_exp.config.schema import Config, Sweep
from cosmos_exp.errors import UserError
from cosmos_exp.experiment.launching import last_lines
from cosmos_exp.files import write_json
from cosmos_exp.provenance import now
from cosmos_exp.run_folder import RunFolder
from cosmos_exp.text import printable

Settings = Mapping[str, object]  # of hydra.launcher

QUEUED = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "RESV_DEL_HOLD", "SPECIAL_EXIT")
RUNNING = ("RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING")
GONE = "GONE"  # Slurm has forgotten the job
_UNKNOWN = "Invalid job id"  # what squeue says if it has forgotten the only job it is asked for
_SECONDS = (1.0, 15.0)  # between two calls of squeue: at first, and at most
_SECONDS_BETWEEN_LOOKS = 0.5
_PATIENCE = 60.0  # seconds for a command of Slurm
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
        self._began = time.monotonic()
        self._lock = threading.Lock()

    def job(self, job_id: str) -> Job | None:
        """A job's newest known state; None where there is no Slurm.

        Raises:
            UserError: Slurm does not answer, and nothing is known of the job.
        """
        array = job_id.split("_")[0]
        with self._lock:
            is_new, first, most = array not in self._arrays, *_SECONDS
            self._arrays.add(array)
            interval = min(most, first + (time.monotonic() - self._began) / 30)
            if is_new or time.monotonic() - self._asked_at > interval:
                try:
                    self._ask(is_new)
                except FileNotFoundError:
                    return None
            # An array whose last waiting task was canceled is listed as one job without a task.
            return self._jobs.get(job_id) or Job(job_id, self._jobs.get(array, Job(array, GONE)).state)

    def _ask(self, must_answer: bool) -> None:
        words = ["squeue", "--noheader", "--array", "--states=all", "--format=%i|%T|%r"]
        try:
            done = _call([*words, "--jobs=" + ",".join(sorted(self._arrays))])
        except subprocess.TimeoutExpired:
            done = subprocess.CompletedProcess(words, 1, "", f"no answer in {_PATIENCE:g} s")
        self._asked_at = time.monotonic()
        if done.returncode == 0 or _UNKNOWN in done.stderr:
            self._jobs = {}
            for line in done.stdout.splitlines():
                if line.count("|") >= 2:
                    job = Job(*line.strip().split("|", 2))
                    self._jobs[job.id] = job
        elif must_answer:
            raise UserError(f"squeue: {_said(done)}. Try again when Slurm answers; no job was submitted.")


QUEUE = Queue()


def live_job(folder: RunFolder) -> Job | None:
    """The job of a run if it waits or runs."""
    job = _job_of(folder)
    return job if job and job.run_state and not folder.job_has_ended() else None


def _job_of(folder: RunFolder) -> Job | None:
    recorded = folder.read(folder.job)
    return QUEUE.job(str(recorded.get("id"))) if recorded.get("scheduler") == "slurm" else None


def start_jobs(configs: Sequence[Config], settings: Settings) -> list[str]:
    """Submit runs whose `run_dir` is set as one array, and record each job in its run's folder. Returns the job ids.

    Raises:
        UserError: Slurm refuses, or a configuration cannot be written down.
    """
    nodes = _nodes(configs, settings)
    folders = [RunFolder(str(config.run_dir)) for config in configs]
    for config, folder in zip(configs, folders, strict=True):
        _write_config(config, folder)
    stamp = datetime.datetime.now().strftime("%Y-%m-%d_%H-%M-%S_")
    parent = folders[0].path.parent / ".slurm"
    parent.mkdir(parents=True, exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=stamp, dir=parent))
    (work / "runs.txt").write_text("".join(f"{folder.path}\n" for folder in folders))
    (work / "job.sh").write_text(batch_script(work, len(folders), {**settings, "nodes": nodes}))
    array = _submit(work / "job.sh")
    ids = []
    for number, folder in enumerate(folders):
        ids.append(f"{array}_{number}")
        record_job(folder, ids[-1])
    _submitted.extend(folders)
    return ids


def record_job(folder: RunFolder, job_id: str) -> None:
    """Write the job of a run into its folder."""
    write_json(folder.job, {"scheduler": "slurm", "id": job_id, "submitted": now()})


def _nodes(configs: Sequence[Config], settings: Settings) -> int:
    """Nodes of each job: hardware.num_machines."""
    machines = {config.hardware.num_machines for config in configs}
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


def _submit(script: Path) -> str:
    """Submit a batch script. Returns the id of its array."""
    try:
        done = _call(["sbatch", "--parsable", str(script)])
    except FileNotFoundError:
        raise UserError(
            "sbatch: not found. Run the command where Slurm's commands are (a login node), or leave hydra/launcher out."
        ) from None
    except subprocess.TimeoutExpired:
        raise UserError(f"sbatch: no answer in {_PATIENCE:g} s. See `squeue --me` before you try again.") from None
    if done.returncode:
        raise UserError(f"sbatch refused the jobs: {_said(done)}.\nChange hydra.launcher.*; the script is {script}")
    return done.stdout.strip().split(";")[0]


def batch_script(work: Path, count: int, settings: Settings) -> str:
    """The text of the batch script for `count` runs, listed in work/runs.txt."""
    options = {_OPTIONS.get(key, key): value for key, value in settings.items() if key not in _OURS}
    options["array"] = f"0-{count - 1}%{min(count, _whole(settings, 'array_parallelism', 256))}"
    options["output"] = str(work / "%a.txt").replace(" ", "\\ ")
    options["open-mode"] = "append"
    options["chdir"] = str(Path.cwd())
    options["signal"] = f"B:USR1@{_whole(settings, 'signal_delay_s', 120)}"
    options["requeue"] = True
    if options.get("mem") is not None:
        options["mem"] = f"{round(float(str(options['mem'])) * 1024)}M"
    further, setup = settings.get("additional_parameters") or {}, settings.get("setup") or []
    assert isinstance(further, Mapping)
    assert isinstance(setup, Sequence)
    options |= further
    command, stop = f"{shlex.quote(sys.executable)} -m cosmos_exp run", "kill -TERM $pid"
    if _whole(settings, "nodes", 1) > 1:  # one `cosmos-exp run` per node; each starts the processes of its node
        srun = 'srun --ntasks-per-node=1 --kill-on-bad-exit=1 --cpus-per-task="${SLURM_CPUS_PER_TASK:-1}"'
        command, stop = f"{srun} {command}", 'scancel --signal=TERM "$job"'
    lines = ["#!/bin/bash"]
    for key, value in options.items():
        if value is not None and value is not False:
            text = "" if value is True else f"={shlex.quote(str(value))}"
            lines.append(f"#SBATCH --{key.replace('_', '-')}{text}")
    body = _SCRIPT.format(
        runs=shlex.quote(str(work / "runs.txt")),
        setup="\n".join(map(str, setup)),
        stop=stop,
        command=command,
        restarts=_whole(settings, "max_num_timeout", 0),
    )
    return "\n".join([*lines, body])


def _whole(settings: Settings, key: str, default: int) -> int:
    value = settings.get(key)
    return default if value is None else int(str(value))


def wait_for_jobs(folders: Sequence[RunFolder], fail_fast: bool = False) -> None:
    """Wait until no job of these runs waits or runs. Returns at once without jobs.

    Args:
        fail_fast: cancel the others when one fails.
    """
    waiting = [folder for folder in folders if live_job(folder)]
    canceled = False
    while jobs := _live(waiting):
        if fail_fast and not canceled and any(map(_failed, folders)):
            canceled = True
            cancel(jobs)
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    for folder in waiting:
        _settle(folder)


def _live(folders: Iterable[RunFolder]) -> list[str]:
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
    if state == "running" or (state is None and job.state not in ("CANCELLED", GONE)):
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
    ids = _live(folders)
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
        cancel(_live(folders))
        print("canceled; running ones write a checkpoint first", file=sys.stderr)


def cancel(job_ids: Sequence[str]) -> None:
    """Cancel jobs. Running ones write a checkpoint first.

    Raises:
        UserError: Slurm refuses.
    """
    done = _call(["scancel", *job_ids])
    if done.returncode:
        raise UserError(f"scancel: {_said(done)}")


def how_job_ended(folder: RunFolder) -> str | None:
    """The end of a run's job in words, for a run that wrote no status; None without a job."""
    recorded = folder.read(folder.job)
    if "id" not in recorded:
        return None
    ended = recorded.get("ended", GONE)
    how = "was canceled, or Slurm has forgotten it" if ended == GONE else f"ended: {ended}"
    return f"Slurm job {recorded['id']} {how}"


def compact(job_ids: Iterable[str]) -> str:
    """Job ids as scancel takes them: `12_[0,1] 13_0`."""
    tasks: dict[str, list[str]] = {}
    for job_id in job_ids:
        array, _, task = job_id.partition("_")
        tasks.setdefault(array, []).append(task)
    words = []
    for array, own in tasks.items():
        words.append(f"{array}_{own[0]}" if len(own) == 1 else f"{array}_[{','.join(own)}]")
    return " ".join(words)


def _call(words: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=_PATIENCE)


def _said(done: subprocess.CompletedProcess[str]) -> str:
    """An error of Slurm in one line, without the command's name in front of each."""
    lines = []
    for line in done.stderr.splitlines():
        if line.strip():
            lines.append(line.split("error: ", 1)[-1].strip().rstrip("."))
    return printable("; ".join(lines)) or "no reason given"
