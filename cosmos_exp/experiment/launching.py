"""Runs in processes of their own: the processes of one run, and the isolated runs of a sweep.

A sweep isolates its runs because Hydra, wandb and CUDA leak memory from run to run in one process (hydra #2631,
wandb #7019), and because a crash must not end the sweep.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

from cosmos_exp.config.record import save_config
from cosmos_exp.config.schema import Config
from cosmos_exp.errors import Interrupted, RunError, UserError
from cosmos_exp.experiment.fork_server import start
from cosmos_exp.experiment.machines import this_machine
from cosmos_exp.experiment.process_group import run_several
from cosmos_exp.provenance import available_cores
from cosmos_exp.run_folder import RunFolder

WORK = "cosmos_exp.experiment.worker:work"  # by name: worker imports run, and run imports this module
LOG_TO_FILE = "COSMOS_EXP_LOG_TO_FILE"  # set by a sweep, whose terminal shows a table instead


def launch(config: Config, log: Path | None = None, stop: Callable[[], bool] | None = None) -> None:
    """Run in `hardware.num_processes` processes on this machine and wait for them. Several machines do so together.

    Args:
        log: file for the processes' output; None: this terminal.
        stop: asked again and again; once it holds, the processes are asked to stop.

    Raises:
        Interrupted: the run was asked to stop and can be resumed.
        RunError: a process failed.
    """
    folder = RunFolder(str(config.run_dir))
    folder.path.mkdir(parents=True, exist_ok=True)
    hardware, count = config.hardware, config.hardware.num_processes
    threads = str(hardware.num_threads or max(1, available_cores() // count))
    own = [{"OMP_NUM_THREADS": threads} for _ in range(count)]
    if hardware.num_machines > 1:
        machine = this_machine(hardware)
        own = [machine.variables(hardware, rank) | v for rank, v in enumerate(own)]
    ended = run_several(WORK, [(config,)] * count, own, log=log, stop=stop)
    if not any(ended.codes):
        return
    if ended.first is not None and ended.codes[ended.first] < 0:
        _record_killed(folder, f"process {ended.first + 1} of {count} {_killed(ended.codes[ended.first])}")
    folder.record_failure(how_it_ended(next(c for c in ended.codes if c), log))
    error = str(folder.status.get("error"))
    raise Interrupted(error) if folder.status.get("state") == "interrupted" else RunError(error)


def _record_killed(folder: RunFolder, words: str) -> None:
    """Record what ended the run in place of what the other processes saw of it."""
    if not folder.is_locked():
        resume = f"Resume with `cosmos-exp run run_dir={folder.path}`."
        folder.set_status("failed", str(folder.status.get("stage", "prepare")), f"{words}\n{resume}")


def _killed(code: int) -> str:
    """`was killed by SIGKILL`, for an exit code below 0."""
    number = -code
    name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
    return f"was killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")


def run_isolated(config: Config, stop: Callable[[], bool] | None = None) -> bool:
    """Run a configuration in processes of its own. Returns whether it succeeded; status.json says how it ended.

    Args:
        stop: asked again and again; once it holds, the run writes a checkpoint and ends.
    """
    folder = RunFolder(str(config.run_dir))
    folder.path.mkdir(parents=True, exist_ok=True)
    log = folder.log if os.environ.get(LOG_TO_FILE) else None
    if config.hardware.num_processes > 1:
        succeeded = _launch_isolated(config, folder, log, stop)
    else:
        succeeded = _start_isolated(config, folder, log, stop)
    if not succeeded and not folder.config.is_file():  # the report shows failed runs too
        save_config(config, folder.config)
    return succeeded


def _start_isolated(config: Config, folder: RunFolder, log: Path | None, stop: Callable[[], bool] | None) -> bool:
    child = start(WORK, (config,), log=log)
    try:
        while (code := child.wait(None if stop is None else 1.0)) is None:
            if stop and stop():
                child.terminate()
                stop = None
    except KeyboardInterrupt:  # the child writes a checkpoint first
        child.terminate()
        child.wait()
        raise
    if code:
        folder.record_failure(how_it_ended(code, log))
    return not code


def _launch_isolated(config: Config, folder: RunFolder, log: Path | None, stop: Callable[[], bool] | None) -> bool:
    """Several processes start from this process's fork server: a child's own server would import everything again."""
    from cosmos_exp.experiment.checks import check_inputs

    try:
        check_inputs(config)
        launch(config, log, stop)
    except UserError as error:
        folder.record_failure(str(error))
        return False
    return True


def how_it_ended(code: int, log: Path | None) -> str:
    """An exit code in words, with the last lines of the log."""
    if code < 0:
        return f"the process {_killed(code)}"
    last = log.read_text(errors="replace").strip().splitlines()[-3:] if log and log.is_file() else []
    return " ".join(last) or f"the process ended with code {code}"
