"""Several runs of one `cosmos-exp run -m`: what happens with each configuration that Hydra composes, and what is said at the end."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from omegaconf import DictConfig

from cosmos_exp.cli.run import plan, shown_path
from cosmos_exp.config.composing import NO_SEARCH, quoted, run_hydra, to_config
from cosmos_exp.config.schema import Config
from cosmos_exp.errors import RunError, UserError
from cosmos_exp.text import printable

CHECKED = "hydra.sweeper._target_=hydra_plugins.cosmos_exp_sweep.CheckedSweeper"


class Runs:
    """Called by Hydra with each composed configuration; each run has processes of its own.

    Args:
        overrides: the command line's.
        searching: the sweeper chooses the next values by what a run returns (Optuna); it gets `objective`.
    """

    def __init__(self, overrides: list[str], searching: bool):
        self.overrides, self.searching = overrides, searching
        self.exit_codes: list[int] = [0]
        self.failures: list[UserError] = []  # Hydra would print a traceback; they are raised when it is done
        self.folders: list[Path] = []
        self.values: list[float] = []

    def __call__(self, composed: DictConfig) -> float | None:
        """Run one configuration, or print its plan. Returns its objective, if the sweeper wants one and it has one."""
        from cosmos_exp.experiment.launching import run_isolated
        from cosmos_exp.sweep.runs import with_run_dir

        try:
            config = to_config(composed)
            if config.dry_run:
                plan(config)
                return None
            if config.fail_fast and any(self.exit_codes):
                return None
            config = with_run_dir(config, self.overrides)
        except UserError as error:
            self.failures.append(error)
            return None
        self.folders.append(config.folder.path)
        self.exit_codes.append(int(not run_isolated(config)))
        print(f"run folder: {shown_path(config.folder.path)}", flush=True)
        return self.objective(config) if self.searching else None

    def objective(self, config: Config) -> float | None:
        """The objective of a run that has ended, for a sweeper that searches; None if it has none."""
        from cosmos_exp.experiment.objective import objective_value

        try:
            value = objective_value(config.folder, config.objective)
        except UserError as error:
            print(f"cosmos-exp: {error} The sweeper counts it as failed.", file=sys.stderr, flush=True)
            self.exit_codes.append(1)
            return None
        print(f"objective: {config.objective} {value:.5g}", flush=True)
        self.values.append(value)
        return value


def run_several(args: argparse.Namespace, config: Config, searching: bool) -> int:
    """Run the product of the values on the command line, or let a sweeper such as Optuna search. Returns the worst exit code.

    Args:
        config: of the keys that have one value.
        searching: the sweeper is not Hydra's own, which takes the product of values that were all checked.

    Raises:
        UserError: the objective cannot be had, or the first run that was refused.
    """
    from cosmos_exp.sweep.slurm import wait_for_submitted

    runs = Runs(quoted(args.overrides), searching)
    if searching:
        search(args, config, runs)
    else:
        start_hydra(args, [*runs.overrides, CHECKED], runs)
    if runs.failures:
        raise runs.failures[0]
    runs.exit_codes.append(wait_for_submitted())
    if runs.folders:
        sweep = runs.folders[0].parent
        best = sweep / "optimization_results.yaml"
        if best.is_file():
            print(printable(best.read_text()))
        print(f"next: cosmos-exp report {shown_path(sweep)}")
    return max(runs.exit_codes)


def search(args: argparse.Namespace, config: Config, runs: Runs) -> None:
    """Let Optuna search in the better direction of the objective. It fails at the end if no run has a value: no run is the best.

    Raises:
        UserError: the objective cannot be had.
        RunError: no run has a value.
    """
    from cosmos_exp.experiment.objective import check_objective, direction
    from cosmos_exp.provenance import variables

    check_objective(config, config.objective)
    key, better = "hydra.sweeper.direction", direction(config.objective)
    try:
        with variables({"HYDRA_FULL_ERROR": "1"}):  # else Hydra prints a traceback and ends the process
            start_hydra(args, [*runs.overrides, f"{key}={better}"], runs)
    except ValueError as error:
        if runs.values or runs.failures:
            raise
        raise RunError("no run has a value of the objective; the reasons are above.") from error


def start_hydra(
    args: argparse.Namespace, overrides: Sequence[str], task: Callable[[DictConfig], object] = lambda composed: None
) -> int:
    """`hydra.main` with the options and overrides of a command line that has been checked."""
    words = []
    for name in ("config_dir", "config_name", "cfg", "package", "multirun", "resolve", "help"):
        value = getattr(args, name)
        if value:
            words.append(f"--{name.replace('_', '-')}")
        if isinstance(value, str):
            words.append(value)
    run_hydra([*words, NO_SEARCH, *overrides], task)
    return 0
