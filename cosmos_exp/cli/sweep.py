"""`cosmos-exp sweep NAME`: the runs of a sweep; the same command again runs what is missing or failed."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from cosmos_exp.cli.arguments import add_overrides
from cosmos_exp.errors import UserError

if TYPE_CHECKING:
    from cosmos_exp.sweep.runs import SweepRun
    from cosmos_exp.sweep.tuning import PlannedRuns

HELP = "a sweep from sweeps/NAME.yaml; again: run what is missing or failed"
EPILOG = """examples:
  cosmos-exp sweep rank                                        LoRA at ranks 8, 16, 32 on the embedded world
  cosmos-exp sweep rank seed=0,1,2 training.max_steps=60       any key can take several values
  cosmos-exp sweep tuned                                       each arm at its own learning rate, chosen on other scenes
  cosmos-exp sweep tuned --tune                                its tuning alone; without --tune the test follows
  cosmos-exp sweep paper --list                                the state of each run
  cosmos-exp sweep rank dry_run=true                           the plan of each run; starts none
  cosmos-exp sweep paper hydra/launcher=ray_1xh100             one run per GPU; slurm_8xh100 for a cluster

Each run is its own process and has its own folder, outputs/sweeps/<sweep>/<run>. Runs go one after another or one per
GPU. A failed run is recorded and does not stop the others; the exit code is then 1. The same command again runs what is
missing or failed and nothing else.

A sweep with `sweep.arms` has named arms. With `sweep.tune.grid` it runs in two phases: each arm is trained at every value
of the grid, the best value is chosen on selection prompts or validation clips (never on the test prompts), and then each
arm is trained at its own value with each of `sweep.seeds` and tested. See docs/sweeps.md."""


def options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "name", help="rank, lora_vs_dora, alpha, tuned, ablation, paper, demo, or the path of your own YAML file"
    )
    add_overrides(parser, "configuration of all runs, e.g. model=… hydra/launcher=ray")
    parser.add_argument("-cd", "--config-dir", help="your folder of groups")
    parser.add_argument("--tune", action="store_true", help="the tuning alone, before grids and claims are final")
    parser.add_argument("--list", action="store_true", help="print the state of each run and stop")


def run(args: argparse.Namespace) -> int:
    """Run what is missing or failed. Exit code 1 if a run has failed or is unfinished."""
    from cosmos_exp.sweep.frozen_claims import freeze_arms, freeze_product
    from cosmos_exp.sweep.live import print_states
    from cosmos_exp.sweep.plan import read_plan
    from cosmos_exp.sweep.running import check_sweep, is_local, run_missing, run_unfinished
    from cosmos_exp.sweep.runs import expand_sweep, find_sweep, in_state, missing_runs
    from cosmos_exp.sweep.tuning import planned_runs, run_phases

    name, folder = find_sweep(args.name)
    config_dirs = [args.config_dir] if args.config_dir else []
    plan = read_plan(folder / f"{name}.yaml", args.overrides, Path.cwd(), config_dirs)
    if args.tune:
        if not plan or not plan.tuning:
            raise UserError(f"--tune: the sweep {name} has no tuning. Set sweep.tune.grid, or leave --tune away.")
        plan = replace(plan, tested=False)
    now = planned_runs(plan) if plan else None
    runs = now.runs if now else expand_sweep(name, folder, args.overrides, Path.cwd(), config_dirs)
    for one in runs:
        one.check_same()
    missing = missing_runs(runs)
    if args.list:
        print_states(runs)
        say_lost(runs)
        return say_choices(now)
    local = is_local(name, folder, args.overrides, config_dirs)
    is_dry_run = (plan.arms[0] if plan else runs[0]).config.dry_run
    if not is_dry_run:
        configs = {run.name: run.config for run in runs}
        starting = {run.name for run in missing}
        for arm in plan.arms if plan else ():
            if now and arm.name in now.waiting:  # its test, which needs what the tuning does not
                configs[arm.name] = arm.config
                starting.add(arm.name)
        if code := check_sweep(configs, starting, local):
            return code
    if not args.tune and (frozen := freeze_arms(plan) if plan else freeze_product(runs)):
        print(frozen)
    if is_dry_run:
        return print_plans(missing, local)

    def start(runs: list[SweepRun], missing: list[SweepRun]) -> None:
        run_missing(name, folder, args.overrides, runs, missing, config_dirs)

    if not missing and not in_state(runs, "queued"):
        print_states(runs)
    try:
        if plan:
            now = run_phases(plan, start)
            runs = now.runs
        else:
            run_unfinished(runs, start)
    except KeyboardInterrupt:
        return interrupted(planned_runs(plan).runs if plan else runs)
    say_choices(now)
    waiting = now.waiting if now and not args.tune else []
    return report(runs, plan.folder if plan else runs[0].folder.path.parent, waiting)


def print_plans(runs: list[SweepRun], local: bool) -> int:
    """The plan of each run that would start now (`dry_run=true`). Nothing is run, downloaded or frozen.

    Args:
        local: the runs are processes of this machine, so that what is missing is missing.

    Raises:
        UserError: something is missing.
    """
    from cosmos_exp.experiment.plan import print_plan
    from cosmos_exp.sweep.running import check_runs

    for one in runs:
        print(f"\n{one.name}")
        print_plan(one.config)
    print(f"dry run: {len(runs)} runs would start now", flush=True)
    if local:
        check_runs({run.name: run.config for run in runs}, {run.name for run in runs})
    return 0


def interrupted(runs: list[SweepRun]) -> int:
    """Say how to resume. Slurm jobs continue."""
    from cosmos_exp.sweep.live import print_states
    from cosmos_exp.sweep.slurm import continuing

    folders = [run.folder for run in runs]
    jobs = continuing(folders)
    if not jobs:
        print("interrupted. Run the same command again to resume.", file=sys.stderr)
        return 1
    print_states(runs)
    print(f"{jobs} The same command again waits for them and runs what is missing.", file=sys.stderr)
    return 1


def say_choices(now: PlannedRuns | None) -> int:
    """Print what each arm's tuning chose, or how much of it is missing."""
    if now is None:
        return 0
    for arm, choice in now.choices.items():
        scored = [point for point in choice.points if point["score"] is not None]
        words = [f"{key}={value}" for key, value in (choice.chosen or {}).items()]
        edge = f" (at the edge of the grid: extend {', '.join(choice.edges)})" if choice.edges else ""
        chosen = ", ".join(words) or "not chosen yet"
        print(f"{arm}: {chosen}, {len(scored)} of {len(choice.points)} values tried{edge}")
    if now.waiting:
        print(f"tested after the tuning: {', '.join(now.waiting)}")
    return 0


