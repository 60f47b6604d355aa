"""Processes that start with torch and diffusers imported: children of a preloaded fork server.

The fork server is a process that imports `PRELOAD` once, touches no GPU, and forks a child for each request. A child
has the isolation of a fresh process, and of its start-up only the fork. Where fork is not available, or where
`COSMOS_EXP_START_METHOD=spawn` is set, each child is a fresh process.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import multiprocessing
import os
import pickle
import signal
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from cosmos_exp.errors import RunError, UserError
from cosmos_exp.experiment.child import LOCK, Child
from cosmos_exp.experiment.child_setup import Descriptor, Request, main
from cosmos_exp.provenance import variables

START_METHOD = "COSMOS_EXP_START_METHOD"
"""Environment variable: `forkserver` or `spawn`."""

PRELOAD = (
    "cosmos_exp.experiment.run",
    "cosmos_exp.experiment.launching",
    "cosmos_exp.tabletop.dataset",
    "cosmos_exp.tabletop.judge",
    "diffusers.schedulers.scheduling_unipc_multistep",
    "diffusers.training_utils",
    "av",
    "hydra",
)
"""Modules that the fork server imports, with all that they import: torch, diffusers, transformers, peft, cv2.

Not wandb: it makes a folder for media at import and removes it at exit, so the first child that ends takes it from all.

