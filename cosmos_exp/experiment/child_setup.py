"""The child's half of `fork_server`: set up a started process as a fresh one would be, then call the function."""

from __future__ import annotations

import atexit
import contextlib
import gc
import multiprocessing
import os
import pickle
import pkgutil
import signal
import sys
import threading
import time
import traceback
from dataclasses import dataclass
from multiprocessing import reduction
from typing import Any, NoReturn

SECONDS_TO_CHECKPOINT = 60.0
"""Seconds between SIGTERM and SIGKILL in a child whose parent ended."""


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
    """What a child runs, and the surroundings it runs in.

    Attributes:
        function: `package.module:function`.
        arguments: its arguments, a pickled tuple. They are unpickled when everything else is set up.
        environment: all environment variables of the child.
        sys_path: the parent's module search path, without the current directory.
        directory: the current directory.
        output: descriptors for stdout and stderr; empty to keep those that are open.
        log: file that stdout and stderr are appended to, or None.
        die_with_parent: end when the parent ends, however it ends.
        new_session: leave the terminal's process group, so that Ctrl-C does not reach the child.
    """

    function: str
    arguments: bytes
    environment: dict[str, str]
    sys_path: list[str]
    directory: str
    output: tuple[Descriptor, ...]
    log: str | None
    die_with_parent: bool
    new_session: bool


def main(request: Request) -> NoReturn:
    """Run the request and exit with its code. This is the target of the multiprocessing process."""
    _redirect(request)
    code: int | str | None = 1
    try:
        _set_up(request)
        code = pkgutil.resolve_name(request.function)(*pickle.loads(request.arguments))
    except SystemExit as leave:
        code = leave.code
    except KeyboardInterrupt:  # before the function has begun, or after it
        print("interrupted", file=sys.stderr)
    except BaseException:
        traceback.print_exc()
    # A forked child leaves through os._exit, which skips them; wandb and temporary folders rely on them.
    atexit._run_exitfuncs()
    sys.exit(code)


def _redirect(request: Request) -> None:
    """The fork server has the stdout and stderr that its parent had at the first start, not those of now."""
    for number, descriptor in zip((1, 2), request.output, strict=False):
        os.dup2(descriptor.number, number)
        os.close(descriptor.number)
    if request.log:
        log = os.open(request.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.close(log)
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(line_buffering=True)  # a killed child has written what it printed


def _set_up(request: Request) -> None:
    gc.freeze()  # what the fork server imported stays: collecting garbage need not visit its million objects each time
    os.environ.clear()
    os.environ.update(request.environment)
    sys.path[:] = request.sys_path
    os.chdir(request.directory)
    _leave_multiprocessing()
    if request.new_session and hasattr(os, "setsid"):
        os.setsid()
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if hasattr(signal, "pthread_sigmask"):  # the fork server blocks both for itself
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
    if request.die_with_parent:
        threading.Thread(target=_end_with_parent, name="parent watch", daemon=True).start()
    _as_if_just_imported(request.environment)


def _as_if_just_imported(environment: dict[str, str]) -> None:
    """Libraries draw a seed and read the number of threads at import, which was in the fork server."""
    torch, numpy_random = sys.modules.get("torch"), sys.modules.get("numpy.random")
    if numpy_random is not None:
        numpy_random.seed()
    if torch is None:
        return
    torch.default_generator.seed()  # of the CPU; torch.seed() would change the seed of CUDA, which is a constant
    threads = environment.get("OMP_NUM_THREADS", "").split(",")[0]
    if threads:
        torch.set_num_threads(int(threads))


def _leave_multiprocessing() -> None:
    """Make this process as independent of its parent's multiprocessing as one that a shell started."""
    multiprocessing.current_process().daemon = False  # it may start processes
    multiprocessing.set_start_method(None, force=True)  # the platform's default again
    if sys.platform == "win32":
        return
    from multiprocessing import forkserver, resource_tracker

    # Private names, as there are no public ones. The child inherits the write ends of two pipes: the fork server ends
    # when all holders of the first have closed it, the resource tracker when all holders of the second have. Held here,
    # both processes would outlive the parent when a child does.
    for owner, name in ((forkserver._forkserver, "_forkserver_alive_fd"), (resource_tracker._resource_tracker, "_fd")):
        descriptor = getattr(owner, name, None)
        if descriptor is not None:
            with contextlib.suppress(OSError):
                os.close(descriptor)
            setattr(owner, name, None)


def _end_with_parent() -> None:
    """SIGTERM to this process when the parent has ended, then SIGKILL.

    The sentinel is a pipe whose write end only the parent holds, so that SIGKILL of the parent closes it too.
    PR_SET_PDEATHSIG does not serve here: the kernel's parent of a forked child is the fork server.
    """
    parent = multiprocessing.parent_process()
    if parent is None:
        return
    parent.join()
    os.kill(os.getpid(), signal.SIGTERM)
    time.sleep(SECONDS_TO_CHECKPOINT)
    os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