def say_lost(runs: list[SweepRun]) -> None:
    """Print what the dashboard does not have of each run; the run folder has everything."""
    for run in runs:
        if lost := run.folder.manifest.get("wandb_lost"):
            print(f"{run.name}: wandb lost {'; '.join(lost)}   ({run.folder.log})", file=sys.stderr)


def report(runs: list[SweepRun], folder: Path, waiting: list[str]) -> int:
    """Write the sweep's report and print how each unfinished run ended. Exit code 1 if there is one.

    Args:
        folder: of the sweep.
        waiting: arms that cannot be tested yet, as their tuning is unfinished.
    """
    from cosmos_exp.cli.report import print_report
    from cosmos_exp.report.tables import write_report
    from cosmos_exp.sweep.slurm import how_job_ended

    states = {run.name: run.state() for run in runs}
    unfinished = [run for run in runs if states[run.name] != "done"]
    if any(states[run.name] == "done" and run.folder.path.parent == folder for run in runs):
        print_report(write_report(folder))
    for run in unfinished:
        error = run.folder.status.get("error") or how_job_ended(run.folder) or "no status was written"
        print(f"{run.name}: {states[run.name]}: {str(error).splitlines()[0]}   ({run.folder.log})", file=sys.stderr)
    say_lost(runs)
    for arm in waiting:
        print(f"{arm}: not tested, as its tuning is unfinished", file=sys.stderr)
    if not unfinished and not waiting:
        return 0
    done = len(runs) - len(unfinished)
    print(f"{done} of {len(runs)} runs are done. Run the same command again for the rest.", file=sys.stderr)
    return 1
