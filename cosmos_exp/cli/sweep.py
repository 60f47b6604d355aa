"""`cosmos-exp sweep NAME`: a study through Hydra's multirun and launchers, one process a run; again finishes the rest."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from cosmos_exp.experiment.isolation import LOG_TO_FILE
from cosmos_exp.sweep.planning import PlannedRun, find_study, plan


def main(args: argparse.Namespace) -> int:
    """Run what is missing or failed. Exit code 1 if a run has failed or is unfinished."""
    name, folder = find_study(args.name)
    runs = plan(name, folder, args.overrides, Path.cwd())
    for run in runs:
        run.check_same()
    left = [r for r in runs if r.state() not in ("done", "running")]
    if args.list or not left:
        from cosmos_exp.sweep.live import print_states

        print_states(runs)
        return 0 if args.list else _ended(runs, args.debug)
    return _run(name, folder, args.overrides, runs, left, args.debug)


def _run(
    name: str, folder: Path, overrides: Sequence[str], runs: list[PlannedRun], left: list[PlannedRun], debug: bool
) -> int:
    from cosmos_exp.cli import run as run_command
    from cosmos_exp.sweep.live import watch
    from hydra_plugins.cosmos_exp_study import StudySweeper

    StudySweeper.wanted = tuple((*r.overrides, f"run_dir='{r.folder.path}'") for r in left)
    hydra_words = [o for o in overrides if o.startswith("hydra")]
    words = ["--config-dir", str(folder), "--config-name", name, "-m", *hydra_words]
    words.append("hydra.sweeper._target_=hydra_plugins.cosmos_exp_study.StudySweeper")
    os.environ[LOG_TO_FILE] = "1"
    try:
        with watch(runs):
            run_command.main(words, debug)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on", file=sys.stderr)
        return 1
    finally:
        os.environ.pop(LOG_TO_FILE, None)
        StudySweeper.wanted = ()
    return _ended(runs, debug)


def _ended(runs: list[PlannedRun], debug: bool) -> int:
    """The study's table and how each run that is not done ended."""
    from cosmos_exp.report.writing import main as report

    study = runs[0].folder.path.parent
    unfinished = [(r, r.state()) for r in runs]
    unfinished = [(r, s) for r, s in unfinished if s != "done"]
    if len(unfinished) < len(runs):
        report(argparse.Namespace(dir=str(study), out=None, debug=debug))
    for run, state in unfinished:
        error = run.folder.read(run.folder.status_file).get("error") or "no status was written"
        print(f"{run.name}: {state}: {str(error).splitlines()[0]}   ({run.folder.path / 'log.txt'})", file=sys.stderr)
    if unfinished:
        print(
            f"{len(runs) - len(unfinished)} of {len(runs)} runs are done; the same command does the rest.",
            file=sys.stderr,
        )
    return int(bool(unfinished))
