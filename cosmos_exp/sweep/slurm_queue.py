"""Slurm's queue as its own commands report it: submit, state of a job, cancel. The job id of a run is in its job.json."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cosmos_exp.errors import UserError
from cosmos_exp.files import write_json
from cosmos_exp.provenance import now
from cosmos_exp.run_folder import RunFolder
from cosmos_exp.text import printable

_QUEUED = ("PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_HOLD", "REQUEUE_FED", "RESV_DEL_HOLD", "SPECIAL_EXIT")
_RUNNING = ("RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "SIGNALING", "STAGE_OUT", "RESIZING")
GONE = "GONE"
_UNKNOWN = "Invalid job id"  # what squeue says if it has forgotten the only job it is asked for
_SECONDS = (1.0, 15.0)  # between two calls of squeue: at first, and at most
_PATIENCE = 60.0  # seconds for a command of Slurm

# What sbatch says, and the key that the user can set.
_FIXES = {
    "partition": "hydra.launcher.partition",
    "account": "hydra.launcher.account",
    "qos": "hydra.launcher.qos",
    "time limit": "hydra.launcher.timeout_min",
    "memory": "hydra.launcher.mem_gb",
    "node configuration": "hydra.launcher.cpus_per_task, gpus_per_node or mem_gb",
    "node count": "hydra.launcher.nodes",
    "array": "hydra.launcher.array_parallelism",
}


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
        return "queued" if self.state in _QUEUED else "running" if self.state in _RUNNING else None


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
        with self._lock:
            array, is_new = job_id.split("_")[0], job_id.split("_")[0] not in self._arrays
            self._arrays.add(array)
            if is_new or time.monotonic() - self._asked_at > self._interval():
                try:
                    self._ask(is_new)
                except FileNotFoundError:
                    return None
            # An array whose last waiting task was canceled is listed as one job without a task.
            return self._jobs.get(job_id) or Job(job_id, self._jobs.get(array, Job(array, GONE)).state)

    def _interval(self) -> float:
        first, most = _SECONDS
        return min(most, first + (time.monotonic() - self._began) / 30)

    def _ask(self, must_answer: bool) -> None:
        words = ["squeue", "--noheader", "--array", "--states=all", "--format=%i|%T|%r"]
        try:
            done = _call([*words, "--jobs=" + ",".join(sorted(self._arrays))])
        except subprocess.TimeoutExpired:
            done = subprocess.CompletedProcess(words, 1, "", f"no answer in {_PATIENCE:g} s")
        self._asked_at = time.monotonic()
        if done.returncode == 0 or _UNKNOWN in done.stderr:
            rows = [line.strip().split("|", 2) for line in done.stdout.splitlines() if line.count("|") >= 2]
            self._jobs = {row[0]: Job(*row) for row in rows}
        elif must_answer:
            raise UserError(f"squeue: {_said(done.stderr)}. Try again when Slurm answers; no job was submitted.")


QUEUE = Queue()


def submit(script: Path) -> str:
    """Submit a batch script. Returns the id of its array.

    Raises:
        UserError: there is no Slurm here, or it refuses the job.
    """
    try:
        done = _call(["sbatch", "--parsable", str(script)])
    except FileNotFoundError:
        raise UserError(
            "sbatch: not found. Run the command where Slurm's commands are (a login node), or leave hydra/launcher out."
        ) from None
    except subprocess.TimeoutExpired:
        raise UserError(f"sbatch: no answer in {_PATIENCE:g} s. See `squeue --me` before you try again.") from None
    if done.returncode:
        said = _said(done.stderr)
        keys = [key for words, key in _FIXES.items() if words in said.lower()]
        fix = f"Set {keys[0]}" if keys else "Change hydra.launcher.*"
        raise UserError(f"sbatch refused the jobs: {said}.\n{fix}; the script is {script}")
    return done.stdout.strip().split(";")[0]


def cancel(job_ids: Sequence[str]) -> None:
    """Cancel jobs. Running ones write a checkpoint first.

    Raises:
        UserError: Slurm refuses.
    """
    done = _call(["scancel", *job_ids])
    if done.returncode:
        raise UserError(f"scancel: {_said(done.stderr)}")


def record_job(folder: RunFolder, job_id: str) -> None:
    """Write the job of a run into its folder."""
    write_json(folder.job, {"scheduler": "slurm", "id": job_id, "submitted": now()})


def job_of(folder: RunFolder) -> Job | None:
    """The job of a run as Slurm knows it now; None if the run has none, or there is no Slurm here."""
    recorded = folder.read(folder.job)
    return QUEUE.job(str(recorded.get("id"))) if recorded.get("scheduler") == "slurm" else None


def live_job(folder: RunFolder) -> Job | None:
    """The job of a run if it waits or runs."""
    job = job_of(folder)
    return job if job and job.run_state and not folder.job_has_ended() else None


def compact(job_ids: Iterable[str]) -> str:
    """Job ids as scancel takes them: `12_[0,1] 13_0`."""
    tasks: dict[str, list[str]] = {}
    for array, _, task in (job_id.partition("_") for job_id in job_ids):
        tasks.setdefault(array, []).append(task)
    return " ".join(f"{a}_{own[0]}" if len(own) == 1 else f"{a}_[{','.join(own)}]" for a, own in tasks.items())


def _call(words: Sequence[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, capture_output=True, text=True, check=False, timeout=_PATIENCE)


def _said(stderr: str) -> str:
    """An error of Slurm in one line, without the command's name in front of each."""
    lines = [line.split("error: ", 1)[-1].strip().rstrip(".") for line in stderr.splitlines() if line.strip()]
    return printable("; ".join(lines)) or "no reason given"
