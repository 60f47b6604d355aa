"""The runs of one `cosmos-exp run`: what happens with each configuration that Hydra composes, and what is said at the end."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from cosmos_exp.errors import Interrupted, RunError, UserError
from cosmos_exp.files import as_disk_error

if TYPE_CHECKING:
    from omegaconf import DictConfig

    from cosmos_exp.config.schema import Config


class Runs:
    """Called by Hydra with each composed configuration.

    Args:
        overrides: the command line's.
        searching: the sweeper chooses the next values by what a run returns (Optuna); it gets `objective`.
    """

    def __init__(self, overrides: list[str], searching: bool = False):
        self.overrides, self.searching = overrides, searching
        self.exit_codes: list[int] = []
        self.failures: list[UserError] = []  # Hydra would print a traceback; they are raised when it is done
        self.folders: list[Path] = []
        self.values: list[float] = []

    def __call__(self, composed: DictConfig) -> float | None:
        """Run one configuration, or print its plan. Returns its objective, if the sweeper wants one and it has one."""
        from cosmos_exp.config.composing import to_config
        from cosmos_exp.sweep.folders import is_multirun, with_run_dir

        config = None
        try:
            config = to_config(composed)
            if not is_multirun():
                _say_unread(self.overrides, config)
            if config.dry_run:
                self._plan(config)
                return None
            if config.fail_fast and any(self.exit_codes):
                return None
            config = with_run_dir(config, self.overrides)
            self.folders.append(Path(str(config.run_dir)))
            if is_multirun():
                return self._isolated(config)
            from cosmos_exp.experiment.run import run
            from cosmos_exp.report.tables import print_runs
            from cosmos_exp.run_folder import RunFolder

            run(config)
            print_runs([RunFolder(str(config.run_dir))])
            print(f"run folder: {shown_path(config.run_dir)}\nnext: cosmos-exp report {shown_path(config.run_dir)}")
        except (Interrupted, KeyboardInterrupt) as error:
            folder = shown_path(config.run_dir if config else None)
            print(f"interrupted: {error}\nResume with `cosmos-exp run run_dir={folder}`.", flush=True)
            self.exit_codes.append(1)
        except UserError as error:
            self.failures.append(error)
            if config and config.run_dir and Path(config.run_dir).exists():  # else nothing was written
                print(f"run folder: {shown_path(config.run_dir)}", file=sys.stderr)
        except OSError as error:
            found = as_disk_error(error)
            if found is None:
                raise
            self.failures.append(found)
        return None

    def _plan(self, config: Config) -> None:
        from cosmos_exp.experiment.dry_run import print_plan

        if missing := print_plan(config):
            self.failures.append(RunError(f"dry run: missing here: {', '.join(missing)}. The plan says how to get it."))

    def _isolated(self, config: Config) -> float | None:
        from cosmos_exp.experiment.launching import run_isolated

        succeeded = run_isolated(config)
        self.exit_codes.append(0 if succeeded else 1)
        print(f"run folder: {shown_path(config.run_dir)}", flush=True)
        return self.objective(config) if self.searching else None

    def objective(self, config: Config) -> float | None:
        """The objective of a run that has ended, for a sweeper that searches; None if it has none."""
        from cosmos_exp.experiment.objective import objective_value
        from cosmos_exp.run_folder import RunFolder

        try:
            value = objective_value(RunFolder(str(config.run_dir)), config.objective)
        except UserError as error:
            print(f"cosmos-exp: {error} The sweeper counts it as failed.", file=sys.stderr, flush=True)
            self.exit_codes.append(1)
            return None
        print(f"objective: {config.objective} {value:.5g}", flush=True)
        self.values.append(value)
        return value

    def end(self) -> int:
        """Say what to do next after several runs, and return the exit code.

        Raises:
            UserError: the first failure, or no run of a search has a value.
        """
        from cosmos_exp.sweep.slurm import wait_for_submitted

        if self.failures:
            raise self.failures[0]
        self.exit_codes.append(wait_for_submitted())
        if len(self.folders) > 1 or self.searching:
            sweep = self.folders[0].parent if self.folders else None
            _print_best(sweep)
            if sweep:
                print(f"next: cosmos-exp report {shown_path(str(sweep))}")
        return max(self.exit_codes)


def _say_unread(overrides: list[str], config: Config) -> None:
    """Name the overrides that change nothing. Of several runs some may read them, so there nothing is said."""
    from cosmos_exp.config.unread import unread_keys

    for line in unread_keys(overrides, config):
        print(f"note: {line}", file=sys.stderr, flush=True)


def _print_best(sweep: Path | None) -> None:
    """Print what Optuna found, from the file that it writes."""
    import yaml

    file = sweep / "optimization_results.yaml" if sweep else None
    if file and file.is_file():
        found = yaml.safe_load(file.read_text(encoding="utf-8"))
        best = ", ".join(f"{k}={v}" for k, v in found.get("best_params", {}).items())
        print(f"best: {best} ({found.get('best_value'):.5g})" if best else f"results: {file}")


def shown_path(run_dir: str | None) -> str:
    """A run folder as the user would type it."""
    path = Path(str(run_dir))
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
