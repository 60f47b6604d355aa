"""Processes that start with torch and diffusers imported: children of Python's own fork server, with preloaded modules.

The fork server is a process that imports `PRELOAD` once, touches no GPU, and forks a child for each request. A child
has the isolation of a fresh process, and of its start-up only the fork. A child uses the same server for its own children.
"""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import gc
import multiprocessing
import os
import pickle
import pkgutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from multiprocessing import forkserver, reduction, resource_tracker
from pathlib import Path
from types import ModuleType
from typing import Any

from cosmos_exp.config.registry import PRELOADED, load_plugins
from cosmos_exp.errors import RunError
from cosmos_exp.provenance import variables

PRELOAD = (
    "cosmos_exp.experiment.run",
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
"""Environment variable: `forkserver`, or `spawn` for fresh processes."""

SECONDS_TO_CHECKPOINT = 60.0
"""Seconds between SIGTERM and SIGKILL in a child whose parent ended."""

_LONGEST_FOLDER = 60  # characters; the path of a socket has at most 107, of which multiprocessing adds some 30
_ROOT = str(Path(__file__).parents[2])


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
    """Start the fork server unless it is running. Returns at once: the server imports while the caller continues.

    A child of the server uses the same one.
    """
    if start_method() != "forkserver" or forkserver.get_inherited_fds() is not None:
        return
    if preload is None:
        load_plugins()
        preload = (*PRELOAD, *PRELOADED)
    forkserver.set_forkserver_preload(list(preload))
    resource_tracker.ensure_running()  # first, as it unblocks both signals at its end
    paths = os.pathsep.join([*(path for path in sys.path if path), _ROOT])
    folder = tempfile.tempdir
    if len(tempfile.gettempdir()) > _LONGEST_FOLDER:
        tempfile.tempdir = "/tmp"  # of the server's socket
    # A process inherits the signal mask. The server has to outlive Ctrl-C, and a scheduler's SIGTERM to all processes, in
    # order to report its children's exit codes. It ends when this process and its children have.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
    try:
        with variables({"PYTORCH_NVML_BASED_CUDA_CHECK": "1", "PYTHONSAFEPATH": "1", "PYTHONPATH": paths}):
            forkserver.ensure_running()
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        tempfile.tempdir = folder


class Child:
    """A started process."""

    def __init__(self, process: Any):  # Any: one of two process classes, without a common public base
        self._process = process
        self.pid: int = process.pid

    def poll(self) -> int | None:
        """The exit code, minus the signal's number if a signal ended the process; None while it is running."""
        code: int | None = self._process.exitcode
        return code

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait until the process ends, at most `timeout` seconds. Returns what `poll` returns."""
        self._process.join(timeout)
        return self.poll()

    def terminate(self) -> None:
        """Send SIGTERM if the process is running. A run writes a checkpoint and ends."""
        self._process.terminate()

    def kill(self) -> None:
        """Send SIGKILL if the process is running."""
        self._process.kill()


def start(
    function: str,
    args: tuple[Any, ...] = (),
    *,
    environment: Mapping[str, str] | None = None,
    log: Path | None = None,
    cwd: Path | None = None,
) -> Child:
    """Start a process that calls a function and exits with the int it returns.

    An exception in it prints a traceback to stderr and gives exit code 1. When this process ends, even by SIGKILL, the
    child gets SIGTERM, and SIGKILL 60 s later. The terminal's Ctrl-C does not reach the child.

    Args:
        function: `package.module:function`, resolved in the child.
        args: picklable arguments.
        environment: variables in addition to those of this process.
        log: file that stdout and stderr are appended to instead of those of this process.
        cwd: current directory of the child instead of that of this process.

    Raises:
        RunError: the fork server ended before it started the process.
    """
    asked = request(function, args, environment=environment, log=log, cwd=cwd)
    start_server()
    context: Any = multiprocessing.get_context(start_method())  # Any: BaseContext has no Process for a type checker
    process = context.Process(target=exit_with, args=(asked,))
    try:
        with empty_main():
            process.start()
    except (EOFError, ConnectionError) as error:
        raise RunError(
            "the fork server ended before it started the process; its error is above. "
            f"Set {START_METHOD}=spawn to start processes without it."
        ) from error
    return Child(process)


@contextlib.contextmanager
def empty_main() -> Iterator[None]:
    """Hide the main module from processes that multiprocessing starts, which would import it: a notebook, pytest, a script."""
    hidden = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = hidden


class Descriptor:
    """An open file descriptor. Unpickled in a child of the fork server, it is the child's own duplicate."""

    def __init__(self, number: int):
        self.number = number

    def __reduce__(self) -> tuple[Any, ...]:
        return _received, (reduction.DupFd(self.number),)


def _received(duplicate: Any) -> Descriptor:  # Any: a class that multiprocessing keeps private
    return Descriptor(duplicate.detach())


@dataclass(frozen=True)
class Request:
    """What a child calls, and the surroundings it runs in: those of its parent now, not those of the server's start.

    Attributes:
        arguments: of the function, a pickled tuple. They are unpickled when everything else is set up.
        output: descriptors for stdout and stderr; empty to keep those that are open.
    """

    function: str
    arguments: bytes
    environment: dict[str, str]
    directory: str
    output: tuple[Descriptor, ...]
    log: str | None


def request(
    function: str,
    args: tuple[Any, ...],
    *,
    environment: Mapping[str, str] | None = None,
    log: Path | None = None,
    cwd: Path | None = None,
) -> Request:
    """A request with the surroundings of this process. The arguments are those of `start`."""
    output = (Descriptor(1), Descriptor(2)) if start_method() == "forkserver" else ()
    full = {**os.environ, **(environment or {})}
    folder = os.path.abspath(cwd or os.getcwd())
    return Request(function, pickle.dumps(args), full, folder, output, os.path.abspath(log) if log else None)


def exit_with(asked: Request) -> None:
    """Run a request and exit with its code. The target of a started process, and of each process of torch elastic."""
    _set_up(asked)
    code: int | str | None = 1
    try:
        code = pkgutil.resolve_name(asked.function)(*pickle.loads(asked.arguments))
    except SystemExit as leave:
        code = leave.code
    except KeyboardInterrupt:  # before the function has begun, or after it
        print("interrupted", file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    # A forked child leaves through os._exit, which skips them; wandb and temporary folders rely on them.
    atexit._run_exitfuncs()
    if code:
        sys.exit(code)


def _set_up(asked: Request) -> None:
    if forkserver.get_inherited_fds() is not None:  # a child of the server, which Python 3.11 would not use again
        forkserver._forkserver.ensure_running = lambda: None  # type: ignore[method-assign]  # in this child alone
    gc.freeze()  # what the fork server imported stays: collecting garbage need not visit its million objects each time
    os.setsid()  # Ctrl-C reaches the parent alone, which passes it on
    for number, descriptor in zip((1, 2), asked.output, strict=False):
        os.dup2(descriptor.number, number)
        os.close(descriptor.number)
    if asked.log:
        log = os.open(asked.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.close(log)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(line_buffering=True)  # a killed child has written what it printed
    for name in ("PYTHONPATH", "PYTHONSAFEPATH"):  # of the server
        os.environ.pop(name, None)
    os.environ.update(asked.environment)
    os.chdir(asked.directory)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})  # the server blocks both for itself
    threading.Thread(target=_end_with_parent, name="parent watch", daemon=True).start()


def _end_with_parent() -> None:
    """SIGTERM to this process when the parent has ended, then SIGKILL.

    The kernel's parent of a forked child is the fork server, so that PR_SET_PDEATHSIG does not serve here. multiprocessing
    watches a pipe whose write end only the parent holds.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(SECONDS_TO_CHECKPOINT)
    os.kill(os.getpid(), signal.SIGKILL)
