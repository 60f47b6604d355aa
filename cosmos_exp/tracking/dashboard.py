"""A saved wandb workspace of the runs of a sweep, by wandb-workspaces."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cosmos_exp.config.composing import validated
from cosmos_exp.config.measures import LOSSES
from cosmos_exp.config.record import plain_config
from cosmos_exp.run_folder import RunFolder
from cosmos_exp.tracking.wandb import TUNING, columns, top_measures, video_keys

if TYPE_CHECKING:
    from wandb_workspaces.reports.v2.interface import PanelTypes
    from wandb_workspaces.workspaces import Workspace

MAX_VIDEOS = 24  # panels with videos; the table has all of them


def define_workspace(runs: Sequence[Path], entity: str, project: str | None = None) -> Workspace:
    """The workspace of the runs of a sweep, or of one run: charts of the test by arm, and a section of the tuning.

    Args:
        runs: Run folders.
        entity: wandb entity.
        project: wandb project; None: that of the last run's configuration.

    Raises:
        UserError: the configuration of a run cannot be read.
    """
    import wandb_workspaces.workspaces as ws

    scored: dict[str, object] = {}
    videos: dict[str, Path] = {}
    phases = set()
    for folder in map(RunFolder, runs):
        config = validated(plain_config(folder.config))
        labels = columns(config, folder.path)
        phases.add(labels["phase"])
        scored |= folder.read(folder.metrics).get("measures", {})
        if labels["phase"] != "tune":
            videos = videos or video_keys(folder)
    keys = [*top_measures(scored), *LOSSES]
    sections = []
    for name, panels in _panels(keys, list(videos)[:MAX_VIDEOS], len(runs)).items():
        if name != "Tuning" or "tune" in phases:
            sections.append(ws.Section(name=name, panels=panels, is_open=True))
    group = config.tracking.group or labels["sweep"]
    chosen = ws.Metric("Group") == group if group else ws.Metric("ID") == folder.manifest.get("wandb_id")
    return ws.Workspace(
        entity=entity,
        project=project or config.tracking.project,
        name=f"Sweep {group}" if group else f"Run {labels['arm']}",
        sections=sections,
        settings=ws.WorkspaceSettings(max_runs=len(runs)),  # else the first ten
        runset_settings=ws.RunsetSettings(
            filters=ws.And(chosen),
            groupby=[ws.Config("arm")],
            order=[ws.Ordering(ws.Config(f"{key}.value")) for key in ("phase", "arm", "seed")],
            pinned_columns=[*(f"config:{key}.value" for key in labels), *(f"summary:{key}" for key in keys)],
        ),
    )


def _panels(keys: Sequence[str], videos: Sequence[str], runs: int) -> dict[str, list[PanelTypes]]:
    """The panels by section. Tuning runs have keys of their own, so that only the last section has them."""
    import wandb_workspaces.reports.v2 as wr

    # Of two keys, W&B averages over the second until each group is opened by hand.
    spread = {"groupby_aggfunc": "mean", "groupby_rangefunc": "stderr", "max_runs_to_show": runs}
    by_arm, by_series = spread | {"groupby": wr.Config("arm")}, spread | {"groupby": wr.Config("series")}
    scores, ranks, losses, media, tuning = [], [], [], [], []
    for key in keys:
        mean, rank, rate = wr.SummaryMetric(key), "by_rank/", f"{TUNING}by_learning_rate/"
        scores.append(wr.BarPlot(title=f"{key}, mean and standard error over seeds", metrics=[mean], **by_arm))
        ranks.append(wr.LinePlot(title=f"{key} over rank", x=f"{rank}rank", y=[rank + key], log_x=True, **by_series))
        tuning.append(wr.LinePlot(title=key, x=f"{rate}learning_rate", y=[rate + key], log_x=True, **by_series))
    for title, kind, key in (
        ("training loss", "train", "loss"),
        ("validation loss", "validation", "validation_loss"),
        ("gradient norm", "train", "grad_norm"),
    ):
        losses.append(wr.LinePlot(title=title, x=f"{kind}/step", y=[f"{kind}/{key}"], **by_arm))
    for key in videos:
        title = key.removeprefix("videos/")
        media.append(wr.MediaBrowser(title=title, media_keys=[key], mode="grid", grid_x_axis="run"))
    return {
        "Scores by arm": scores,
        "Scores over rank": ranks,
        "Losses": losses,
        "Videos": media,
        "Scores of all videos": [wr.WeavePanelSummaryTable(table_name="evaluation")],
        "Tuning": tuning,
    }
