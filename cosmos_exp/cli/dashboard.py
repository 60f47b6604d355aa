"""`cosmos-exp dashboard SWEEP`: a saved wandb workspace of a sweep."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path

from cosmos_exp.errors import RunError, UserError

EPILOG = """examples:
  cosmos-exp dashboard rank                         workspace of outputs/sweeps/rank
  cosmos-exp dashboard rank --sync                  send the offline runs first
  cosmos-exp dashboard outputs/run/2026-11-26_10-00-00 --sync     one run
  cosmos-exp dashboard rank --entity my_team --project robots

Offline runs carry their artifacts with them, in RUN/wandb. Send them from the path where they ran: wandb records it."""
HELP = "save a wandb workspace of a sweep; needs a login"


def options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("sweep", metavar="SWEEP", help="name of a sweep in outputs/sweeps, its folder, or a run folder")
    parser.add_argument("--sync", action="store_true", help="first send the offline runs (wandb sync)")
    parser.add_argument("--entity", help="wandb entity (default: yours)")
    parser.add_argument("--project", help="wandb project (default: the sweep's)")


def run(args: argparse.Namespace) -> int:
    """Send the offline runs if that is asked for, then save the workspace."""
    from cosmos_exp.tracking.wandb import logged_in

    sweep = Path(args.sweep)
    if not sweep.is_dir():
        sweep = Path("outputs") / "sweeps" / args.sweep
    runs = sorted(p.parent for p in sweep.rglob("status.json"))  # tuning runs are a folder deeper
    if not runs:
        raise UserError(f"{args.sweep}: no runs found in {sweep}. Give the name of a sweep or its folder.")
    if not logged_in():
        raise UserError("dashboard: you are not logged in to wandb. Run `wandb login`.")
    if args.sync:
        sync(runs)
    import wandb

    from cosmos_exp.tracking.dashboard import define_workspace

    workspace = define_workspace(runs, args.entity or str(wandb.Api().default_entity), args.project)
    workspace.save()
    print(workspace.url)
    return 0


def sync(runs: list[Path]) -> None:
    """Send the offline runs in these run folders to wandb.

    Raises:
        RunError: wandb could not send one.
    """
    offline = [str(folder) for run in runs for folder in sorted(run.glob("wandb/offline-run-*"))]
    if offline and subprocess.run([sys.executable, "-m", "wandb", "sync", *offline], check=False).returncode:
        raise RunError("wandb sync: it failed; its output is above. Run the same command again.")
