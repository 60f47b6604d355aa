"""wandb as a mirror of the run folder. Whatever goes wrong with it, the run goes on."""

from __future__ import annotations

import dataclasses
import json
import os
import uuid
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cosmos_exp.files import read_json_lines
from cosmos_exp.run_folder import RunFolder


def logged_in() -> bool:
    """Whether an API key is at hand, without asking the network."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    netrc = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    return netrc.is_file() and "wandb" in netrc.read_text(errors="ignore")


def chosen_mode(mode: str) -> str:
    """online, offline or off for `tracking.mode`."""
    return ("online" if logged_in() else "offline") if mode == "auto" else mode


def job_type(config: Any, folder: RunFolder) -> str:
    """base: no adapter. evaluate: the training is done already, only generation and scores are left. train: the rest."""
    if config.adapter.kind == "none":
        return "base"
    trained = "train" in folder.read(folder.manifest_file).get("stages", {}) and folder.adapter_file.is_file()
    return "evaluate" if trained else "train"


class Tracker:
    """Sends what the run folder gets. The first failure is said once, then the tracker is silent."""

    def __init__(self, config: Any, folder: RunFolder, active: bool = True):
        self.run: Any = None
        self.mode = chosen_mode(config.tracking.mode) if active else "off"
        if (
            self.mode != "off"
            and not self._guard(lambda: self._start(config, folder, self.mode))
            and self.mode == "online"
        ):
            self.mode = "offline"
            self._guard(lambda: self._start(config, folder, "offline"))

    def _start(self, config: Any, folder: RunFolder, mode: str) -> None:
        import wandb

        # An agent of a W&B sweep has made the run already.
        run_id = os.environ.get("WANDB_RUN_ID") if os.environ.get("WANDB_SWEEP_ID") else None
        run_id = run_id or folder.read(folder.manifest_file).get("wandb_id") or uuid.uuid4().hex[:8]
        os.environ.setdefault("WANDB_SILENT", "true")
        adapter = config.adapter
        label = adapter.kind if adapter.kind == "none" else f"{adapter.kind}-r{adapter.rank}"
        self.run = wandb.init(
            project=config.tracking.project,
            entity=config.tracking.entity,
            name=f"{config.name}-{label}",
            group=config.tracking.group or config.name,
            job_type=job_type(config, folder),
            tags=[*config.tags, f"adapter:{adapter.kind}", f"rank:{adapter.rank}", f"alpha:{adapter.alpha:g}"],
            config=dataclasses.asdict(config),
            dir=str(folder.path),
            id=run_id,
            resume="allow",
            mode=mode,  # type: ignore[arg-type]
            settings=wandb.Settings(init_timeout=30, console="off"),
        )
        for kind in ("train", "validation"):
            self.run.define_metric(f"{kind}/step")
            self.run.define_metric(f"{kind}/*", step_metric=f"{kind}/step")
        for name in ("train/loss", "validation/validation_loss"):
            self.run.define_metric(name, step_metric=f"{name.split('/')[0]}/step", summary="min,last")
        folder.update_manifest(wandb_id=run_id)

    def _guard(self, call: Callable[[], Any]) -> bool:
        try:
            call()
            return True
        except Exception as error:
            warnings.warn(
                f"wandb: {type(error).__name__}: {str(error)[:200]}; the run goes on without it", stacklevel=3
            )
            self.run = None
            return False

    def log(self, kind: str, values: dict[str, Any], step: int) -> None:
        """Mirror one line of a log; `kind` is train or validation."""
        if self.run is not None:
            self._guard(lambda: self.run.log({f"{kind}/{k}": v for k, v in values.items()} | {f"{kind}/step": step}))

    def finish(self, folder: RunFolder, videos: bool = True) -> None:
        """Send summary, score table with videos, and the adapter; then end the run."""
        if self.run is None:
            return
        if self._guard(lambda: self._send_results(folder, videos)):
            self._guard(lambda: self.run.finish())

    def abandon(self, exit_code: int = 1) -> None:
        """End the run as failed or stopped."""
        if self.run is not None:
            self._guard(lambda: self.run.finish(exit_code=exit_code))

    def _send_results(self, folder: RunFolder, videos: bool) -> None:
        import wandb

        metrics = folder.read(folder.metrics)
        for measure, entry in metrics.get("measures", {}).items():
            for name, value in entry.items():
                self.run.summary[f"{measure}/{name}"] = value
        for name, value in metrics.get("training", {}).items():
            self.run.summary[f"training/{name}"] = value
        for name, entry in folder.read(folder.manifest_file).get("stages", {}).items():
            for key in ("seconds", "peak_memory_gib"):
                self.run.summary[f"stages/{name}/{key}"] = entry[key]
        rows = read_json_lines(folder.scores)
        if rows:
            measures = sorted({r["measure"] for r in rows})
            table = wandb.Table(columns=["sample", "seed", "prompt", "video", *measures])
            keyed: dict[tuple, dict] = {}
            for r in rows:
                keyed.setdefault((r["sample"], r["seed"], r["prompt"], r["video"]), {})[r["measure"]] = r["value"]
            for (sample, seed, prompt, video), values in keyed.items():
                path = folder.videos / video
                clip = wandb.Video(str(path), format="mp4") if videos and path.is_file() else None
                table.add_data(sample, seed, prompt, clip, *[values.get(m) for m in measures])
            self.run.log({"evaluation": table})
        self._send_lineage(folder.read(folder.manifest_file), folder)

    def _send_lineage(self, manifest: dict[str, Any], folder: RunFolder) -> None:
        """What went in (data, base model) and the adapter that came out, as artifacts.

        Inputs are linked online only: wandb cannot link an artifact offline. The adapter's metadata names them always.
        """
        import wandb

        prints = manifest.get("data_fingerprint"), manifest.get("model", {}).get("fingerprints", {}).get("transformer")
        if self.mode == "online":
            for kind, fingerprint, about in (
                ("dataset", prints[0], manifest.get("data")),
                ("model", prints[1], manifest.get("model")),
            ):
                if fingerprint:
                    source = wandb.Artifact(f"{kind}-{fingerprint}", kind, metadata={"fingerprint": fingerprint})
                    with source.new_file("about.json") as file:
                        json.dump(about, file, indent=2, default=str)
                    self.run.use_artifact(source)
        if folder.adapter_file.is_file():
            artifact = wandb.Artifact(
                f"adapter-{self.run.id}",
                "adapter",
                metadata={
                    "config_hash": manifest.get("config_hash"),
                    "data_fingerprint": prints[0],
                    "base_model": manifest.get("model"),
                },
            )
            artifact.add_file(str(folder.adapter_file))
            self.run.log_artifact(artifact)
