"""`cosmos-exp sweep NAME`: the runs of a sweep; the same command again runs what is missing or failed."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cosmos_exp.sweep.expanding import SweepRun

HELP = "a sweep from sweeps/NAME.yaml; again: run what is missing or failed"
EPILOG = """examples:
  cosmos-exp sweep rank                                        LoRA at ranks 8, 16, 32 on the embedded world
  cosmos-exp sweep rank seed=0,1,2 training.max_steps=60       any key can take several values
  cosmos-exp sweep paper --list                                the state of each run
  cosmos-exp sweep paper hydra/launcher=ray_1xh100             one run per GPU; slurm_8xh100 for a cluster

Each run is its own process and has its own folder, outputs/sweeps/<sweep>/<run>. Runs go one after another or one per
GPU. A failed run is recorded and does not stop the others; the exit code is then 1. The same command again runs what is
missing or failed and nothing else."""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to `cosmos-exp`."""
    parser = commands.add_parser(
        "sweep", help=HELP, description=HELP, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", help="rank, lora_vs_dora, alpha, paper, demo, or the path of your own YAML file")
    parser.add_argument("overrides", nargs="*", help="configuration of all runs, e.g. model=… hydra/launcher=ray")
    parser.add_argument("--list", action="store_true", help="print the state of each run and stop")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run what is missing or failed. Exit code 1 if a run has failed or is unfinished."""
    from cosmos_exp.sweep.expanding import expand_sweep, find_sweep
    from cosmos_exp.sweep.live import print_states

    name, folder = find_sweep(args.name)
    runs = expand_sweep(name, folder, args.overrides, Path.cwd())
    for one in runs:
        one.check_same()
    missing = [r for r in runs if r.state() not in ("done", "running")]
    if args.list:
        print_states(runs)
        return 0
    if not missing:
        print_states(runs)
        return report(runs)
    from cosmos_exp.sweep.running import run_missing

    try:
        run_missing(name, folder, args.overrides, runs, missing)
    except KeyboardInterrupt:
        print("interrupted. Run the same command again to resume.", file=sys.stderr)
        return 1
    return report(runs)


def report(runs: list[SweepRun]) -> int:
    """Write the sweep's report and print how each unfinished run ended. Exit code 1 if there is one."""
    from cosmos_exp.cli.report import print_report
    from cosmos_exp.report.writing import write_report

    states = {r.name: r.state() for r in runs}
    unfinished = [r for r in runs if states[r.name] != "done"]
    if len(unfinished) < len(runs):
        print_report(write_report(runs[0].folder.path.parent))
    for run in unfinished:
        error = str(run.folder.status.get("error") or "no status was written").splitlines()[0]
        print(f"{run.name}: {states[run.name]}: {error}   ({run.folder.log})", file=sys.stderr)
    if unfinished:
        done = len(runs) - len(unfinished)
        print(f"{done} of {len(runs)} runs are done. Run the same command again for the rest.", file=sys.stderr)
    return int(bool(unfinished))
