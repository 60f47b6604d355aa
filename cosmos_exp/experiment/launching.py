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
from collections.abc import Callable
from pathlib import Path

from cosmos_exp.config.record import save_config
from cosmos_exp.config.schema import Config
from cosmos_exp.errors import DamagedError, DiskError, Interrupted, RunError, UserError
from cosmos_exp.experiment.fork_server import exit_with, request, start, start_method, start_server
from cosmos_exp.text import printable, redact

# Variables that `torchrun` and `accelerate launch` set in each process that they start.
LAUNCHER = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")
LOG_TO_FILE = "COSMOS_EXP_LOG_TO_FILE"  # set by a sweep, whose terminal has a line for each change instead
SECONDS_TO_STOP = 600  # for a checkpoint after a request to stop; then SIGKILL
SECONDS_FOR_THE_CAUSE = 10.0  # a process that lost another waits: the launcher then sees the one that ended first


def launched() -> bool:
    """Whether `torchrun` or `accelerate launch` started this process. Those of a rank above 0 print no more to stdout.

    Raises:
        UserError: a shell has left some of the launcher's variables.
    """
    left = [name for name in LAUNCHER[:3] if name in os.environ]
    if not left or os.environ.get("WORLD_SIZE") == "1":  # one process needs no launcher: a shell may have left this
        return False
    if not all(os.environ.get(name) for name in LAUNCHER):
        words = ", ".join(f"{name}={os.environ[name]}" for name in left)
        raise UserError(
            f"{words}: set in the environment, but no launcher started this process. Remove with `unset {' '.join(left)}`."
        )
    if os.environ["RANK"] != "0":
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115  # until the process ends
    return True


def launch(config: Config) -> None:
    """Run in `hardware.num_processes` processes on this machine and wait for them.

    torch elastic starts them from the fork server. When one fails it ends the others; SIGTERM and Ctrl-C go to all.

    Raises:
        Interrupted: the run was asked to stop and can be resumed.
        RunError: a process failed.
    """
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    from cosmos_exp.experiment.record import interruptible

    folder, count = config.folder, config.hardware.num_processes
    folder.path.mkdir(parents=True, exist_ok=True)
    logging.getLogger("torch.distributed.elastic").setLevel(logging.CRITICAL)  # our error says it in one line
    settings = LaunchConfig(1, 1, count, run_id="cosmos-exp", rdzv_backend="c10d", max_restarts=0)
    settings.rdzv_endpoint = "localhost:0"  # a free port
    settings.start_method, settings.shutdown_timeout = start_method(), SECONDS_TO_STOP
    start_server()
    asked = request("cosmos_exp.experiment.launching:run_in_child", (config, True))
    for name in LAUNCHER:
        asked[2].pop(name, None)  # torch elastic sets those of each process
    try:
        with interruptible():  # which restores the handlers that torch elastic replaces
            elastic_launch(settings, exit_with)(*asked)
        return
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        words = f"process {rank + 1} of {count} {how_it_ended(failure.exitcode)}"
        if failure.exitcode < 0:  # it could not record this itself; the others recorded that they lost it
            resume = f"Resume with `cosmos-exp run run_dir={folder.path}`."
            folder.set_status("failed", str(folder.status.get("stage", "prepare")), f"{words}\n{resume}")
        folder.record_failure(words)
    except SignalException as error:
        words = f"stopped by {error.sigval.name}"
    status = folder.status
    if status.get("state") == "failed":
        raise RunError(status["error"])
    if status.get("state") != "done":
        raise Interrupted(status.get("error") or words)


def run_isolated(config: Config, stop: Callable[[], bool] | None = None) -> bool:
    """Run a configuration in a process of its own. Returns whether it succeeded; status.json says how it ended.

    Args:
        stop: asked again and again; once it holds, the run writes a checkpoint and ends.
    """
    folder = config.folder
    folder.path.mkdir(parents=True, exist_ok=True)
    log = folder.log if os.environ.get(LOG_TO_FILE) else None
    child = start("cosmos_exp.experiment.launching:run_in_child", (config,), log=log)
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


def run_in_child(config: Config, one_of_several: bool = False) -> int:
    """What a process of `run_isolated` or `launch` does. Returns its exit code; status.json has the reason.

    Args:
        one_of_several: the launching process has checked the inputs, and says how the run ended.
    """
    from cosmos_exp.distributed import PeerLost
    from cosmos_exp.experiment.run import run, run_stages
    from cosmos_exp.report.tables import print_run

    folder = config.folder
    try:
        if one_of_several:
            run_stages(config)
        else:
            run(config)
            print_run(folder.path)
        return 0
    except PeerLost:
        time.sleep(SECONDS_FOR_THE_CAUSE)
    except (Interrupted, KeyboardInterrupt) as error:
        if not one_of_several:
            print(f"interrupted: {error}\nResume with `cosmos-exp run run_dir={folder.path}`.", flush=True)
    except UserError as error:
        if not one_of_several:
            print(f"cosmos-exp: {redact(printable(error))}", file=sys.stderr)
        with contextlib.suppress(DiskError, DamagedError):
            folder.record_failure(str(error))
        return error.exit_code
    except Exception:
        print(redact(traceback.format_exc()), file=sys.stderr, flush=True)
    return 1


def how_it_ended(code: int) -> str:
    """An exit code in words: `was killed by SIGKILL (out of memory?)`."""
    if code >= 0:
        return f"ended with code {code}"
    if code == -signal.SIGKILL:
        return "was killed by SIGKILL (out of memory?)"
    return f"was killed by signal {-code} ({signal.strsignal(-code)})"


def last_lines(log: Path) -> str:
    """The last three lines of a log; empty without one."""
    return " ".join(log.read_text(errors="replace").strip().splitlines()[-3:]) if log.is_file() else ""
