"""A saved wandb workspace and report of the runs of a sweep, by wandb-workspaces."""

from __future__ import annotations

import json
from dataclasses import dataclass
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

# Measures with panels of their own, in this order.
MEASURES = ("instruction", "physics", "tse_robust", "tse_moving", "tse", "cse")
MAX_VIDEOS = 24  # panels with videos; the table has all of them
NO_ENTITY = "ENTITY"  # the definitions need an entity; without a login there is none


@dataclass(frozen=True)
class Dashboard:
    """What workspace and report show: the runs of one group of a wandb project.

    `measures` are those that at least one run has, `videos` the keys of the first videos (`video_keys`).
    """

    entity: str
    project: str
    group: str
    measures: list[str]
    videos: list[str]

    @property
    def title(self) -> str:
        return f"Sweep {self.group}"

    def panel_titles(self) -> dict[str, list[str]]:
        """The titles of the panels by section."""
        return {name: [_title(p) for p in panels] for name, panels in _sections(self.measures, self.videos).items()}


def define_dashboard(runs: list[Path], entity: str | None = None, project: str | None = None) -> Dashboard:
    """The dashboard of the runs of a sweep.

    Args:
        runs: Run folders; the first one's configuration gives group, and entity and project where they are None.
        entity: wandb entity.
        project: wandb project.
    """
    config = yaml.safe_load(RunFolder(runs[0]).config.read_text(encoding="utf-8"))
    tracking = config["tracking"]
    entity = entity or tracking["entity"] or (_default_entity() if logged_in() else NO_ENTITY)
    found = {m for r in map(RunFolder, runs) for m in r.read(r.metrics).get("measures", {})}
    measures = [m for m in MEASURES if m in found]
    videos = list(video_keys(RunFolder(runs[0])))[:MAX_VIDEOS]
    return Dashboard(entity, project or tracking["project"], tracking["group"] or config["name"], measures, videos)


def save_dashboard(dashboard: Dashboard) -> list[str]:
    """Save workspace and report on the wandb server; needs a login.

    Returns:
        Their URLs.
    """
    workspace, report = _workspace(dashboard), _report(dashboard)
    workspace.save()
    report.save()
    return [workspace.url, report.url]


def write_definitions(dashboard: Dashboard, folder: Path) -> Path:
    """Write workspace.json and report.json, what `save_dashboard` would send; needs no login.

    Returns:
        The folder.
    """
    workspace = _workspace(dashboard)
    panels = {
        name: [p._to_model().model_dump(mode="json", by_alias=True) for p in found]
        for name, found in _sections(dashboard.measures, dashboard.videos).items()
    }
    report = {"title": dashboard.title, "project": dashboard.project, "group": dashboard.group, "sections": panels}
    # wandb-workspaces has no public way to write a definition to a file.
    write_json(folder / "workspace.json", json.loads(workspace._to_model().model_dump_json(by_alias=True)))
    write_json(folder / "report.json", report)
    return folder


def _default_entity() -> str:
    import wandb

    return str(wandb.Api().default_entity)


def _title(panel: PanelTypes) -> str:
    return getattr(panel, "title", None) or getattr(panel, "table_name", None) or type(panel).__name__


def _sections(measures: list[str], videos: list[str]) -> dict[str, list[PanelTypes]]:
    """The panels by section."""
    import wandb_workspaces.reports.v2 as wr

    # One key for kind and rank: of two keys, W&B averages over the second until each group is opened by hand.
    arm = wr.Config("arm")
    means = {m: wr.SummaryMetric(f"{m}/mean") for m in measures}
    spread = {"groupby": arm, "groupby_aggfunc": "mean", "groupby_rangefunc": "stderr"}
    loss: list[PanelTypes] = [
        wr.LinePlot(title="training loss", x="train/step", y=["train/loss"], smoothing_factor=0.8, **spread),
        wr.LinePlot(title="validation loss", x="validation/step", y=["validation/validation_loss"], **spread),
        wr.LinePlot(title="gradient norm", x="train/step", y=["train/grad_norm"], smoothing_factor=0.8, **spread),
    ]
    rank = wr.Config("adapter.rank")
    by_arm: list[PanelTypes] = [
        wr.BarPlot(title=f"{m}, mean and standard error over runs", metrics=[mean], **spread)
        for m, mean in means.items()
    ]
    intervals: list[PanelTypes] = [
        wr.BarPlot(
            title=f"{m}, mean with its 95 % interval over scenes",
            metrics=[wr.SummaryMetric(f"{m}/{end}") for end in ("ci_low", "mean", "ci_high")],
            groupby=arm,
            groupby_aggfunc="mean",
        )
        for m in measures
    ]
    by_rank: list[PanelTypes] = [wr.ScatterPlot(title=f"{m} by rank", x=rank, y=mean) for m, mean in means.items()]
    seconds = wr.SummaryMetric("stages/train/seconds")
    cost: list[PanelTypes] = [wr.ScatterPlot(title="cost", x=seconds, y=means[m]) for m in measures[:1]]
    panels: list[PanelTypes] = [
        wr.MediaBrowser(title=key.removeprefix("videos/"), media_keys=[key], mode="grid", grid_x_axis="run")
        for key in videos
    ]
    return {
        "Loss": loss,
        "Measures by adapter and rank": by_arm,
        "Intervals": intervals,
        "Measures by rank": [*by_rank, *cost],
        "Videos": panels,
        "Scores": [wr.WeavePanelSummaryTable(table_name="evaluation")],
    }


def _workspace(dashboard: Dashboard) -> Workspace:
    import wandb_workspaces.workspaces as ws

    sections = [
        ws.Section(name=name, panels=panels, is_open=True)
        for name, panels in _sections(dashboard.measures, dashboard.videos).items()
        if panels
    ]
    return ws.Workspace(
        entity=dashboard.entity,
        project=dashboard.project,
        name=dashboard.title,
        sections=sections,
        runset_settings=ws.RunsetSettings(filters=[ws.Metric("Group") == dashboard.group]),
    )


def _report(dashboard: Dashboard) -> Report:
    import wandb_workspaces.reports.v2 as wr

    entity, project, group = dashboard.entity, dashboard.project, dashboard.group
    runset = wr.Runset(entity=entity, project=project, name=group, filters=f"Metric('Group') == '{group}'")
    blocks: list[BlockTypes] = [wr.TableOfContents()]
    for name, panels in _sections(dashboard.measures, dashboard.videos).items():
        if panels:
            blocks += [wr.H2(name), wr.PanelGrid(runsets=[runset], panels=panels)]
    about = "Created by cosmos-exp dashboard."
    return wr.Report(entity=entity, project=project, title=dashboard.title, description=about, blocks=blocks)
