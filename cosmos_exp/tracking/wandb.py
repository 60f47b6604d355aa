"""wandb as a mirror of the run folder. An error of wandb never stops a run."""

from __future__ import annotations

import dataclasses
import json
import os
import sys
import uuid
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from cosmos_exp.config.adapter_label import adapter_label
from cosmos_exp.config.schema import Config
from cosmos_exp.errors import UserError
from cosmos_exp.files import JsonObject
from cosmos_exp.run_folder import RunFolder
from cosmos_exp.statistics.scores import read_scores
from cosmos_exp.text import printable, redact, redacted
from cosmos_exp.tracking.offline import STAGING

DATA_DIR = "WANDB_DATA_DIR"

if TYPE_CHECKING:
    import wandb
    from wandb.sdk.wandb_run import Run


def logged_in() -> bool:
    """Whether an API key is configured; does not use the network."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    netrc = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    return netrc.is_file() and "wandb" in netrc.read_text(errors="ignore")


def chosen_mode(mode: str) -> str:
    """The mode for `tracking.mode`: online, offline or off. `auto` is online with a login, else offline."""
    return ("online" if logged_in() else "offline") if mode == "auto" else mode


def check_login(mode: str) -> None:
    """Check that `tracking.mode=online` can work; wandb would ask for a key, or wait.

    Raises:
        UserError: online was chosen, and there is no login.
    """
    if mode == "online" and not logged_in():
        raise UserError(
            "tracking.mode=online: no wandb login on this machine. Run `wandb login` or set WANDB_API_KEY, or set "
            "tracking.mode=offline."
        )


def job_type(config: Config, folder: RunFolder) -> str:
    """`base` without an adapter, `evaluate` if the training is already done, else `train`."""
    if config.adapter.kind == "none":
        return "base"
    trained = "train" in folder.manifest.get("stages", {}) and folder.adapter_file.is_file()
    return "evaluate" if trained else "train"


class Tracker:
    """Sends to wandb what is written to the run folder. The first error is a warning and turns the tracker off.

    Args:
        config: The run's configuration.
        folder: The run folder.
        active: False turns the tracker off, e.g. in all processes but the main one.
    """

    def __init__(self, config: Config, folder: RunFolder, active: bool = True):
        self.run: Run | None = None
        self.staged = False
        self.mode = chosen_mode(config.tracking.mode) if active else "off"
        if self.mode == "off" or self._guard(lambda: self._start(config, folder, self.mode)):
            return
        if self.mode == "online":
            self.mode = "offline"
            self._guard(lambda: self._start(config, folder, self.mode))

    def _start(self, config: Config, folder: RunFolder, mode: str) -> None:
        import wandb

        # The agent of a W&B sweep has already created the run.
        run_id = os.environ.get("WANDB_RUN_ID") if os.environ.get("WANDB_SWEEP_ID") else None
        run_id = run_id or folder.manifest.get("wandb_id") or uuid.uuid4().hex[:8]
        os.environ.setdefault("WANDB_SILENT", "true")
        sys.argv[1:] = [redact(word) for word in sys.argv[1:]]  # wandb records it
        self._stage_in(folder, mode)
        adapter, label = config.adapter, adapter_label(config.adapter)
        self.run = wandb.init(
            project=config.tracking.project,
            entity=config.tracking.entity,
            name=redact(f"{config.name}-{label}"),
            group=redact(config.tracking.group or config.name),
            job_type=job_type(config, folder),
            tags=[
                *map(redact, config.tags),
                f"adapter:{adapter.kind}",
                f"rank:{adapter.rank}",
                f"alpha:{adapter.alpha:g}",
            ],
            config=redacted({"arm": label, **dataclasses.asdict(config)}),
            dir=str(folder.path),
            id=run_id,
            resume="allow",
            mode=mode,  # type: ignore[arg-type]  # a str, checked by the schema
            settings=wandb.Settings(init_timeout=30, console="off", disable_git=True),  # git: remotes hold passwords
        )
        for kind in ("train", "validation"):
            self.run.define_metric(f"{kind}/step")
            self.run.define_metric(f"{kind}/*", step_metric=f"{kind}/step")
        for name in ("train/loss", "validation/validation_loss"):
            self.run.define_metric(name, step_metric=f"{name.split('/')[0]}/step", summary="min,last")
        folder.update_manifest(wandb_id=run_id)

    def _stage_in(self, folder: RunFolder, mode: str) -> None:
        """Let an offline run keep copies of its artifacts in the run folder; by default they are in the home folder."""
        if mode == "offline" and DATA_DIR not in os.environ:
            os.environ[DATA_DIR] = str(folder.path.absolute() / STAGING)
            self.staged = True

    def _end(self, run: Run | None, exit_code: int = 0) -> None:
        if run is not None:
            self._guard(lambda: run.finish(exit_code=exit_code))
        if self.staged:
            os.environ.pop(DATA_DIR, None)

    def _guard(self, call: Callable[[], object]) -> bool:
        """Call; turn an error into a warning and the tracker off. Return whether the call succeeded."""
        try:
            call()
            return True
        except Exception as error:
            reason = redact(printable(f"{type(error).__name__}: {str(error)[:200]}"))
            warnings.warn(f"wandb: {reason}; the run continues without it", stacklevel=3)
            self.run = None
            return False

    def log(self, kind: str, values: Mapping[str, object], step: int) -> None:
        """Mirror one line of a log; `kind` is train or validation."""
        run = self.run
        if run is not None:
            self._guard(lambda: run.log({f"{kind}/{k}": v for k, v in values.items()} | {f"{kind}/step": step}))

    def finish(self, folder: RunFolder, videos: bool = True) -> None:
        """Send summary, table of scores (with the videos, unless `videos` is False) and adapter; end the run."""
        run = self.run
        if run is not None:
            self._guard(lambda: self._send_results(run, folder, videos))
        self._end(run)

    def abandon(self, exit_code: int = 1) -> None:
        """End the run as failed or interrupted."""
        self._end(self.run, exit_code)

    def _send_results(self, run: Run, folder: RunFolder, videos: bool) -> None:
        metrics, manifest = folder.read(folder.metrics), folder.manifest
        for measure, summary in metrics.get("measures", {}).items():
            for name, value in summary.items():
                run.summary[f"{measure}/{name}"] = value
        for kind, summaries in metrics.get("references", {}).items():
            for measure, summary in summaries.items():
                run.summary[f"{kind}/{measure}/mean"] = summary["mean"]
        for measure, chunks in metrics.get("chunks", {}).items():
            for number, summary in enumerate(chunks, 1):
                run.summary[f"{measure}/chunk{number}"] = summary["mean"]
        for name, value in metrics.get("training", {}).items():
            run.summary[f"training/{name}"] = value
        for name, stage in manifest.get("stages", {}).items():
            for key in ("seconds", "peak_memory_gib"):
                run.summary[f"stages/{name}/{key}"] = stage[key]
        table = score_table(folder, videos)
        if table is not None:
            run.log({"evaluation": table})
        if videos:
            run.log(video_panels(folder))
        self._send_lineage(run, manifest, folder)

    def _send_lineage(self, run: Run, manifest: JsonObject, folder: RunFolder) -> None:
        """Send the adapter as an artifact, linked to its data and base model.

        wandb cannot link an input artifact offline. The metadata of the adapter always names them.
        """
        import wandb

        data, model = manifest.get("data_fingerprint"), manifest.get("model", {})
        inputs = [
            ("dataset", data, manifest.get("data")),
            ("model", model.get("fingerprints", {}).get("transformer"), manifest.get("model")),
        ]
        for kind, fingerprint, about in inputs if self.mode == "online" else []:
            if fingerprint:
                source = wandb.Artifact(f"{kind}-{fingerprint}", kind, metadata={"fingerprint": fingerprint})
                with source.new_file("about.json") as file:
                    json.dump(about, file, indent=2, default=str)
                run.use_artifact(source)
        if folder.adapter_file.is_file():
            metadata = {
                "config_hash": manifest.get("config_hash"),
                "data_fingerprint": data,
                "base_model": manifest.get("model"),
            }
            artifact = wandb.Artifact(f"adapter-{run.id}", "adapter", metadata=metadata)
            artifact.add_file(str(folder.adapter_file))
            run.log_artifact(artifact)


def video_keys(folder: RunFolder) -> dict[str, Path]:
    """One video per prompt by a key that is the same in every run, `videos/<prompt>/seed0`: the lowest seed's."""
    first: dict[str, tuple[int, str]] = {}
    for row in read_scores(folder.scores):
        own = (row["seed"], row["video"])
        first[row["sample"]] = min(own, first.get(row["sample"], own))
    found = {f"videos/{name}/seed{seed}": folder.recorded_video(video) for name, (seed, video) in first.items()}
    return {key: path for key, path in found.items() if path.is_file()}


def video_panels(folder: RunFolder) -> dict[str, wandb.Video]:
    """The videos of `video_keys` as media, which W&B shows side by side for several runs."""
    import wandb

    return {key: wandb.Video(str(path), format="mp4") for key, path in video_keys(folder).items()}


def score_table(folder: RunFolder, videos: bool) -> wandb.Table | None:
    """The scores of a run with one row per video and one column per measure; None without scores."""
    import wandb

    rows = read_scores(folder.scores)
    if not rows:
        return None
    measures = sorted({r["measure"] for r in rows})
    table = wandb.Table(columns=["sample", "seed", "prompt", "video", *measures])
    by_video: dict[tuple[str, int, str | None, str], dict[str, float | None]] = {}
    for r in rows:
        by_video.setdefault((r["sample"], r["seed"], r["prompt"], r["video"]), {})[r["measure"]] = r["value"]
    for (sample, seed, prompt, video), values in by_video.items():
        path = folder.recorded_video(video)
        clip = wandb.Video(str(path), format="mp4") if videos and path.is_file() else None
        table.add_data(sample, seed, prompt, clip, *[values.get(m) for m in measures])
    return table
