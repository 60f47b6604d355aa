"""`cosmos-exp run`: Hydra around one run. A bad request is reported before Hydra, torch or a run folder are involved."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cosmos_exp.errors import Interrupted, UserError

if TYPE_CHECKING:
    from omegaconf import DictConfig

HELP = "one run: prepare, train, generate, evaluate, record"
# Flags that Hydra answers by itself; nothing is composed for them.
ANSWERED_BY_HYDRA = ("-h", "--help", "--hydra-help", "--version", "--info", "-i")

# Flags of Hydra that would run another configuration than conf/, or read a pickle, which can run code.
REFUSED = {
    "--config-path": "Put your groups and studies into a folder and give --config-dir FOLDER.",
    "-cp": "Put your groups and studies into a folder and give --config-dir FOLDER.",
    "--experimental-rerun": "Resume a run with run_dir=DIR, or run its record again with `cosmos-exp rerun DIR`.",
}


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command. Its arguments are Hydra's and are parsed by Hydra."""
    parser = commands.add_parser("run", help=HELP, description=HELP, add_help=False)
    parser.add_argument("rest", nargs="*", help="Hydra overrides and flags; run --help lists them")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Run what the command line says. Returns the exit code; of several runs (`-m`) the worst.

    Raises:
        UserError: the request was wrong, or the run failed.
    """
    if "-sc" in args.rest or "--shell-completion" in args.rest:
        return print_completion(args.rest)
    import hydra

    from cosmos_exp.config.composing import quote_choices, register
    from cosmos_exp.config.hydra_internals import overrides_last
    from cosmos_exp.config.paths import conf_dir

    words = quote_choices([w for w in args.rest if w != "--debug"])
    overrides = check_request(words)
    exit_codes: list[int] = []
    failures: list[UserError] = []  # Hydra would print a traceback; they are raised when it is done

    def task(composed: DictConfig) -> None:
        from cosmos_exp.config.composing import to_config
        from cosmos_exp.experiment.dry_run import print_plan
        from cosmos_exp.experiment.launching import run_isolated
        from cosmos_exp.experiment.run import run as run_experiment
        from cosmos_exp.report.terminal import print_runs
        from cosmos_exp.run_folder import RunFolder
        from cosmos_exp.sweep.folders import is_multirun, with_run_dir

        try:
            config = to_config(composed)
            if config.dry_run:
                print_plan(config)
                return
            config = with_run_dir(config, overrides)
            print(f"run folder: {config.run_dir}", flush=True)
            if is_multirun():
                exit_codes.append(0 if run_isolated(config) else 1)
                return
            run_experiment(config)
            print_runs([RunFolder(str(config.run_dir))])
            print(f"run folder: {config.run_dir}")
        except (Interrupted, KeyboardInterrupt) as error:
            print(
                f"interrupted: {error}\nResume with `cosmos-exp run run_dir={_relative(config.run_dir)}`.", flush=True
            )
            exit_codes.append(1)
        except UserError as error:
            failures.append(error)

    register()
    sys.argv = ["cosmos-exp", *overrides_last(words)]
    hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")(task)()
    if failures:
        raise failures[0]
    return max(exit_codes, default=0)


def print_completion(words: list[str]) -> int:
    """Print the code of `-sc install=SHELL`: ours, which completes all commands. Hydra's own does not know `run`.

    Raises:
        UserError: another request than install or uninstall, or an unknown shell.
    """
    from cosmos_exp.cli.completion import SHELLS, shell_code

    action, _, shell = next((w for w in words if "=" in w), "").partition("=")
    if action not in ("install", "uninstall") or shell not in SHELLS:
        raise UserError(f"-sc {action}={shell}: not supported. Use -sc install=SHELL with one of {', '.join(SHELLS)}.")
    remove = {"bash": "complete -r cosmos-exp", "zsh": "compdef -d cosmos-exp", "fish": "complete -e -c cosmos-exp"}
    print(shell_code(shell) if action == "install" else remove[shell])
    return 0


def check_request(words: list[str]) -> list[str]:
    """Compose the request, so that an invalid one is reported before Hydra starts. Returns the overrides.

    Raises:
        UserError: it is invalid.
    """
    from cosmos_exp.config.composing import compose_config
    from cosmos_exp.config.hydra_internals import is_sweep, parse_command_line

    for flag, instead in REFUSED.items():
        if any(w.split("=")[0] == flag for w in words):
            raise UserError(f"{flag}: not supported. {instead}")
    hydra_args = parse_command_line(words)
    if hydra_args.multirun and (hydra_args.cfg or hydra_args.info):
        flag = "--cfg" if hydra_args.cfg else "--info"
        raise UserError(
            f"{flag}: shows the configuration of one run, so it does not go with -m. Leave -m out and give each key one "
            "value; or use -m with dry_run=true, which prints the plan of each run."
        )
    overrides: list[str] = hydra_args.overrides
    if any(w.split("=")[0] in ANSWERED_BY_HYDRA for w in words):
        return overrides
    name = hydra_args.config_name or "config"
    dirs = (hydra_args.config_dir,) if hydra_args.config_dir else ()
    several = hydra_args.multirun or name != "config"  # a sweep of the user's may set hydra.mode itself
    compose_config([o for o in overrides if not (several and is_sweep(o))], name, dirs)
    return overrides


def _relative(run_dir: str | None) -> str:
    """A run folder as the user would type it."""
    path = Path(str(run_dir))
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
