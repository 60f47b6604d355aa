"""The run folder: the one thing that the stages of a run share. Paths, atomic writes, status, manifest, scores."""

from __future__ import annotations

import fcntl
import json
from pathlib import Path
from typing import Any

from cosmos_exp.errors import UserError
from cosmos_exp.files import write_json
from cosmos_exp.provenance import now

ADAPTER_FILE = "pytorch_lora_weights.safetensors"


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
