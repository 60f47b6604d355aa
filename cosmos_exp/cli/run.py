"""`cosmos-exp run`: compose the configuration, check it, run it. Hydra itself runs several (`-m`) and prints configurations."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cosmos_exp.cli.arguments import add_overrides
from cosmos_exp.errors import Interrupted, RunError, UserError

if TYPE_CHECKING:
    from cosmos_exp.config.schema import Config

HELP = "one run: prepare, train, generate, evaluate, record"
EPILOG = None  # --help is Hydra's, with the groups and keys


def options(parser: argparse.ArgumentParser) -> None:
    """Add the options of Hydra that make sense here."""
    add_overrides(parser, "GROUP=CHOICE and KEY=VALUE; --help lists them")
    add = parser.add_argument
    add("-h", "--help", action="store_true", help="groups and keys")
    add("-m", "--multirun", action="store_true", help="several runs, one after another")
    add("-c", "--cfg", choices=("job", "hydra", "all"), help="print the configuration")
    add("--resolve", action="store_true", help="with --cfg: resolve interpolations")
    add("-p", "--package", help="with --cfg: only this part")
    add("-cd", "--config-dir", help="your folder of groups")
    add("-cn", "--config-name", default="config", help="another primary configuration")


def run(args: argparse.Namespace) -> int:
    """Run what the command line says. Returns the exit code; of several runs the worst.

    Raises:
        UserError: the request was wrong, or the run failed.
    """
    from cosmos_exp.cli.runs import run_several, start_hydra
    from cosmos_exp.config.composing import Composer, compose_all, each_value, is_sweep, quoted, to_config

    if args.multirun and (args.help or args.cfg):
        raise UserError("--cfg and --help show one run, so they do not go with -m. `-m dry_run=true` prints the plans.")
    words = quoted(args.overrides)
    if args.help:
        return start_hydra(args, words)
    where = (args.config_name, [args.config_dir] if args.config_dir else [])
    runs = each_value(words)
    composed = compose_all(runs[0], *where)
    asked_by_study = str(composed.hydra.mode).endswith("MULTIRUN")
    several = args.multirun or asked_by_study
    if not several and any(map(is_sweep, words)):
        compose_all(words, *where)  # refuses it
    searching, config = composed.hydra.runtime.choices["hydra/sweeper"] != "basic", to_config(composed)
    composer = Composer(*where)
    for further in runs[1:]:  # each value is checked before the first run starts
        composer.config(further)
    if args.cfg:
        return start_hydra(args, words)
    if several:
        return run_several(args, config, searching)
    return run_one(config, args.overrides)


def run_one(config: Config, overrides: list[str]) -> int:
    """Run a configuration, or print its plan."""
    from cosmos_exp.sweep.runs import with_run_dir

    if config.run_dir or not config.dry_run:
        config = with_run_dir(config, overrides)
    return plan(config) if config.dry_run else run_and_print(config)


def run_and_print(config: Config) -> int:
    """Run a configuration with a `run_dir`, and print its result or how to resume it."""
    from cosmos_exp.experiment.run import run as run_experiment
    from cosmos_exp.report.tables import print_run

    folder = shown_path(config.folder.path)
    try:
        run_experiment(config)
    except (Interrupted, KeyboardInterrupt) as error:
        print(f"interrupted: {error}\nResume with `cosmos-exp run run_dir={folder}`.", flush=True)
        return 1
    except UserError:
        if Path(folder).exists():  # else nothing was written
            print(f"run folder: {folder} (resume with `cosmos-exp run run_dir={folder}`)", file=sys.stderr)
        raise
    if os.environ.get("RANK", "0") == "0":  # of torchrun: the first process speaks for all
        print_run(config.folder.path)
        print(f"run folder: {folder}\nnext: cosmos-exp report {folder}")
    return 0


def plan(config: Config) -> int:
    """Print what a run would do (`dry_run=true`).

    Raises:
        RunError: this machine lacks something that it needs.
    """
    from cosmos_exp.experiment.plan import print_plan

    if missing := print_plan(config):
        raise RunError(f"dry run: missing here: {', '.join(missing)}. The plan says how to get it.")
    return 0


def shown_path(folder: Path) -> str:
    """A run folder as the user would type it."""
    return str(folder).removeprefix(f"{Path.cwd()}/")
