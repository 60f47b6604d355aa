"""`cosmos-exp dashboard SWEEP`: a saved wandb workspace and report of a sweep."""

from __future__ import annotations

import argparse
from pathlib import Path

from cosmos_exp.errors import UserError

EPILOG = """examples:
  cosmos-exp dashboard rank                         workspace and report of outputs/sweeps/rank
  cosmos-exp dashboard rank --sync                  send the offline runs first
  cosmos-exp dashboard outputs/run/2026-11-26_10-00-00 --sync     one run
  cosmos-exp dashboard rank --entity my_team --project robots

Offline runs carry their artifacts with them, in RUN/wandb. --sync also works after the folders were moved."""
HELP = "save a wandb workspace and a wandb report of a sweep; without a login, write the workspace's definition"


def options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("sweep", metavar="SWEEP", help="name of a sweep in outputs/sweeps, its folder, or a run folder")
    parser.add_argument("--sync", action="store_true", help="first send the offline runs (wandb sync)")
    parser.add_argument("--entity", help="wandb entity (default: the sweep's, else yours)")
    parser.add_argument("--project", help="wandb project (default: the sweep's)")


def run(args: argparse.Namespace) -> int:
    """Save workspace and report, or write the definition of the workspace."""
    from cosmos_exp.tracking.dashboard import define_dashboard, write_definition
    from cosmos_exp.tracking.offline import sync
    from cosmos_exp.tracking.wandb import logged_in

    sweep = Path(args.sweep)
    if not sweep.is_dir():
        sweep = Path("outputs") / "sweeps" / args.sweep
    runs = [sweep] if (sweep / "status.json").is_file() else sorted(p.parent for p in sweep.glob("*/status.json"))
    if not runs:
        raise UserError(f"{args.sweep}: no runs found in {sweep}. Give the name of a sweep or its folder.")
    if args.sync:
        if not logged_in():
            raise UserError("--sync: you are not logged in to wandb. Run `wandb login`.")
        print(f"{sync(runs)} offline runs sent")
    workspace, report = define_dashboard(runs, args.entity, args.project)
    if logged_in():
        for definition in (workspace, report):
            definition.save()
            print(definition.url)
        return 0
    file = sweep / "dashboard" / "workspace.json"
    write_definition(workspace, file)
    print(f"You are not logged in to wandb. The definition of the workspace is in {file}.")
    print(f"To create '{workspace.name}' in project {workspace.project}, for {len(runs)} runs, and a report, run:")
    print("  wandb login")
    print(f"  cosmos-exp dashboard {args.sweep} --sync")
    return 0
