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

MEASURES = ("instruction", "physics", "tse_robust", "tse_moving", "tse", "cse")
"""Measures with panels of their own, in this order."""
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

    def sections(self) -> dict[str, list[PanelTypes]]:
        """The panels by section."""
        import wandb_workspaces.reports.v2 as wr

        # One key for kind and rank: of two keys, W&B averages over the second until each group is opened by hand.
        arm = wr.Config("arm")
        spread = {"groupby": arm, "groupby_aggfunc": "mean", "groupby_rangefunc": "stderr"}
        loss: list[PanelTypes] = [
            wr.LinePlot(title="training loss", x="train/step", y=["train/loss"], smoothing_factor=0.8, **spread),
            wr.LinePlot(title="validation loss", x="validation/step", y=["validation/validation_loss"], **spread),
            wr.LinePlot(title="gradient norm", x="train/step", y=["train/grad_norm"], smoothing_factor=0.8, **spread),
        ]
        by_arm: list[PanelTypes] = []
        by_rank: list[PanelTypes] = []
        intervals: list[PanelTypes] = []
        for measure in self.measures:
            low, mean, high = (wr.SummaryMetric(f"{measure}/{end}") for end in ("ci_low", "mean", "ci_high"))
            by_arm.append(wr.BarPlot(title=f"{measure}, mean and standard error over runs", metrics=[mean], **spread))
            interval = f"{measure}, mean with its 95 % interval over scenes"
            ends = [low, mean, high]
            intervals.append(wr.BarPlot(title=interval, metrics=ends, groupby=arm, groupby_aggfunc="mean"))
            by_rank.append(wr.ScatterPlot(title=f"{measure} by rank", x=wr.Config("adapter.rank"), y=mean))
        if self.measures:
            quality = wr.SummaryMetric(f"{self.measures[0]}/mean")
            by_rank.append(wr.ScatterPlot(title="cost", x=wr.SummaryMetric("stages/train/seconds"), y=quality))
        videos: list[PanelTypes] = []
        for key in self.videos:
            title = key.removeprefix("videos/")
            videos.append(wr.MediaBrowser(title=title, media_keys=[key], mode="grid", grid_x_axis="run"))
        return {
            "Loss": loss,
            "Measures by adapter and rank": by_arm,
            "Intervals": intervals,
            "Measures by rank": by_rank,
            "Videos": videos,
            "Scores": [wr.WeavePanelSummaryTable(table_name="evaluation")],
        }


def define_dashboard(runs: list[Path], entity: str | None = None, project: str | None = None) -> Dashboard:
    """The dashboard of the runs of a sweep.

    Args:
        runs: Run folders; the first one's configuration gives group, and entity and project where they are None.
        entity: wandb entity.
        project: wandb project.
    """
    first = RunFolder(runs[0])
    config = yaml.safe_load(first.config.read_text(encoding="utf-8"))
    tracking = config["tracking"]
    entity = entity or tracking["entity"] or _default_entity()
    scored: set[str] = set()
    for folder in map(RunFolder, runs):
        scored.update(folder.read(folder.metrics).get("measures", {}))
    measures = [m for m in MEASURES if m in scored]
    videos = list(video_keys(first))[:MAX_VIDEOS]
    return Dashboard(entity, project or tracking["project"], tracking["group"] or config["name"], measures, videos)


def _default_entity() -> str:
    if not logged_in():
        return NO_ENTITY
    import wandb

    return str(wandb.Api().default_entity)


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
    # wandb-workspaces has no public way to write a definition to a file, and none at all for a report without a login.
    write_json(folder / "workspace.json", json.loads(_workspace(dashboard)._to_model().model_dump_json(by_alias=True)))
    sections: dict[str, list[object]] = {}
    for name, panels in dashboard.sections().items():
        sections[name] = [panel._to_model().model_dump(mode="json", by_alias=True) for panel in panels]
    about = {"title": _title(dashboard), "project": dashboard.project, "group": dashboard.group}
    write_json(folder / "report.json", {**about, "sections": sections})
    return folder


def _title(dashboard: Dashboard) -> str:
    return f"Sweep {dashboard.group}"


def _workspace(dashboard: Dashboard) -> Workspace:
    import wandb_workspaces.workspaces as ws

    sections = []
    for name, panels in dashboard.sections().items():
        if panels:
            sections.append(ws.Section(name=name, panels=panels, is_open=True))
    runs = ws.RunsetSettings(filters=[ws.Metric("Group") == dashboard.group])
    entity, project, title = dashboard.entity, dashboard.project, _title(dashboard)
    return ws.Workspace(entity=entity, project=project, name=title, sections=sections, runset_settings=runs)


def _report(dashboard: Dashboard) -> Report:
    import wandb_workspaces.reports.v2 as wr

    entity, project, group = dashboard.entity, dashboard.project, dashboard.group
    runs = wr.Runset(entity=entity, project=project, name=group, filters=f"Metric('Group') == '{group}'")
    blocks: list[BlockTypes] = [wr.TableOfContents()]
    for name, panels in dashboard.sections().items():
        if panels:
            blocks += [wr.H2(name), wr.PanelGrid(runsets=[runs], panels=panels)]
    about = "Created by cosmos-exp dashboard."
    return wr.Report(entity=entity, project=project, title=_title(dashboard), description=about, blocks=blocks)
