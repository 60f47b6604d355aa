"""Runs in processes of their own: the N processes of one run, through torch elastic, and the isolated runs of a sweep.

A sweep isolates its runs because Hydra, wandb and CUDA leak memory from run to run in one process (hydra #2631,
wandb #7019), and because a crash must not end the sweep.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cosmos_exp.config.record import save_config
from cosmos_exp.config.schema import Config, Hardware
from cosmos_exp.errors import DamagedError, DiskError, Interrupted, RunError, UserError
from cosmos_exp.experiment.fork_server import empty_main, exit_with, request, start, start_method, start_server
from cosmos_exp.experiment.machines import this_machine
from cosmos_exp.provenance import available_cores, variables
from cosmos_exp.run_folder import RunFolder
from cosmos_exp.text import printable, redact

if TYPE_CHECKING:
    from torch.distributed.launcher.api import LaunchConfig

# Variables that a launcher sets in each process that it starts. All of them are needed to form a group.
LAUNCHER = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
ISOLATED = "cosmos_exp.experiment.launching:isolated_run"
ONE_OF_SEVERAL = "cosmos_exp.experiment.launching:one_of_several"
LOG_TO_FILE = "COSMOS_EXP_LOG_TO_FILE"  # set by a sweep, whose terminal shows a table instead
SECONDS_TO_STOP = 600  # for a checkpoint after a request to stop; then SIGKILL
SECONDS_FOR_THE_CAUSE = 10.0  # a process that lost another waits: the launcher then sees the one that ended first


def launched(expected: int) -> bool:
    """Whether `torchrun` or `accelerate launch` started this process as one of `expected` processes.

    Processes of another rank than 0 print nothing to stdout from now on.

    Raises:
        UserError: the launcher started another number of processes, or a shell has left some of its variables.
    """
    here = {name: os.environ[name] for name in LAUNCHER[:3] if name in os.environ}
    if not here:
        return False
    if len(here) < 3 or not all(os.environ.get(name) for name in LAUNCHER):
        words = ", ".join(f"{name}={value}" for name, value in here.items())
        raise UserError(
            f"{words}: set in the environment, but no launcher started this process. Remove with `unset {' '.join(here)}`."
        )
    is_main = here["RANK"] == "0"
    if int(here["WORLD_SIZE"]) != expected:
        if not is_main:  # one error is enough
            raise SystemExit(UserError.exit_code)
        raise UserError(
            f"the launcher started {here['WORLD_SIZE']} processes, but hardware.num_processes times hardware.num_machines is "
            f"{expected}. Set hardware.num_processes to the launcher's processes per machine."
        )
    if not is_main:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  # until the process ends
    return True


def launch(config: Config) -> None:
    """Run in `hardware.num_processes` processes on this machine and wait for them. Several machines do so together.

    torch elastic starts them from the fork server. When one fails it ends the others; SIGTERM and Ctrl-C go to all.

    Raises:
        Interrupted: the run was asked to stop and can be resumed.
        RunError: a process failed.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import elastic_launch

    folder, hardware = RunFolder(str(config.run_dir)), config.hardware
    folder.path.mkdir(parents=True, exist_ok=True)
    threads = hardware.num_threads or max(1, available_cores() // hardware.num_processes)
    start_server()
    try:
        with variables({"OMP_NUM_THREADS": str(threads)}), _own_signals(), _quiet(), empty_main():
            asked = request(ONE_OF_SEVERAL, (config,))
            for name in LAUNCHER:
                asked.environment.pop(name, None)  # torch elastic sets those of each process
            elastic_launch(_elastic_settings(hardware), exit_with)(asked)
        return
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        ended = how_it_ended(failure.exitcode)
        if failure.exitcode < 0:  # it could not record this itself; the others recorded that they lost it
            resume = f"Resume with `cosmos-exp run run_dir={folder.path}`."
            words = f"process {rank + 1} of {hardware.all_processes} {ended}\n{resume}"
            folder.set_status("failed", str(folder.status.get("stage", "prepare")), words)
    except SignalException as error:
        ended = f"stopped by {error.sigval.name}"
        if folder.status.get("state") not in ("done", "interrupted") and not folder.is_locked():
            folder.set_status("interrupted", str(folder.status.get("stage", "prepare")), ended)
    if folder.status.get("state") == "done":
        return
    folder.record_failure(f"a process {ended}")
    words = str(folder.status.get("error") or ended)
    raise Interrupted(words) if folder.status.get("state") == "interrupted" else RunError(words)


def _elastic_settings(hardware: Hardware) -> LaunchConfig:
    from torch.distributed.launcher.api import LaunchConfig

    machines = hardware.num_machines
    settings: dict[str, Any] = {}
    backend, endpoint = "c10d", "localhost:0"  # a free port
    if machines > 1:
        rank, endpoint = this_machine(machines)
        backend, settings = "static", {"rank": rank}
    return LaunchConfig(
        min_nodes=machines,
        max_nodes=machines,
        nproc_per_node=hardware.num_processes,
        run_id="cosmos-exp",
        rdzv_backend=backend,
        rdzv_endpoint=endpoint,
        rdzv_configs=settings,
        max_restarts=0,
        start_method=start_method(),
        shutdown_timeout=SECONDS_TO_STOP,
    )


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Restore the handlers that torch elastic replaces."""
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT)
    before = [signal.getsignal(number) for number in numbers]
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):  # not the main thread: none was replaced
            for number, handler in zip(numbers, before, strict=True):
                signal.signal(number, handler)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Without torch elastic's many lines about a process that ended: status.json and our error say it in one."""
    logger = logging.getLogger("torch.distributed.elastic")
    handler, before = logging.NullHandler(), logger.propagate
    logger.addHandler(handler)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.propagate = before


def one_of_several(config: Config) -> int:
    """What each process of `launch` does. Returns its exit code; the launching process says how the run ended."""
    from cosmos_exp.distributed import PeerLost
    from cosmos_exp.experiment.run import run_stages

    try:
        run_stages(config)
    except PeerLost:
        time.sleep(SECONDS_FOR_THE_CAUSE)
        return 1
    except (Interrupted, KeyboardInterrupt):
        return 1
    except UserError as error:
        return _recorded(error, config)
    except Exception:
        print(redact(traceback.format_exc()), file=sys.stderr, flush=True)
        return 1
    return 0


def run_isolated(config: Config, stop: Callable[[], bool] | None = None) -> bool:
    """Run a configuration in a process of its own. Returns whether it succeeded; status.json says how it ended.

    Args:
        stop: asked again and again; once it holds, the run writes a checkpoint and ends.
    """
    folder = RunFolder(str(config.run_dir))
    folder.path.mkdir(parents=True, exist_ok=True)
    log = folder.log if os.environ.get(LOG_TO_FILE) else None
    child = start(ISOLATED, (config,), log=log)
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
        folder.record_failure((code > 0 and log and last_lines(log)) or f"the process {how_it_ended(code)}")
        if not folder.config.is_file():  # the report shows failed runs too
            save_config(config, folder.config)
    return code == 0


def isolated_run(config: Config) -> int:
    """What the process of `run_isolated` does. Returns the exit code; status.json has the reason."""
    from cosmos_exp.experiment.run import run
    from cosmos_exp.report.tables import print_runs

    folder = RunFolder(str(config.run_dir))
    try:
        run(config)
    except (Interrupted, KeyboardInterrupt) as error:
        print(f"interrupted: {error}\nResume with `cosmos-exp run run_dir={folder.path}`.", flush=True)
        return 1
    except UserError as error:
        print(f"cosmos-exp: {redact(printable(error))}", file=sys.stderr)
        return _recorded(error, config)
    except Exception:
        print(redact(traceback.format_exc()), file=sys.stderr, flush=True)
        return 1
    print_runs([folder])
    return 0


def _recorded(error: UserError, config: Config) -> int:
    """Record a failure unless the run has. Returns the exit code."""
    with contextlib.suppress(DiskError, DamagedError):
        RunFolder(str(config.run_dir)).record_failure(str(error))
    return error.exit_code


def how_it_ended(code: int) -> str:
    """An exit code in words: `was killed by SIGKILL (out of memory?)`."""
    if code >= 0:
        return f"ended with code {code}"
    number = -code
    name = signal.Signals(number).name if number in set(signal.Signals) else f"signal {number}"
    return f"was killed by {name}" + (" (out of memory?)" if name == "SIGKILL" else "")


def last_lines(log: Path) -> str:
    """The last three lines of a log; empty without one."""
    return " ".join(log.read_text(errors="replace").strip().splitlines()[-3:]) if log.is_file() else ""
