"""A saved wandb workspace of the runs of a sweep, by wandb-workspaces."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from cosmos_exp.run_folder import RunFolder
from cosmos_exp.tracking.wandb import video_keys

if TYPE_CHECKING:
    from wandb_workspaces.reports.v2.interface import PanelTypes
    from wandb_workspaces.workspaces import Workspace

MEASURES = ("instruction", "physics", "tse_robust", "tse_moving", "tse", "cse")
"""Measures with panels of their own, in this order."""
MAX_VIDEOS = 24  # panels with videos; the table has all of them


def define_workspace(runs: list[Path], entity: str, project: str | None = None) -> Workspace:
    """The workspace of the runs of a sweep.

    Args:
        runs: Run folders; the first one's configuration gives group, and project where it is None.
        entity: wandb entity.
        project: wandb project.
    """
    import wandb_workspaces.workspaces as ws

    first = RunFolder(runs[0])
    config = yaml.safe_load(first.config.read_text(encoding="utf-8"))
    group = config["tracking"]["group"] or config["name"]
    scored: set[str] = set()
    for folder in map(RunFolder, runs):
        scored.update(folder.read(folder.metrics).get("measures", {}))
    sections = []
    for name, panels in _panels([m for m in MEASURES if m in scored], list(video_keys(first))[:MAX_VIDEOS]).items():
        sections.append(ws.Section(name=name, panels=panels, is_open=True))
    return ws.Workspace(
        entity=entity,
        project=project or config["tracking"]["project"],
        name=f"Sweep {group}",
        sections=sections,
        runset_settings=ws.RunsetSettings(filters=[ws.Metric("Group") == group]),
    )


def _panels(measures: list[str], videos: list[str]) -> dict[str, list[PanelTypes]]:
    """The panels by section."""
    import wandb_workspaces.reports.v2 as wr

    # One key for kind and rank: of two keys, W&B averages over the second until each group is opened by hand.
    spread = {"groupby": wr.Config("arm"), "groupby_aggfunc": "mean", "groupby_rangefunc": "stderr"}
    loss, by_arm, by_rank, media = [], [], [], []
    for title, kind, key in (
        ("training loss", "train", "loss"),
        ("validation loss", "validation", "validation_loss"),
        ("gradient norm", "train", "grad_norm"),
    ):
        loss.append(wr.LinePlot(title=title, x=f"{kind}/step", y=[f"{kind}/{key}"], **spread))
    for measure in measures:
        mean = wr.SummaryMetric(f"{measure}/mean")
        by_arm.append(wr.BarPlot(title=f"{measure}, mean and standard error over runs", metrics=[mean], **spread))
        by_rank.append(wr.ScatterPlot(title=f"{measure} by rank", x=wr.Config("adapter.rank"), y=mean))
    for key in videos:
        title = key.removeprefix("videos/")
        media.append(wr.MediaBrowser(title=title, media_keys=[key], mode="grid", grid_x_axis="run"))
    scores = [wr.WeavePanelSummaryTable(table_name="evaluation")]
    return {"Loss": loss, "Measures by adapter": by_arm, "Measures by rank": by_rank, "Videos": media, "Scores": scores}
