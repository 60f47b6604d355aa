"""wandb as a mirror of the run folder. An error of wandb never stops a run; what was lost is reported at its end.

wandb is imported in the process of the run only: at import it makes a folder for media that it removes at exit, so a fork
server that had imported it would share that folder among all runs.
"""

from __future__ import annotations

import contextlib
import os
import sys
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from cosmos_exp.config.layers import adapter_label
from cosmos_exp.config.schema import Config
from cosmos_exp.errors import UserError
from cosmos_exp.run_folder import RunFolder
from cosmos_exp.statistics.scores import read_scores, score_frame
from cosmos_exp.text import printable, redact, redacted

if TYPE_CHECKING:
    import wandb
    from wandb.sdk.wandb_run import Run

DATA_DIR = "WANDB_DATA_DIR"  # in which wandb keeps copies of artifacts until they are sent; by default at home
STAGING = "wandb/data"  # below the run folder
ENVIRONMENT_MODES = {"online": "online", "offline": "offline", "dryrun": "offline", "disabled": "off"}


def logged_in() -> bool:
    """Whether an API key is configured; does not use the network."""
    if os.environ.get("WANDB_API_KEY"):
        return True
    netrc = Path(os.environ.get("NETRC", "~/.netrc")).expanduser()
    return netrc.is_file() and "wandb" in netrc.read_text(errors="ignore")


def chosen_mode(mode: str) -> str:
    """The mode for `tracking.mode`: online, offline or off. `auto` is WANDB_MODE, else online with a login, else offline."""
    if mode != "auto":
        return mode
    if asked := ENVIRONMENT_MODES.get(os.environ.get("WANDB_MODE", "")):
        return asked
    return "online" if logged_in() else "offline"


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


class Tracker:
    """Sends to wandb what is written to the run folder.

    Attributes:
        run: wandb's run; None if the tracker is off.
        mode: online, offline or off.
        lost: What wandb does not have, with the error.

    Args:
        config: The run's configuration.
        folder: The run folder.
        active: False turns the tracker off, e.g. in all processes but the main one.
    """

    def __init__(self, config: Config, folder: RunFolder, active: bool = True):
        self.run: Run | None = None
        self.folder = folder
        self.lost: dict[str, str] = {}
        self.staged = False
        self.mode = chosen_mode(config.tracking.mode) if active else "off"
        if self.mode == "online":
            with self._noting("the online run, which is offline instead"):
                self.run = self._start(config)
                return
            self.mode = "offline"
        if self.mode == "offline":
            with self._noting("the whole run"):
                self.run = self._start(config)

    def _start(self, config: Config) -> Run:
        import wandb

        folder = self.folder
        run_id = folder.manifest.get("wandb_id") or uuid.uuid4().hex[:8]
        if os.environ.get("WANDB_SWEEP_ID"):  # the agent of a W&B sweep has already created the run
            run_id = os.environ.get("WANDB_RUN_ID") or run_id
        os.environ.setdefault("WANDB_SILENT", "true")
        if self.mode == "offline" and DATA_DIR not in os.environ:
            os.environ[DATA_DIR] = str(folder.path.absolute() / STAGING)
            self.staged = True
        sys.argv[1:] = map(redact, sys.argv[1:])  # wandb records it
        adapter, label = config.adapter, adapter_label(config.adapter)
        tags = [*config.tags, f"adapter:{adapter.kind}", f"rank:{adapter.rank}", f"alpha:{adapter.alpha:g}"]
        run = wandb.init(
            project=config.tracking.project,
            entity=config.tracking.entity,
            name=redact(f"{config.name}-{label}"),
            group=redact(config.tracking.group or config.name),
            tags=list(map(redact, tags)),
            config=redacted({"arm": label, **config.model_dump()}),
            dir=str(folder.path),
            id=run_id,
            resume="allow",
            mode=self.mode,  # type: ignore[arg-type]  # a str: online or offline
            settings=wandb.Settings(init_timeout=30, console="off", disable_git=True),  # git: remotes hold passwords
        )
        for kind in ("train", "validation"):
            run.define_metric(f"{kind}/step")
            run.define_metric(f"{kind}/*", step_metric=f"{kind}/step", summary="min,last")
        folder.update_manifest(wandb_id=run_id)
        return run

    @contextlib.contextmanager
    def _noting(self, part: str) -> Iterator[None]:
        """Note an error of the block as the loss of a part of the dashboard."""
        try:
            yield
        except Exception as error:
            self.lost.setdefault(part, redact(printable(f"{type(error).__name__}: {str(error)[:200]}")))

    def log(self, kind: str, values: Mapping[str, object], step: int) -> None:
        """Mirror one line of a log; `kind` is train or validation. After an error no further line of this kind is sent."""
        part = f"the {kind} log from some step on"
        if self.run is not None and part not in self.lost:
            with self._noting(part):
                line = {f"{kind}/{key}": value for key, value in values.items()}
                self.run.log({**line, f"{kind}/step": step})

    def finish(self, videos: bool = True) -> None:
        """Send summary, table of scores (with the videos, unless `videos` is False) and adapter; end the run.

        Prints one line for each part that wandb does not have.
        """
        if self.run is not None:
            with self._noting("the summary"):
                send_summary(self.run, self.folder)
            with self._noting("the table of scores"):
                send_scores(self.run, self.folder, videos)
            with self._noting("the adapter"):
                send_adapter(self.run, self.folder)
        self._end()

    def abandon(self, exit_code: int = 1) -> None:
        """End the run as failed or interrupted."""
        self._end(exit_code)

    def _end(self, exit_code: int = 0) -> None:
        if self.run is not None:
            with self._noting("the end of the run"):
                self.run.finish(exit_code=exit_code)
            self.run = None
        if self.staged:
            os.environ.pop(DATA_DIR, None)
        for part, reason in self.lost.items():
            print(f"warning: wandb lost {part}: {reason}. The run folder has everything.", file=sys.stderr, flush=True)
        self.lost.clear()


