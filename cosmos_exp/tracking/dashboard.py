"""A saved wandb workspace and report of the runs of a sweep, by wandb-workspaces."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from cosmos_exp.files import write_json
from cosmos_exp.run_folder import RunFolder
from cosmos_exp.tracking.wandb import logged_in, video_keys

if TYPE_CHECKING:
    from wandb_workspaces.reports.v2 import Report
    from wandb_workspaces.reports.v2.interface import BlockTypes, PanelTypes
    from wandb_workspaces.workspaces import Workspace

MEASURES = ("instruction", "physics", "tse_robust", "tse_moving", "tse", "cse")
"""Measures with panels of their own, in this order."""
MAX_VIDEOS = 24  # panels with videos; the table has all of them


def define_dashboard(
    runs: list[Path], entity: str | None = None, project: str | None = None
) -> tuple[Workspace, Report]:
    """The workspace and the report of the runs of a sweep, with the same panels.

    Args:
        runs: Run folders; the first one's configuration gives group, and entity and project where they are None.
        entity: wandb entity.
        project: wandb project.
    """
    import wandb
    import wandb_workspaces.reports.v2 as wr
    import wandb_workspaces.workspaces as ws

    first = RunFolder(runs[0])
    config = yaml.safe_load(first.config.read_text(encoding="utf-8"))
    tracking = config["tracking"]
    # A definition needs an entity; without a login there is none.
    entity = entity or tracking["entity"] or (str(wandb.Api().default_entity) if logged_in() else "ENTITY")
    project, group = project or tracking["project"], tracking["group"] or config["name"]
    scored: set[str] = set()
    for folder in map(RunFolder, runs):
        scored.update(folder.read(folder.metrics).get("measures", {}))
    panels = _panels([m for m in MEASURES if m in scored], list(video_keys(first))[:MAX_VIDEOS])

    title = f"Sweep {group}"
    sections = []
    runset = wr.Runset(entity=entity, project=project, name=group, filters=f"Metric('Group') == '{group}'")
    blocks: list[BlockTypes] = [wr.TableOfContents()]
    for name, in_section in panels.items():
        if in_section:
            sections.append(ws.Section(name=name, panels=in_section, is_open=True))
            blocks += [wr.H2(name), wr.PanelGrid(runsets=[runset], panels=in_section)]
    settings = ws.RunsetSettings(filters=[ws.Metric("Group") == group])
    workspace = ws.Workspace(entity=entity, project=project, name=title, sections=sections, runset_settings=settings)
    about = "Created by cosmos-exp dashboard."
    return workspace, wr.Report(entity=entity, project=project, title=title, description=about, blocks=blocks)


def _panels(measures: list[str], videos: list[str]) -> dict[str, list[PanelTypes]]:
    """The panels by section."""
    import wandb_workspaces.reports.v2 as wr

    # One key for kind and rank: of two keys, W&B averages over the second until each group is opened by hand.
    arm = wr.Config("arm")
    spread = {"groupby": arm, "groupby_aggfunc": "mean", "groupby_rangefunc": "stderr"}
    panels: dict[str, list[PanelTypes]] = {
        "Loss": [
            wr.LinePlot(title="training loss", x="train/step", y=["train/loss"], smoothing_factor=0.8, **spread),
            wr.LinePlot(title="validation loss", x="validation/step", y=["validation/validation_loss"], **spread),
            wr.LinePlot(title="gradient norm", x="train/step", y=["train/grad_norm"], smoothing_factor=0.8, **spread),
        ],
        "Measures by adapter and rank": [],
        "Intervals": [],
        "Measures by rank": [],
        "Videos": [],
        "Scores": [wr.WeavePanelSummaryTable(table_name="evaluation")],
    }
    for measure in measures:
        ends = [wr.SummaryMetric(f"{measure}/{end}") for end in ("ci_low", "mean", "ci_high")]
        title = f"{measure}, mean and standard error over runs"
        panels["Measures by adapter and rank"].append(wr.BarPlot(title=title, metrics=[ends[1]], **spread))
        title = f"{measure}, mean with its 95 % interval over scenes"
        panels["Intervals"].append(wr.BarPlot(title=title, metrics=ends, groupby=arm, groupby_aggfunc="mean"))
        by_rank = wr.ScatterPlot(title=f"{measure} by rank", x=wr.Config("adapter.rank"), y=ends[1])
        panels["Measures by rank"].append(by_rank)
    for measure in measures[:1]:
        seconds, mean = wr.SummaryMetric("stages/train/seconds"), wr.SummaryMetric(f"{measure}/mean")
        panels["Measures by rank"].append(wr.ScatterPlot(title="cost", x=seconds, y=mean))
    for key in videos:
        title = key.removeprefix("videos/")
        panels["Videos"].append(wr.MediaBrowser(title=title, media_keys=[key], mode="grid", grid_x_axis="run"))
    return panels


def write_definition(workspace: Workspace, file: Path) -> None:
    """Write what saving the workspace would send; needs no login. A report cannot be defined without one."""
    # wandb-workspaces has no public way to write a definition to a file.
    write_json(file, json.loads(workspace._to_model().model_dump_json(by_alias=True)))
