"""`cosmos-exp run`: Hydra around one run. A bad request is reported before Hydra, torch or a run folder are involved."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable

from cosmos_exp.cli.runs import Runs
from cosmos_exp.errors import RunError, UserError

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
    added = search_overrides(words)
    runs = Runs(overrides, searching=added is not None)
    register()
    sys.argv = ["cosmos-exp", *overrides_last([*words, *(added or [])])]
    start = hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")(runs)
    if runs.searching:
        search(start, runs)
    else:
        start()
    return runs.end()


def search(start: Callable[[], None], runs: Runs) -> None:
    """Let a sweeper search. An error of its own counts only if runs have values: without one it cannot name a best run.

    Raises:
        RunError: no run has a value.
    """
    before = os.environ.get("HYDRA_FULL_ERROR")
    os.environ["HYDRA_FULL_ERROR"] = "1"  # else Hydra prints a traceback and ends the process
    try:
        start()
    except ValueError as error:
        if runs.values or runs.failures:
            raise
        raise RunError("no run has a value of the objective; the reasons are above.") from error
    finally:
        os.environ.pop("HYDRA_FULL_ERROR")
        if before is not None:
            os.environ["HYDRA_FULL_ERROR"] = before


def search_overrides(words: list[str]) -> list[str] | None:
    """What a sweeper that searches (not Hydra's own, which tries all values) needs to be told; None without one.

    Raises:
        UserError: the objective cannot be had, or the direction is the wrong one.
    """
    from cosmos_exp.config.composing import compose_config
    from cosmos_exp.config.hydra_internals import is_sweep, parse_command_line, sweeper_keys
    from cosmos_exp.config.paths import conf_dir
    from cosmos_exp.experiment.objective import check_objective, direction

    hydra_args = parse_command_line(words)
    overrides = hydra_args.overrides
    sweeper = next((o.partition("=")[2] for o in overrides if o.startswith("hydra/sweeper=")), "basic")
    if sweeper == "basic" or not hydra_args.multirun:
        return None
    dirs = (hydra_args.config_dir,) if hydra_args.config_dir else ()
    config = compose_config([o for o in overrides if not is_sweep(o)], hydra_args.config_name or "config", dirs)
    check_objective(config)
    if "direction" not in sweeper_keys(conf_dir(), overrides):
        return []
    better = direction(config.objective)
    typed = next((o.partition("=")[2] for o in overrides if o.startswith("hydra.sweeper.direction=")), better)
    if typed != better:
        raise UserError(
            f"hydra.sweeper.direction={typed}: objective={config.objective} is to {better}. Leave the direction out: it "
            "follows the objective."
        )
    return [f"hydra.sweeper.direction={better}"]


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
    if not hydra_args.multirun:
        refuse_two_values(overrides)
    several = hydra_args.multirun or name != "config"  # a sweep of the user's may set hydra.mode itself
    compose_config([o for o in overrides if not (several and is_sweep(o))], name, dirs)
    return overrides


def refuse_two_values(overrides: list[str]) -> None:
    """A key or group that one run gets twice, with two values: one of them would count for nothing.

    Raises:
        UserError: there is one.
    """
    first: dict[str, str] = {}
    for word in overrides:
        key, sign, value = word.lstrip("+").partition("=")
        before = first.setdefault(key, value)
        if sign and before.strip("'\"") != value.strip("'\""):
            raise UserError(
                f"{key}={before} {key}={value}: two values for one run. Leave one out, or run both with -m {key}={before},{value}."
            )