None of them may start a thread or touch CUDA: a forked process has no other threads, and cannot use CUDA then.
"""

# Libraries read these when they are imported. A child that has others than the server had is a fresh process.
_READ_AT_IMPORT = ("HF_", "TRANSFORMERS_", "DIFFUSERS_", "TORCH", "PYTORCH_", "PYTHONHASHSEED", "MKL_", "OPENBLAS_")
# torch sets this itself as it is imported, and reads it as it compiles.
_READ_LATER = {"TORCHINDUCTOR_CACHE_DIR"}

_ROOT = str(Path(__file__).parents[2])
_preload: tuple[str, ...] = PRELOAD
_server_environment: dict[str, str] = {}


def start_method() -> str:
    """Return `forkserver` where it is available and safe, else `spawn`, or what COSMOS_EXP_START_METHOD says.

    Raises:
        UserError: the variable names a method that is not available here.
    """
    available = [m for m in ("forkserver", "spawn") if m in multiprocessing.get_all_start_methods()]
    chosen = os.environ.get(START_METHOD) or (available[0] if _counts_gpus_without_cuda() else "spawn")
    if chosen not in available:
        raise UserError(f"{START_METHOD}={chosen}: not available here. Set it to one of: {', '.join(available)}.")
    return chosen


@functools.cache
def _counts_gpus_without_cuda() -> bool:
    """Whether importing diffusers, which asks torch for GPUs, leaves CUDA alone: torch asks NVML first, if it can."""
    if not os.path.exists("/dev/nvidiactl"):  # no GPU
        return True
    if os.environ.get("CUDA_VISIBLE_DEVICES", "").startswith("MIG-"):  # torch does not ask NVML for these
        return False
    try:
        ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return False
    return True


def start_server(preload: Sequence[str] | None = None) -> None:
    """Start the fork server unless it is running. Returns at once: the server imports while the caller continues.

    Args:
        preload: modules to import instead of `PRELOAD`, also when the server is started again after it died. A module
            that cannot be imported is left to the child, which reports the error.
    """
    global _preload
    if start_method() != "forkserver":
        return
    from multiprocessing import forkserver, resource_tracker

    with LOCK:
        before = server_pid()
        _preload = _preload if preload is None else tuple(preload)
        forkserver.set_forkserver_preload(list(_preload))
        resource_tracker.ensure_running()  # first, as it unblocks both signals at its end
        # A process inherits the signal mask. The server has to outlive Ctrl-C, and a scheduler's SIGTERM to all
        # processes, in order to report its children's exit codes. It ends when this process does.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        try:
            # torch.cuda.is_available(), which diffusers calls at import, then asks NVML and leaves CUDA alone.
            with _launching(PYTORCH_NVML_BASED_CUDA_CHECK="1", PYTHONPATH=os.pathsep.join(_sys_path())):
                forkserver.ensure_running()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if server_pid() != before:
            _server_environment.clear()
            _server_environment.update(os.environ)


def stop_server() -> None:
    """End the fork server. Children continue; the exit code of a running one becomes unknown (255)."""
    global _preload
    with LOCK:
        _preload = PRELOAD
        if server_pid() is not None:
            from multiprocessing import forkserver

            forkserver._forkserver._stop()  # type: ignore[attr-defined]  # private; there is no public way


def server_pid() -> int | None:
    """Return the process id of the fork server that was started last, or None."""
    if sys.platform == "win32":
        return None
    from multiprocessing import forkserver

    return getattr(forkserver._forkserver, "_forkserver_pid", None)


def start(
    function: str,
    args: tuple[Any, ...] = (),
    *,
    environment: Mapping[str, str] | None = None,
    log: Path | None = None,
    cwd: Path | None = None,
    die_with_parent: bool = True,
    new_session: bool = False,
) -> Child:
    """Start a process that calls a function and exits with the int it returns.

    An exception in it prints a traceback to stderr and gives exit code 1.

    Args:
        function: `package.module:function`, resolved in the child.
        args: picklable arguments.
        environment: variables in addition to those of this process.
        log: file that stdout and stderr are appended to instead of those of this process.
        cwd: current directory of the child instead of that of this process.
        die_with_parent: when this process ends, even by SIGKILL, the child gets SIGTERM, and SIGKILL 60 s later.
        new_session: the terminal's Ctrl-C does not reach the child.

    Raises:
        RunError: the fork server ended before it started the process.
    """
    full = {**os.environ, **(environment or {})}
    with LOCK:
        method = start_method()
        if method == "forkserver":
            start_server()
            method = method if _same_at_import(full) else "spawn"
        output = tuple(Descriptor(n) for n in (1, 2)) if method == "forkserver" else ()
        request = Request(
            function=function,
            arguments=pickle.dumps(args),
            environment=full,
            sys_path=_sys_path(),
            directory=os.path.abspath(cwd or os.getcwd()),
            output=output,
            log=os.path.abspath(log) if log else None,
            die_with_parent=die_with_parent,
            new_session=new_session,
        )
        context: Any = multiprocessing.get_context(method)  # Any: BaseContext has no Process for a type checker
        process = context.Process(target=main, args=(request,), daemon=die_with_parent)
        try:
            with _launching():
                process.start()
        except (EOFError, ConnectionError) as error:
            raise RunError(
                "the fork server ended before it started the process; its error is above. "
                f"Set {START_METHOD}=spawn to start processes without it."
            ) from error
        if not die_with_parent:  # at its exit this process waits for all that multiprocessing lists here
            multiprocessing.process._children.discard(process)  # type: ignore[attr-defined]
        return Child(process, method)


@contextlib.contextmanager
def _launching(**further: str) -> Iterator[None]:
    """Hide the main module, and the current directory, from processes that multiprocessing starts.

    A child would otherwise import this process's main module (the console script, pytest, the user's own script) to
    have the names that pickled objects may refer to. That takes seconds and runs code that is not meant for it. A
    request refers to modules by name only, so an empty main module is put in its place while a process starts.
    """
    hidden = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        with variables(further | {"PYTHONSAFEPATH": "1"}):  # python -c puts the current directory first without it
            yield
    finally:
        sys.modules["__main__"] = hidden


def _sys_path() -> list[str]:
    """The module search path without the current directory, and with this package."""
    paths = [os.path.abspath(p) for p in sys.path if p]
    return paths if _ROOT in paths else [*paths, _ROOT]


def _same_at_import(environment: Mapping[str, str]) -> bool:
    """Whether the modules in the fork server were imported under the variables that the child is given."""
    names = [n for n in {*environment, *_server_environment} - _READ_LATER if n.startswith(_READ_AT_IMPORT)]
    if "OMP_NUM_THREADS" not in environment:  # a given value is set in the child; a default cannot be
        names.append("OMP_NUM_THREADS")
    return all(environment.get(n) == _server_environment.get(n) for n in names)
