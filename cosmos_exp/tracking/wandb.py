"""wandb as a mirror of the run folder. An error of wandb never stops a run; what was lost is reported at its end.

wandb is imported in the process of the run only: at import it makes a folder for media that it removes at exit, so a fork
server that had imported it would share that folder among all runs.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from cosmos_exp.config.arms import arm_entry, arm_name, sweep_folder
from cosmos_exp.config.layers import UNLIKE_LORA
from cosmos_exp.config.measures import LOSSES, MEASURES, OF_KEPT
from cosmos_exp.config.schema import Config
from cosmos_exp.errors import DamagedError, DiskError, UserError
from cosmos_exp.files import JsonObject
from cosmos_exp.run_folder import RunFolder
from cosmos_exp.statistics.scores import read_scores, score_frame
from cosmos_exp.text import printable, redact, redacted

if TYPE_CHECKING:
    import wandb
    from wandb.sdk.wandb_run import Run

DATA_DIR = "WANDB_DATA_DIR"  # in which wandb keeps copies of artifacts until they are sent; by default at home
STAGING = "wandb/data"  # below the run folder
FIRST = ("instruction", "physics", "word_side", "word_effect", "tse_robust", "tse_moving", "tse", "cse", *OF_KEPT)
"""Measures at the top of the summary and in panels of their own, in this order; those that MEASURES does not list follow."""
LARGEST_FILE = 2**30  # bytes of a file that is sent
TUNING = "tuning/"  # before all keys of a tuning run, so that no chart of a test has it
USUAL_RANKS = tuple(2**k for k in range(9))  # at which the base has a point, so that it is a line over the rank
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


def columns(config: Config, run: Path) -> JsonObject:
    """What a person filters and groups by; the first columns of the runs table.

    arm: the name that it has in the report. Of a tuning run it is the arm with one value of each key of the grid.
    series: the curve that the run is a point of: over the rank in the test, over the learning rate in the tuning.
    phase: test or tune; `run` for a run of no sweep.
    rank, alpha, learning_rate: None for the base.
    truncated_from: the arm whose adapter was truncated; None if it was trained.
    tuned: the keys whose values were chosen for this arm; all others are the sweep's.
    sweep: None for a run of no sweep.
    """
    adapter, entry, sweep = config.adapter, arm_entry(run, run) or {}, sweep_folder(run)
    arm, phase, place = arm_name(run, entry, adapter), "run", r"-?r\d+(?=-|$)"
    if sweep:
        phase = "test"
    if sweep and config.generation.split != "test":
        phase, place = "tune", r"-learning_rate[\d.]+(e[+-]\d+)?"
    labels: JsonObject = {"rank": adapter.rank, "alpha": adapter.alpha, "learning_rate": config.training.learning_rate}
    if adapter.kind == "none":
        labels = dict.fromkeys(labels)
    if adapter.kind in UNLIKE_LORA:
        labels |= {"rank": None, "alpha": None}
    return {
        "arm": arm,
        "series": re.sub(place, "", arm),
        "phase": phase,
        "adapter_kind": adapter.method or adapter.kind,
        **labels,
        "truncated_from": entry.get("truncated_from") or adapter.truncate_from,
        "tuned": list(entry.get("tuned", {})),
        "seed": config.seed,
        "sweep": sweep and sweep.name,
    }


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
        self.columns: JsonObject = {}
        self.prefix = ""
        self.mode = chosen_mode(config.tracking.mode) if active else "off"
        if self.mode == "online":
            with self._noting("the online run, which is offline instead"):
                self._start(config)
                return
            self.mode = "offline"
        if self.mode == "offline":
            with self._noting("the whole run"):
                self._start(config)

    def _start(self, config: Config) -> None:
        import wandb

        folder = self.folder
        os.environ.setdefault("WANDB_SILENT", "true")
        if self.mode == "offline" and DATA_DIR not in os.environ:
            os.environ[DATA_DIR] = str(folder.path.absolute() / STAGING)
            self.staged = True
        sys.argv[1:] = map(redact, sys.argv[1:])  # wandb records it
        labels, known, sweep = columns(config, folder.path), folder.manifest.get("wandb_id"), sweep_folder(folder.path)
        self.columns, name = labels, f"{config.name}-{labels['arm']}"
        if labels["phase"] == "tune":
            self.prefix = TUNING
        if sweep:
            name = folder.path.relative_to(sweep).as_posix()
        tags = list(config.tags)
        for key in ("phase", "adapter_kind", "rank"):
            if labels[key] is not None:
                tags.append(f"{key}:{labels[key]}")
        shown: JsonObject = {"name": name, "group": config.tracking.group or labels["sweep"], "tags": tags}
        shown["config"] = labels | config.model_dump(exclude={"sweep"})
        if not known:  # a person may write notes to a run that is resumed
            shown["notes"] = f"{folder.manifest.get('labels', {}).get('adapter')}, in {folder.path}"
        self.run = wandb.init(
            **redacted(shown),
            project=config.tracking.project,
            entity=config.tracking.entity,
            job_type=labels["phase"],
            dir=str(folder.path),
            id=known or uuid.uuid4().hex[:8],  # in a W&B sweep wandb takes its agent's instead
            resume="allow",
            mode=self.mode,  # type: ignore[arg-type]  # a str: online or offline
            settings=wandb.Settings(init_timeout=30, console="off", disable_git=True),  # git: remotes hold passwords
        )
        for kind in ("train", "validation"):
            self.run.define_metric(f"{self.prefix}{kind}/*", step_metric=f"{self.prefix}{kind}/step")
        folder.update_manifest(wandb_id=self.run.id)

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
                line = {f"{self.prefix}{kind}/{key}": value for key, value in values.items()}
                self.run.log({**line, f"{self.prefix}{kind}/step": step})

    def finish(self) -> None:
        """Send summary, table of scores with the videos, and adapter; end the run.

        Prints one line for each part that wandb does not have, and records it in the manifest (`wandb_lost`).
        """
        if self.run is not None:
            with self._noting("the summary"):
                send_summary(self.run, self.folder, self.columns, self.prefix)
            with self._noting("the table of scores"):
                send_scores(self.run, self.folder, self.columns, self.prefix)
            with self._noting("the adapter"):
                send_adapter(self.run, self.folder)
        self.end()

    def end(self, exit_code: int = 0) -> None:
        """End the run, once; another code than 0 says that it failed or was interrupted."""
        if self.mode == "off":
            return
        if self.run is not None:
            with self._noting("the end of the run"):
                self.run.finish(exit_code=exit_code)
            self.run = None
        if self.staged:
            os.environ.pop(DATA_DIR, None)
        lost = [f"{part}: {reason}" for part, reason in self.lost.items()]
        for line in lost:
            print(f"warning: wandb lost {line}. The run folder has everything.", file=sys.stderr, flush=True)
        with contextlib.suppress(DiskError, DamagedError):
            self.folder.update_manifest(wandb_lost=lost)
        self.mode = "off"


def top_measures(scored: Iterable[str]) -> list[str]:
    """The measures that a person asks for first: FIRST, and those that MEASURES does not list, as of an own rubric."""
    order = [*FIRST, *sorted(set(scored) - set(MEASURES))]
    return [measure for measure in order if measure in scored]


def send_summary(run: Run, folder: RunFolder, labels: JsonObject, prefix: str) -> None:
    """Send the means that a person asks for and the cost, everything else below `detail/`, and the point of the run's curve.

    The point is `by_rank/…` over `by_rank/rank`; of the base at each usual rank, so that it is a line; of a tuning run
    `tuning/by_learning_rate/…`.
    """
    metrics, stages = folder.read(folder.metrics), folder.manifest.get("stages", {})
    measures, training = metrics.get("measures", {}), metrics.get("training", {})
    means = {loss: training[loss] for loss in LOSSES if loss in training}
    for measure in top_measures(measures):
        means[measure] = measures[measure]["mean"]
    details = {"stages": stages, "training": training, **metrics.get("references", {}), **measures}
    for measure, chunks in metrics.get("chunks", {}).items():
        for number, summary in enumerate(chunks, 1):
            details[f"{measure}/chunk{number}"] = summary
    costs = pd.DataFrame(stages.values(), columns=["seconds", "peak_memory_gib"])
    top = means | {"seconds": costs["seconds"].sum(), "peak_memory_gib": costs["peak_memory_gib"].max()}
    for name, value in pd.json_normalize(top | {"detail": details}, sep="/").to_dict("records")[0].items():
        run.summary[prefix + name] = value
    axis, places = "rank", USUAL_RANKS
    if labels["rank"]:
        places = (labels["rank"],)
    if prefix:
        axis, places = "learning_rate", (labels["learning_rate"],)
    curve = f"{prefix}by_{axis}/"
    run.define_metric(f"{curve}*", step_metric=curve + axis, summary="none")
    for place in places:
        point = pd.Series(means | {axis: place}, dtype=float).dropna().add_prefix(curve)
        run.log(point.to_dict())


def send_scores(run: Run, folder: RunFolder, labels: JsonObject, prefix: str) -> None:
    """Send the scores as a table with one row per video and one column per measure, and the videos of `video_keys` as media.

    The tables of several runs side by side have the prompt as their key, and each row says its arm and training seed.
    """
    import wandb

    scores = score_frame(read_scores(folder.scores))
    if scores.empty:
        return
    names = ["prompt", "text", "noise", "video"]
    scores["text"] = scores["text"].fillna("")
    rows = scores.pivot(index=names, columns="measure", values="value").reset_index().astype(object)
    rows["video"] = [_media(folder.recorded_video(video)) for video in rows["video"]]
    rows = rows.where(rows.notna(), None).assign(arm=labels["arm"], seed=labels["seed"])
    order = ["prompt", "text", "arm", "seed", "noise", "video", *top_measures(rows), *rows]
    rows = rows[list(dict.fromkeys(order))]
    run.log({prefix + key: _media(path) for key, path in video_keys(folder).items()})
    run.log({f"{prefix}evaluation": wandb.Table(columns=list(rows), data=rows.to_numpy().tolist())})


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
    """Send what was trained as an artifact. Its metadata names its data and base model.

    Of files above LARGEST_FILE, as of a full fine-tuning, it holds the path and checksum.
    """
    import wandb

    files = folder.adapter_files()
    if not files:
        return
    metadata = {}
    for key in ("config_hash", "data_fingerprint", "model"):
        metadata[key] = folder.manifest.get(key)
    artifact = wandb.Artifact(f"adapter-{run.id}", "adapter", metadata=metadata)
    for file in files:
        if file.stat().st_size > LARGEST_FILE:
            artifact.add_reference(file.absolute().as_uri(), file.name)
        else:
            artifact.add_file(str(file))
    run.log_artifact(artifact)
