"""The run folder: the one thing that the stages of a run share. Paths, atomic writes, status, manifest, scores."""

from __future__ import annotations

import contextlib
import datetime
import fcntl
import importlib.metadata
import json
import os
import platform
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cosmos_exp.errors import UserError

PACKAGES = (
    "cosmos-exp", "torch", "torchvision", "diffusers", "transformers", "peft", "accelerate", "hydra-core", "wandb",
    "opencv-python-headless", "av", "numpy", "safetensors",
)  # fmt: skip
ADAPTER_FILE = "pytorch_lora_weights.safetensors"


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary neighbour of `path` to write to; it takes the name when the block ends well, else it is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".tmp-", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Write JSON whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, allow_nan=False, default=str) + "\n")


def read_json_lines(path: Path) -> list[dict]:
    """The complete lines of a JSON-lines file; a last line cut by a crash is left out. Missing file: none."""
    if not path.is_file():
        return []
    rows = []
    lines = path.read_text().split("\n")
    for number, line in enumerate(lines):
        try:
            rows += [json.loads(line)] if line.strip() else []
        except ValueError as error:
            if number < len(lines) - 2:
                raise UserError(f"{path}, line {number + 1}: not JSON ({error}); mend or remove the line") from error
    return rows


def append_json_line(path: Path, row: dict) -> None:
    """Append one line in a single write, so that lines of several processes do not mix."""
    data = (json.dumps(row, allow_nan=False) + "\n").encode()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(descriptor, data)
    finally:
        os.close(descriptor)


def write_json_lines(path: Path, rows: list[dict]) -> None:
    """Write all lines, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text("".join(json.dumps(row, allow_nan=False) + "\n" for row in rows))


def now() -> str:
    """The time in UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def differences(old: Any, new: Any, where: str = "") -> list[str]:
    """`key: old -> new` for each key in which two plain dictionaries differ."""
    found = []
    for name in sorted(set(old) | set(new), key=str):
        a, b = old.get(name), new.get(name)
        if isinstance(a, dict) and isinstance(b, dict):
            found += differences(a, b, f"{where}{name}.")
        elif a != b:
            found.append(f"{where}{name}: {a} -> {b}")
    return found


class RunFolder:
    """Paths and records of one run."""

    def __init__(self, path: str | Path):
        self.path = Path(path).absolute()

    @property
    def config(self) -> Path:
        return self.path / "config.yaml"

    @property
    def manifest_file(self) -> Path:
        return self.path / "manifest.json"

    @property
    def status_file(self) -> Path:
        return self.path / "status.json"

    @property
    def train_log(self) -> Path:
        return self.path / "train_log.jsonl"

    @property
    def validation_log(self) -> Path:
        return self.path / "validation_log.jsonl"

    @property
    def adapter(self) -> Path:
        return self.path / "adapter"

    @property
    def adapter_file(self) -> Path:
        return self.adapter / ADAPTER_FILE

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def videos(self) -> Path:
        return self.path / "videos"

    @property
    def scores(self) -> Path:
        return self.path / "scores.jsonl"

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.json"

    def video(self, sample: str, seed: int) -> Path:
        """videos/<sample>__seed<k>.mp4"""
        return self.videos / f"{sample}__seed{seed}.mp4"

    def read(self, path: Path) -> dict[str, Any]:
        """A JSON record, empty when it is not there."""
        return json.loads(path.read_text()) if path.is_file() else {}

    def lock(self) -> Any:
        """Hold the folder for this process; the lock goes when the returned file closes or the process ends.

        Raises:
            UserError: another process works in it.
        """
        file = open(self.path / ".lock", "a")  # noqa: SIM115  held as long as the run goes
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.close()
            raise UserError(
                f"{self.path}: another process is working in this run folder; wait for it or end it"
            ) from error
        except OSError:  # a file system without locks
            pass
        return file

    def is_locked(self) -> bool:
        """Whether a process works in the folder now."""
        if not (self.path / ".lock").is_file():
            return False
        try:
            self.lock().close()
            return False
        except UserError:
            return True

    def set_status(self, state: str, stage: str, error: str | None = None, **more: Any) -> None:
        """Record `state` (running, done, failed, interrupted) and the stage reached."""
        write_json(self.status_file, {"state": state, "stage": stage, "error": error, "time": now(), **more})

    def update_manifest(self, **entries: Any) -> dict[str, Any]:
        """Merge entries into the manifest (dictionaries one level deep) and write it."""
        manifest = self.read(self.manifest_file)
        for name, value in entries.items():
            old = manifest.get(name)
            manifest[name] = old | value if isinstance(value, dict) and isinstance(old, dict) else value
        write_json(self.manifest_file, manifest)
        return manifest

    def stage_done(self, stage: str, config_hash: str) -> bool:
        """Whether `stage` ended well before under the same configuration."""
        return self.read(self.manifest_file).get("stages", {}).get(stage, {}).get("config_hash") == config_hash


def machine() -> dict[str, Any]:
    """Versions, host and git state for the manifest."""
    versions = {}
    for name in PACKAGES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return {
        "python": platform.python_version(), "platform": platform.platform(), "host": platform.node(),
        "cpus": os.cpu_count(), "packages": versions, "git": _git(),
    }  # fmt: skip


def _git() -> dict[str, Any]:
    here = Path(__file__).parent

    def ask(*words: str) -> str | None:
        try:
            done = subprocess.run(["git", *words], cwd=here, capture_output=True, text=True, timeout=10, check=False)
        except (OSError, subprocess.TimeoutExpired):
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    commit = ask("rev-parse", "HEAD")
    return {"commit": commit, "dirty": bool(ask("status", "--porcelain")) if commit else None}