def send_summary(run: Run, folder: RunFolder) -> None:
    """Send the summaries of measures, references and chunks, and what training and stages took."""
    metrics = folder.read(folder.metrics)
    entries = {"stages": folder.manifest.get("stages", {}), "training": metrics.get("training", {})}
    entries |= metrics.get("references", {}) | metrics.get("measures", {})
    for measure, chunks in metrics.get("chunks", {}).items():
        for number, summary in enumerate(chunks, 1):
            entries[f"{measure}/chunk{number}"] = summary
    for name, value in pd.json_normalize(entries, sep="/").to_dict("records")[0].items():
        run.summary[name] = value


def send_scores(run: Run, folder: RunFolder, videos: bool) -> None:
    """Send the scores as a table with one row per video and one column per measure, and the videos of `video_keys` as media."""
    import wandb

    scores = score_frame(read_scores(folder.scores))
    if scores.empty:
        return
    names = ["prompt", "noise", "text", "video"]
    scores["text"] = scores["text"].fillna("")
    rows = scores.pivot(index=names, columns="measure", values="value").reset_index().astype(object)
    if videos:
        rows["video"] = [_media(folder.recorded_video(video)) for video in rows["video"]]
        run.log({key: _media(path) for key, path in video_keys(folder).items()})
    rows = rows.where(rows.notna(), None).rename(columns={"prompt": "sample", "noise": "seed", "text": "prompt"})
    run.log({"evaluation": wandb.Table(columns=list(rows), data=rows.to_numpy().tolist())})


def _media(path: Path) -> wandb.Video | None:
    import wandb

    if not path.is_file():
        return None
    return wandb.Video(str(path), format="mp4")


def video_keys(folder: RunFolder) -> dict[str, Path]:
    """One video per prompt by a key that is the same in every run, `videos/<prompt>/seed0`: the lowest seed's.

    W&B shows them side by side for several runs.
    """
    scores = score_frame(read_scores(folder.scores)).sort_values(["prompt", "noise"]).drop_duplicates("prompt")
    videos = {}
    for row in scores.itertuples():
        path = folder.recorded_video(row.video)
        if path.is_file():
            videos[f"videos/{row.prompt}/seed{row.noise}"] = path
    return videos


def send_adapter(run: Run, folder: RunFolder) -> None:
    """Send the adapter as an artifact. Its metadata names its data and base model."""
    import wandb

    if not folder.adapter_file.is_file():
        return
    metadata = {}
    for key in ("config_hash", "data_fingerprint", "model"):
        metadata[key] = folder.manifest.get(key)
    artifact = wandb.Artifact(f"adapter-{run.id}", "adapter", metadata=metadata)
    artifact.add_file(str(folder.adapter_file))
    run.log_artifact(artifact)
