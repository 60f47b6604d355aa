"""Processes that start with torch and diffusers imported: children of Python's own fork server, with preloaded modules.

The fork server is a process that imports `PRELOAD` once, touches no GPU, and forks a child for each request. A child
has the isolation of a fresh process, and of its start-up only the fork. A child uses the same server for its own children.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import multiprocessing
import os
import pkgutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from multiprocessing import forkserver, resource_tracker
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from cosmos_exp.config.registry import PRELOADED, load_plugins
from cosmos_exp.provenance import variables

PRELOAD = (
    "cosmos_exp.experiment.checks",
    "cosmos_exp.experiment.prepare",
    "cosmos_exp.experiment.train",
    "cosmos_exp.experiment.generate",
    "cosmos_exp.experiment.evaluate",
    "diffusers.schedulers.scheduling_unipc_multistep",
    "diffusers.training_utils",
    "torch.distributed.launcher.api",
    "av",
    "hydra",
)
"""Modules that the fork server imports, with all that they import: torch, diffusers, transformers, peft, cv2.

Not wandb: it makes a folder for media at import and removes it at exit, so the first child that ends takes it from all.

`registry.PRELOADED` has those of plugins. None of them may start a thread or touch CUDA: a forked process has no other threads, and cannot use CUDA then.
"""

START_METHOD = "COSMOS_EXP_START_METHOD"
"""Environment variable: `forkserver` (the default), or `spawn` for fresh processes."""

SECONDS_TO_CHECKPOINT = 60.0
"""Seconds between SIGTERM and SIGKILL in a child whose parent ended."""


def start_method() -> str:
    """`forkserver`, or `spawn` where importing diffusers, which asks torch for GPUs, would touch CUDA.

    torch asks NVML for GPUs first, which leaves CUDA alone. It cannot where NVML is missing, or for a part of a GPU (MIG).
    """
    chosen = os.environ.get(START_METHOD)
    if chosen or not os.path.exists("/dev/nvidiactl"):
        return chosen or "forkserver"
    try:
        ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return "spawn"
    return "spawn" if os.environ.get("CUDA_VISIBLE_DEVICES", "").startswith("MIG-") else "forkserver"


def start_server(preload: Sequence[str] | None = None) -> None:
    """Start the fork server unless it is running. Returns at once: the server imports while the caller continues."""
    if start_method() != "forkserver" or forkserver.get_inherited_fds() is not None:
        return
    if preload is None:
        load_plugins()
        preload = (*PRELOAD, *PRELOADED)
    forkserver.set_forkserver_preload(list(preload))
    resource_tracker.ensure_running()  # first, as it unblocks both signals at its end
    folder, tempfile.tempdir = tempfile.tempdir, "/tmp"  # the path of the server's socket has at most 107 characters
    # A process inherits the signal mask. The server has to outlive Ctrl-C, and a scheduler's SIGTERM to all processes, in
    # order to report its children's exit codes. It ends when this process and its children have.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        paths = os.pathsep.join([*filter(None, sys.path), str(Path(__file__).parents[2])])
        with variables({"PYTORCH_NVML_BASED_CUDA_CHECK": "1", "PYTHONPATH": paths}):
            forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        tempfile.tempdir = folder


class Child:
    """A started process."""

    def __init__(self, process: BaseProcess):
        self._process = process
        self.pid, self.terminate, self.kill = process.pid, process.terminate, process.kill

    def poll(self) -> int | None:
        """The exit code, minus the signal's number if a signal ended the process; None while it is running."""
        return self._process.exitcode

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait until the process ends, at most `timeout` seconds. Returns what `poll` returns."""
        self._process.join(timeout)
        return self.poll()


def request(function: str, args: tuple[Any, ...], log: Path | None = None) -> tuple[Any, ...]:
    """What a child calls, and the surroundings it runs in: those of its parent now, not those of the server's start.

    The arguments are those of `start`.

    Returns:
        the arguments of `exit_with`. Pickled, the connections are the child's own duplicates of stdout and stderr.
    """
    if log:
        out = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        err = os.dup(out)
    else:
        out, err = os.dup(1), os.dup(2)
    return function, args, dict(os.environ), os.getcwd(), Connection(out), Connection(err)


def start(function: str, args: tuple[Any, ...] = (), log: Path | None = None) -> Child:
    """Start a process that calls a function and exits with the int it returns.

    An exception in it prints a traceback to stderr and gives exit code 1. When this process ends, even by SIGKILL, the
    child gets SIGTERM, and SIGKILL 60 s later. The terminal's Ctrl-C does not reach the child.

    Args:
        function: `package.module:function`, resolved in the child.
        args: picklable arguments.
        log: file that stdout and stderr are appended to instead of those of this process.
    """
    start_server()
    context: Any = multiprocessing.get_context(start_method())  # Any: BaseContext has no Process for a type checker
    process = context.Process(target=exit_with, args=request(function, args, log))
    process.start()
    return Child(process)


def exit_with(
    function: str, args: tuple[Any, ...], environment: dict[str, str], cwd: str, out: Connection, err: Connection
) -> None:
    """Call a function and exit with its code. The target of a started process, and of each process of torch elastic."""
    if forkserver.get_inherited_fds() is not None:  # a child of the server, which Python 3.11 would not use again
        forkserver._forkserver.ensure_running = lambda: None  # type: ignore[method-assign]  # in this child alone
    gc.freeze()  # what the fork server imported stays: collecting garbage need not visit its million objects each time
    os.setsid()  # Ctrl-C reaches the parent alone, which passes it on
    os.dup2(out.fileno(), 1)
    os.dup2(err.fileno(), 2)
    for text in (sys.stdout, sys.stderr):
        text.reconfigure(line_buffering=True)  # type: ignore[union-attr]  # a killed child has written what it printed
    os.environ.pop("PYTHONPATH", None)  # of the server
    os.environ.update(environment)
    os.chdir(cwd)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})  # the server blocks both for itself
    threading.Thread(target=_end_with_parent, name="parent watch", daemon=True).start()
    try:
        code = pkgutil.resolve_name(function)(*args)
    except KeyboardInterrupt:  # before the function has begun, or after it
        print("interrupted", file=sys.stderr)
        code = 1
    finally:  # a forked child leaves through os._exit, which skips them; wandb and temporary folders rely on them
        atexit._run_exitfuncs()
    if code:
        sys.exit(code)


def _end_with_parent() -> None:
    """SIGTERM to this process when the parent has ended, then SIGKILL.

    The kernel's parent of a forked child is the fork server, so that PR_SET_PDEATHSIG does not serve here. multiprocessing
    watches a pipe whose write end only the parent holds.
    """
    multiprocessing.parent_process().join()  # type: ignore[union-attr]  # this process is a child
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(SECONDS_TO_CHECKPOINT)
    os.kill(os.getpid(), signal.SIGKILL)
