"""`cosmos-exp run`: compose the configuration, check it, run it. Hydra itself runs several (`-m`) and prints configurations."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cosmos_exp.errors import Interrupted, RunError, UserError

if TYPE_CHECKING:
    from cosmos_exp.config.schema import Config

HELP = "one run: prepare, train, generate, evaluate, record"


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command. Its options are those of Hydra that make sense here."""
    parser = commands.add_parser("run", help=HELP, description=HELP, add_help=False, allow_abbrev=False)
    parser.add_argument("overrides", nargs="*", help="GROUP=CHOICE and KEY=VALUE; --help lists them")
    parser.add_argument("-h", "--help", action="store_true", help="groups and keys")
    parser.add_argument("-m", "--multirun", action="store_true", help="several runs, one after another")
    parser.add_argument("-c", "--cfg", choices=("job", "hydra", "all"), help="print the configuration")
    parser.add_argument("--resolve", action="store_true", help="with --cfg: resolve interpolations")
    parser.add_argument("-p", "--package", help="with --cfg: only this part")
    parser.add_argument("-cd", "--config-dir", help="your folder of groups")
    parser.add_argument("-cn", "--config-name", default="config", help="another primary configuration")
    parser.add_argument("-i", "--info", choices=("all", "config", "defaults", "plugins", "searchpath"), help="of Hydra")
    parser.add_argument("--hydra-help", action="store_true", help="flags of Hydra")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run what the command line says. Returns the exit code; of several runs the worst.

    Raises:
        UserError: the request was wrong, or the run failed.
    """
    from cosmos_exp.config.composing import compose_config, each_value, quoted

    if args.help or args.hydra_help or args.info:
        return ask_hydra(args)
    dirs = (args.config_dir,) if args.config_dir else ()
    several = args.multirun or study_of_several(args)
    runs = each_value(quoted(args.overrides)) if several else [args.overrides]
    configs = [compose_config(words, args.config_name, dirs) for words in runs]
    if args.cfg:
        return ask_hydra(args)
    if several:
        from cosmos_exp.cli.runs import run_several

        return run_several(args, configs[0])
    return run_one(configs[0], args.overrides)


def study_of_several(args: argparse.Namespace) -> bool:
    """Whether a primary configuration of the user's own asks for several runs itself."""
    from cosmos_exp.config.composing import compose_all, each_value, quoted

    if not args.config_dir:
        return False
    first = each_value(quoted(args.overrides))[0]
    return str(compose_all(first, args.config_name, (args.config_dir,)).hydra.mode).endswith("MULTIRUN")


def run_one(config: Config, overrides: list[str]) -> int:
    """Run a configuration, or print its plan."""
    from cosmos_exp.experiment.run import run as run_experiment
    from cosmos_exp.report.tables import print_runs
    from cosmos_exp.run_folder import RunFolder
    from cosmos_exp.sweep.runs import with_run_dir

    if config.dry_run:
        return plan(config)
    config = with_run_dir(config, overrides)
    folder = shown_path(str(config.run_dir))
    try:
        run_experiment(config)
    except (Interrupted, KeyboardInterrupt) as error:
        print(f"interrupted: {error}\nResume with `cosmos-exp run run_dir={folder}`.", flush=True)
        return 1
    except UserError:
        if Path(folder).exists():  # else nothing was written
            print(f"run folder: {folder}", file=sys.stderr)
        raise
    if os.environ.get("RANK", "0") != "0":  # of torchrun: the first process speaks for all
        return 0
    print_runs([RunFolder(str(config.run_dir))])
    print(f"run folder: {folder}\nnext: cosmos-exp report {folder}")
    return 0


def plan(config: Config) -> int:
    """Print what a run would do (`dry_run=true`).

    Raises:
        RunError: this machine lacks something that it needs.
    """
    from cosmos_exp.experiment.dry_run import print_plan

    if missing := print_plan(config):
        raise RunError(f"dry run: missing here: {', '.join(missing)}. The plan says how to get it.")
    return 0


def ask_hydra(args: argparse.Namespace) -> int:
    """Let Hydra print its help, the configuration or information about itself."""
    from cosmos_exp.cli.runs import start_hydra

    if args.multirun:
        raise UserError(
            "--cfg, --info and --help show one run, so they do not go with -m. `-m dry_run=true` prints the plans."
        )
    start_hydra(args, args.overrides, lambda composed: None)
    return 0


def shown_path(run_dir: str) -> str:
    """A run folder as the user would type it."""
    path = Path(run_dir)
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
