"""The run folder: the one thing that the stages of a run share. Its paths, status, manifest and lock."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from filelock import FileLock, Timeout

from cosmos_exp.errors import DamagedError, UserError
from cosmos_exp.files import JsonObject, file_sha256, inside, inside_by_name, write_json, writing
from cosmos_exp.provenance import now
from cosmos_exp.run_folder.records import read_record, read_rows
from cosmos_exp.text import printable, redact, redacted

REFERENCES = ("real", "frozen")  # the recorded continuation of a test pair, and its first frame held
SWEEP_FILE = "sweep.json"  # the record of a sweep by arms, in the folder of its runs
ADAPTER_FILE = "pytorch_lora_weights.safetensors"
ADAPTER_NAME = f"adapter/{ADAPTER_FILE}"  # its path inside the folder

# What a run leaves that ended before its first step. Anything else in a run folder is work.
BEFORE_WORK = ("config.yaml", "manifest.json", "status.json", "log.txt", "job.json", ".lock", "wandb")


def in_use(path: Path) -> str:
    """The error of a run folder that another process holds."""
    return f"{path}: another process is using this run folder. Wait for it, or stop it."


class RunFolder:
    """Paths and records of one run (docs/reference/run_folder.md describes the files)."""

    def __init__(self, path: str | Path):
        self.path = Path(path).absolute()
        self.config = self.path / "config.yaml"
        self.manifest_file = self.path / "manifest.json"
        self.status_file = self.path / "status.json"
        self.train_log = self.path / "train_log.jsonl"
        self.validation_log = self.path / "validation_log.jsonl"
        self.adapter = self.path / "adapter"
        self.adapter_file = self.path / ADAPTER_NAME
        self.checkpoints = self.path / "checkpoints"
        self.videos = self.path / "videos"
        self.scores = self.path / "scores.jsonl"
        self.references = self.path / "references"
        self.metrics = self.path / "metrics.json"
        self.log = self.path / "log.txt"
        self.job = self.path / "job.json"

    def video(self, sample: str, seed: int) -> Path:
        """videos/<sample>__seed<k>.mp4

        Raises:
            UserError: the sample's name leaves the folder.
        """
        return inside_by_name(self.videos, f"{sample}__seed{seed}.mp4")

    def recorded(self, name: str) -> Path:
        """The file that a record names by its path in this folder.

        Raises:
            UserError: it is outside of this folder.
        """
        return inside(self.path, name)

    def recorded_video(self, name: str) -> Path:
        """The file that scores.jsonl names in videos/.

        Raises:
            UserError: it is outside of this folder.
        """
        inside_by_name(self.videos, name)
        return inside(self.path, f"videos/{name}")

    def reference_video(self, kind: str, sample: str) -> Path:
        """references/<kind>/<sample>.mp4; `kind` is real (the recording) or frozen (the held first frame)."""
        return inside_by_name(self.references / kind, f"{sample}.mp4")

    def reference_scores(self, kind: str) -> Path:
        """references/<kind>/scores.jsonl"""
        return self.references / kind / "scores.jsonl"

    def name_of(self, path: Path) -> str:
        """The path of a file of this folder inside it, as records name it."""
        return path.relative_to(self.path).as_posix()

    def adapter_files(self) -> list[Path]:
        """What the training wrote: the adapter's file, or the files of a folder."""
        return sorted(file for file in self.adapter.glob("*") if file.is_file())

    def hashes(self, files: Iterable[Path]) -> dict[str, str]:
        """SHA-256 by name of those of the files that exist."""
        return {self.name_of(path): file_sha256(path) for path in files if path.is_file()}

    def read(self, path: Path) -> JsonObject:
        """A JSON record without control characters in its text; empty if the file does not exist.

        Raises:
            DamagedError: it cannot be read, or does not hold what its name says.
        """
        return read_record(path)

    def check(self) -> None:
        """Read every JSON record and log.

        Raises:
            DamagedError: the first that is damaged.
        """
        for file in (self.status_file, self.manifest_file, self.metrics):
            read_record(file)
        for file in (self.train_log, self.validation_log, self.scores, *map(self.reference_scores, REFERENCES)):
            read_rows(file)

    def lock(self, seconds: float = 1.0) -> FileLock:
        """Hold the folder for this process. `release()`, or the end of the process, frees it.

        Args:
            seconds: how long to wait for it: `is_locked` of another process holds it for a moment.

        Raises:
            UserError: another process uses the folder.
        """
        lock = FileLock(self.path / ".lock")
        try:
            with writing(self.path / ".lock"):
                lock.acquire(timeout=seconds)
        except Timeout as error:
            raise UserError(in_use(self.path)) from error
        except NotImplementedError:  # a file system without locks
            pass
        return lock

    def is_locked(self) -> bool:
        """Whether a process uses the folder now."""
        if not (self.path / ".lock").is_file():
            return False
        try:
            self.lock(seconds=0.0).release()
        except UserError:
            return True
        return False

    def is_taken(self) -> bool:
        """Whether another configuration must leave this folder alone: it holds work, or a process or job is at work."""
        try:
            job = self.read(self.job)
            waits = bool(job) and "ended" not in job and not self.job_has_ended()
            return waits or self.is_locked() or self.holds_work()
        except DamagedError:
            return True

    def holds_work(self) -> bool:
        """Whether it holds anything of a training or of what follows: a checkpoint, a step's row, a video, a score, ….

        Raises:
            DamagedError: a record cannot be read.
        """
        if set(self.manifest.get("stages", {})) - {"prepare"}:
            return True
        if any(row.get("step") for row in read_rows(self.validation_log)):  # at step 0 nothing is trained
            return True
        others = [p for p in self.path.glob("*") if p.name not in (*BEFORE_WORK, self.validation_log.name)]
        return any(p.stat().st_size if p.is_file() else any(f.is_file() for f in p.rglob("*")) for p in others)

    def forget(self) -> None:
        """Delete what a run without work recorded of its inputs, so that another one may begin here."""
        self.manifest_file.unlink(missing_ok=True)
        self.validation_log.unlink(missing_ok=True)

    def job_has_ended(self) -> bool:
        """Whether a run with a job has ended since it was submitted, even if Slurm still cleans up."""
        status, recorded = self.status, self.read(self.job)
        return status.get("state") in ("done", "failed") and str(status.get("time")) >= str(recorded.get("submitted"))

    @property
    def status(self) -> JsonObject:
        """state (running, done, failed, interrupted), stage, error, time; empty before the run has started."""
        return self.read(self.status_file)

    def set_status(self, state: str, stage: str, error: str | None = None) -> None:
        """Record `state` (running, done, failed, interrupted) and the stage reached."""
        shown = None if error is None else redact(printable(error))
        write_json(self.status_file, {"state": state, "stage": stage, "error": shown, "time": now()})

    def record_failure(self, error: str) -> None:
        """Record a failure that the run could not record itself. A folder that a process uses is left alone."""
        if self.status.get("state") not in ("failed", "interrupted") and not self.is_locked():
            self.set_status("failed", str(self.status.get("stage", "prepare")), error)

    @property
    def manifest(self) -> JsonObject:
        """The record of what went into the run and how its stages ended."""
        return self.read(self.manifest_file)

    def update_manifest(self, **entries: object) -> None:
        """Merge entries into the manifest (dictionaries one level deep) and write it."""
        manifest = self.manifest
        for name, value in entries.items():
            old = manifest.get(name)
            manifest[name] = old | value if isinstance(value, dict) and isinstance(old, dict) else value
        write_json(self.manifest_file, redacted(manifest))

    def stage_done(self, stage: str, config_hash: str) -> bool:
        """Whether `stage` was completed under the same configuration."""
        return bool(self.manifest.get("stages", {}).get(stage, {}).get("config_hash") == config_hash)
