"""`cosmos-exp sweep NAME`: the runs of a sweep; the same command again runs what is missing or failed."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cosmos_exp.errors import RunError

if TYPE_CHECKING:
    from cosmos_exp.sweep.expanding import SweepRun
    from cosmos_exp.sweep.plan import SweepPlan
    from cosmos_exp.sweep.planned import PlannedRuns

HELP = "a sweep from sweeps/NAME.yaml; again: run what is missing or failed"
EPILOG = """examples:
  cosmos-exp sweep rank                                        LoRA at ranks 8, 16, 32 on the embedded world
  cosmos-exp sweep rank seed=0,1,2 training.max_steps=60       any key can take several values
  cosmos-exp sweep tuned                                       each arm at its own learning rate, chosen on other scenes
  cosmos-exp sweep paper --list                                the state of each run
  cosmos-exp sweep rank dry_run=true                           the plan of each run; starts none
  cosmos-exp sweep paper hydra/launcher=ray_1xh100             one run per GPU; slurm_8xh100 for a cluster

Each run is its own process and has its own folder, outputs/sweeps/<sweep>/<run>. Runs go one after another or one per
GPU. A failed run is recorded and does not stop the others; the exit code is then 1. The same command again runs what is
missing or failed and nothing else.

A sweep with `sweep.arms` has named arms. With `sweep.tune.grid` it runs in two phases: each arm is trained at every value
of the grid, the best value is chosen on selection prompts or validation clips (never on the test prompts), and then each
arm is trained at its own value with each of `sweep.seeds` and tested. See docs/sweeps.md."""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command to `cosmos-exp`."""
    parser = commands.add_parser(
        "sweep", help=HELP, description=HELP, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("name", help="rank, lora_vs_dora, alpha, tuned, paper, demo, or the path of your own YAML file")
    parser.add_argument("overrides", nargs="*", help="configuration of all runs, e.g. model=… hydra/launcher=ray")
    parser.add_argument("--list", action="store_true", help="print the state of each run and stop")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run what is missing or failed. Exit code 1 if a run has failed or is unfinished."""
    from cosmos_exp.sweep.expanding import expand_sweep, find_sweep
    from cosmos_exp.sweep.plan import read_plan

    name, folder = find_sweep(args.name)
    plan = read_plan(folder / f"{name}.yaml", args.overrides, Path.cwd())
    if plan:
        return run_plan(plan, args)
    runs = expand_sweep(name, folder, args.overrides, Path.cwd())
    missing = check_runs(runs)
    if args.list:
        return show(runs)
    from cosmos_exp.sweep.checking import check_sweep, is_here
    from cosmos_exp.sweep.frozen_claims import freeze_product
    from cosmos_exp.sweep.running import run_missing
    from cosmos_exp.sweep.running_elsewhere import run_unfinished

    if runs[0].config.dry_run:
        say(freeze_product(runs))
        return print_plans(missing, is_here(name, folder, args.overrides))
    if code := check_sweep(name, folder, args.overrides, {r.name: r.config for r in missing}):
        return code
    say(freeze_product(runs))
    if not missing and not with_jobs(runs):
        show(runs)

    def start(runs: list[SweepRun], missing: list[SweepRun]) -> None:
        run_missing(name, folder, args.overrides, runs, missing)

    try:
        run_unfinished(lambda: runs, start)
    except KeyboardInterrupt:
        return interrupted(runs)
    return report(runs)


def run_plan(plan: SweepPlan, args: argparse.Namespace) -> int:
    """The same for a sweep by arms, in phases."""
    from cosmos_exp.sweep.checking import check_sweep, is_here
    from cosmos_exp.sweep.frozen_claims import freeze_arms
    from cosmos_exp.sweep.planned import planned_runs, run_phases
    from cosmos_exp.sweep.running import run_missing

    now = planned_runs(plan)
    missing = check_runs(now.runs)
    if args.list:
        show(now.runs)
        return say_choices(now)
    if plan.arms[0].config.dry_run:
        say(freeze_arms(plan))
        return print_plans(missing, is_here(plan.file.stem, plan.file.parent, args.overrides))
    needs = {r.name: r.config for r in missing}
    needs |= {a.name: a.config for a in plan.arms if a.name in now.waiting}  # a test needs what tuning does not
    if code := check_sweep(plan.file.stem, plan.file.parent, args.overrides, needs):
        return code
    say(freeze_arms(plan))
    if not missing and not now.waiting:
        show(now.runs)

    def start(runs: list[SweepRun], missing: list[SweepRun]) -> None:
        run_missing(plan.file.stem, plan.file.parent, args.overrides, runs, missing)

    try:
        now = run_phases(plan, start)
    except KeyboardInterrupt:
        return interrupted(planned_runs(plan).runs)
    say_choices(now)
    return report(now.runs, plan.folder, now.waiting)


def check_runs(runs: list[SweepRun]) -> list[SweepRun]:
    """The runs that are missing or failed. A folder that holds another run is an error."""
    for one in runs:
        one.check_same()
    from cosmos_exp.sweep.expanding import TAKEN

    return [r for r in runs if r.state() not in TAKEN]


def print_plans(runs: list[SweepRun], here: bool) -> int:
    """The plan of each run that would start now (`dry_run=true`). Nothing is run, downloaded or frozen.

    Args:
        here: the runs are processes of this machine, so that what is missing here is missing.

    Raises:
        RunError: something is missing.
    """
    from cosmos_exp.experiment.dry_run import print_plan
    from cosmos_exp.sweep.checking import missing_inputs

    for one in runs:
        print(f"\n{one.name}")
        print_plan(one.config)
    print(f"dry run: {len(runs)} run{'s' * (len(runs) != 1)} would start now", flush=True)
    if missing := missing_inputs({r.name: r.config for r in runs}, here):
        raise RunError("dry run: missing here:\n" + "\n".join(missing))
    return 0


def with_jobs(runs: list[SweepRun]) -> bool:
    """Whether a run has a Slurm job that waits or runs."""
    from cosmos_exp.sweep.slurm_queue import live_job

    return any(live_job(r.folder) for r in runs)


def show(runs: list[SweepRun]) -> int:
    """Print the state of each run."""
    from cosmos_exp.sweep.live import print_states

    print_states(runs)
    return 0


def interrupted(runs: list[SweepRun]) -> int:
    """Say how to resume. Slurm jobs continue: offer to cancel them."""
    from cosmos_exp.sweep.slurm import continuing, offer_to_cancel

    jobs = continuing(r.folder for r in runs)
    if not jobs:
        print("interrupted. Run the same command again to resume.", file=sys.stderr)
        return 1
    show(runs)
    print(f"{jobs} The same command again waits for them and runs what is missing.", file=sys.stderr)
    offer_to_cancel([r.folder for r in runs])
    return 1


def say(words: str | None) -> None:
    """Print a sentence if there is one."""
    if words:
        print(words)


def say_choices(now: PlannedRuns) -> int:
    """Print what each arm's tuning chose, or how much of it is missing."""
    for arm, choice in now.choices.items():
        tried = sum(p.scored.score is not None for p in choice.points)
        chosen = ", ".join(f"{k}={v}" for k, v in (choice.chosen or {}).items())
        edge = f" (at the edge of the grid: extend {', '.join(choice.edges)})" if choice.edges else ""
        print(f"{arm}: {chosen or 'not chosen yet'}, {tried} of {len(choice.points)} values tried{edge}")
    if now.waiting:
        print(f"tested after the tuning: {', '.join(now.waiting)}")
    return 0


def report(runs: list[SweepRun], folder: Path | None = None, waiting: list[str] | None = None) -> int:
    """Write the sweep's report and print how each unfinished run ended. Exit code 1 if there is one.

    Args:
        folder: of the sweep; None: that of the runs.
        waiting: arms that cannot be tested yet, as their tuning is unfinished.
    """
    from cosmos_exp.cli.report import print_report
    from cosmos_exp.report.tables import write_report
    from cosmos_exp.sweep.slurm import how_job_ended

    folder = folder or runs[0].folder.path.parent
    states = {r.name: r.state() for r in runs}
    unfinished = [r for r in runs if states[r.name] != "done"]
    if any(r.state() == "done" and r.folder.path.parent == folder for r in runs):
        print_report(write_report(folder))
    for run in unfinished:
        error = run.folder.status.get("error") or how_job_ended(run.folder) or "no status was written"
        print(f"{run.name}: {states[run.name]}: {str(error).splitlines()[0]}   ({run.folder.log})", file=sys.stderr)
    for arm in waiting or []:
        print(f"{arm}: not tested, as its tuning is unfinished", file=sys.stderr)
    if unfinished or waiting:
        done = len(runs) - len(unfinished)
        print(f"{done} of {len(runs)} runs are done. Run the same command again for the rest.", file=sys.stderr)
    return int(bool(unfinished or waiting))
