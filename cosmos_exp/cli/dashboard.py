"""`cosmos-exp dashboard SWEEP`: a saved wandb workspace and report of a sweep."""

from __future__ import annotations

import argparse
from pathlib import Path

from cosmos_exp.errors import UserError

HELP = "save a wandb workspace and a wandb report of a sweep; without a login, write their definitions"


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to `cosmos-exp`."""
    parser = commands.add_parser("dashboard", help=HELP, description=HELP)
    parser.add_argument("sweep", metavar="SWEEP", help="name of a sweep in outputs/sweeps, or its folder")
    parser.add_argument("--entity", help="wandb entity (default: the sweep's, else yours)")
    parser.add_argument("--project", help="wandb project (default: the sweep's)")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Save the dashboard, or write its definitions and print what they contain."""
    from cosmos_exp.tracking.dashboard import define_dashboard, save_dashboard, write_definitions
    from cosmos_exp.tracking.wandb import logged_in

    sweep = Path(args.sweep)
    if not sweep.is_dir():
        sweep = Path("outputs") / "sweeps" / args.sweep
    runs = sorted(p.parent for p in sweep.glob("*/status.json"))
    if not runs:
        raise UserError(f"{args.sweep}: no runs found in {sweep}. Give the name of a sweep or its folder.")
    dashboard = define_dashboard(runs, args.entity, args.project)
    if logged_in():
        for url in save_dashboard(dashboard):
            print(url)
        return 0
    folder = write_definitions(dashboard, sweep / "dashboard")
    print(f"You are not logged in to wandb. The definitions are in {folder}.")
    print("To create the dashboard, run:")
    print("  wandb login")
    print(f"  wandb sync {sweep}/*/wandb/offline-run-*")
    print(f"  cosmos-exp dashboard {args.sweep}")
    print(f"Project {dashboard.project} then gets, for the {len(runs)} runs of group {dashboard.group}:")
    print(f"  the workspace '{dashboard.title}' with the sections")
    for name, titles in dashboard.panel_titles().items():
        print(f"    {name}: {', '.join(titles)}")
    print(f"  the report '{dashboard.title}' with the same panels")
    return 0
