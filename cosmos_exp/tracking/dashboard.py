"""`cosmos-exp dashboard STUDY`: a saved wandb workspace and report over a study's runs, by wandb-workspaces."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import yaml

from cosmos_exp.errors import UserError
from cosmos_exp.files import write_json
from cosmos_exp.run_folder import RunFolder
from cosmos_exp.tracking.wandb import logged_in

SCORES = ("instruction", "physics", "tse_moving", "tse", "cse")


def main(args: argparse.Namespace) -> int:
    """Build or update both; without a login write their definitions beside the study and say what they will hold."""
    study = Path(args.study)
    if not study.is_dir():
        study = Path("outputs") / "sweeps" / args.study
    runs = sorted(p.parent for p in study.glob("*/status.json"))
    if not runs:
        raise UserError(f"{args.study}: no runs below {study}")
    config = yaml.safe_load(RunFolder(runs[0]).config.read_text(encoding="utf-8"))
    project = args.project or config["tracking"]["project"]
    group = config["tracking"]["group"] or config["name"]
    measures = _measures(runs)
    # The definition needs some entity; online wandb's default stands in for none.
    entity = args.entity or config["tracking"]["entity"] or (_default_entity() if logged_in() else "ENTITY")
    workspace = _workspace(entity, project, group, measures)
    if logged_in():
        return _save(workspace, _report(entity, project, group, measures))
    panels = {
        name: [p._to_model().model_dump(mode="json", by_alias=True) for p in found]
        for name, found in _sections(measures).items()
    }
    folder = study / "dashboard"
    write_json(folder / "workspace.json", json.loads(workspace._to_model().model_dump_json(by_alias=True)))
    write_json(
        folder / "report.json", {"title": f"Study {group}", "project": project, "group": group, "sections": panels}
    )
    print(f"not logged in to wandb: the definitions are in {folder}. With `wandb login`, `wandb sync`")
    print(f"{study}/*/wandb/offline-run-* and this command again, project {project} gets")
    print(f"  a workspace '{workspace.name}' over the {len(runs)} runs of group {group}, with sections")
    for section in workspace.sections:
        print(f"    {section.name}: {', '.join(_title(p) for p in section.panels)}")
    print(f"  a report 'Study {group}' with the same panels")
    return 0


def _save(workspace: Any, report: Any) -> int:
    for thing in (workspace, report):
        thing.save()
        print(thing.url)
    return 0


def _default_entity() -> str:
    import wandb

    return str(wandb.Api().default_entity)


def _measures(runs: list[Path]) -> list[str]:
    there = {m for r in runs for m in RunFolder(r).read(RunFolder(r).metrics).get("measures", {})}
    return [m for m in SCORES if m in there]


def _title(panel: Any) -> str:
    return getattr(panel, "title", None) or getattr(panel, "table_name", None) or type(panel).__name__


def _sections(measures: list[str]) -> dict[str, list[Any]]:
    import wandb_workspaces.reports.v2 as wr

    rank, kind = wr.Config("adapter.rank"), wr.Config("adapter.kind")
    loss = [
        wr.LinePlot(
            title="training loss by rank", x="train/step", y=["train/loss"], groupby=rank, smoothing_factor=0.8
        ),
        wr.LinePlot(
            title="validation loss by rank", x="validation/step", y=["validation/validation_loss"], groupby=rank
        ),
        wr.LinePlot(title="gradient norm", x="train/step", y=["train/grad_norm"], smoothing_factor=0.8),
    ]
    by_rank = [wr.ScatterPlot(title=f"{m} by rank", x=rank, y=wr.SummaryMetric(f"{m}/mean")) for m in measures]
    against = [
        wr.BarPlot(title=f"{m}: LoRA against DoRA", metrics=[wr.SummaryMetric(f"{m}/mean")], groupby=kind)
        for m in measures
    ]
    cost = (
        [
            wr.ScatterPlot(
                title="cost", x=wr.SummaryMetric("stages/train/seconds"), y=wr.SummaryMetric(f"{measures[0]}/mean")
            )
        ]
        if measures
        else []
    )
    return {
        "Loss": loss,
        "Measures by rank": by_rank,
        "LoRA against DoRA": [*against, *cost],
        "Videos": [wr.WeavePanelSummaryTable(table_name="evaluation")],
    }


def _workspace(entity: str, project: str, group: str, measures: list[str]) -> Any:
    import wandb_workspaces.workspaces as ws

    sections = [
        ws.Section(name=name, panels=panels, is_open=True) for name, panels in _sections(measures).items() if panels
    ]
    settings = ws.RunsetSettings(filters=[ws.Metric("Group") == group])
    return ws.Workspace(
        entity=entity, project=project, name=f"study {group}", sections=sections, runset_settings=settings
    )


def _report(entity: str, project: str, group: str, measures: list[str]) -> Any:
    import wandb_workspaces.reports.v2 as wr

    runset = wr.Runset(entity=entity, project=project, name=group, filters=f"Metric('Group') == '{group}'")
    blocks: list[Any] = [wr.TableOfContents()]
    for name, panels in _sections(measures).items():
        if panels:
            blocks += [wr.H2(name), wr.PanelGrid(runsets=[runset], panels=panels)]
    return wr.Report(
        entity=entity,
        project=project,
        title=f"Study {group}",
        description="Made by cosmos-exp dashboard.",
        blocks=blocks,
    )
