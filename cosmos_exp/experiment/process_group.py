"""The processes of one run: started together, each with its rank, and ended together."""

from __future__ import annotations

import contextlib
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

from cosmos_exp.experiment.child import Child
from cosmos_exp.experiment.fork_server import start

RENDEZVOUS = "COSMOS_EXP_RENDEZVOUS"
"""Environment variable that `distributed.Processes` reads. Not imported from there: that would import torch here."""

LOST = 3
"""Exit code of a process that ended because another one of its group had ended."""

_SECONDS_BETWEEN_POLLS = 0.05


@contextlib.contextmanager
def ranks(count: int) -> Iterator[list[dict[str, str]]]:
    """The environment variables of `count` processes that join one process group.

    They meet at a file, which is removed at the end: a TCP port that is chosen before the processes start may be taken
    when they do.
    """
    with tempfile.TemporaryDirectory(prefix="cosmos_exp_", ignore_cleanup_errors=True) as folder:
        size = str(count)
        common = {"WORLD_SIZE": size, "LOCAL_WORLD_SIZE": size, RENDEZVOUS: (Path(folder) / "rendezvous").as_uri()}
        yield [common | {"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]


@dataclass(frozen=True)
class Ended:
    """How the processes of a group ended.

    codes: exit codes by rank, as `Child.poll` returns them.
    first: rank of the process that failed first, before any was asked to end; None if none did.
    """

    codes: list[int]
    first: int | None = None


def run_several(
    function: str,
    arg_tuples: Sequence[tuple[Any, ...]],
    environments: Sequence[Mapping[str, str]] | None = None,
    *,
    log: Path | None = None,
    cwd: Path | None = None,
    grace: float = 20.0,
    stop: Callable[[], bool] | None = None,
) -> Ended:
    """Start one process per tuple of arguments as the ranks of one process group, and wait until all have ended.

    When one fails, the others get SIGTERM, and SIGKILL `grace` seconds later. Ctrl-C and SIGTERM to this process are
    passed to the processes as one SIGTERM, after which they may take the time they need to write a checkpoint; a second
    Ctrl-C kills them and raises KeyboardInterrupt.

    Args:
        environments: one mapping per process: variables in addition to this process's and the rank's.
        stop: asked again and again; once it holds, the processes get SIGTERM as by a signal to this process.
    """
    children: list[Child] = []
    own = environments or [{}] * len(arg_tuples)
    with ranks(len(arg_tuples)) as by_rank, _signals() as received:
        try:
            for args, rank, further in zip(arg_tuples, by_rank, own, strict=True):
                # A session of its own, so that the terminal's Ctrl-C reaches each process once: through this one.
                environment = {**rank, **further}
                children.append(start(function, args, environment=environment, log=log, cwd=cwd, new_session=True))
            return _wait_for_all(children, received, grace, stop)
        except BaseException:
            for child in children:
                child.kill()
            for child in children:
                child.wait()
            raise


def _wait_for_all(
    children: Sequence[Child], received: list[int], grace: float, stop: Callable[[], bool] | None = None
) -> Ended:
    passed_on = False
    first: int | None = None
    kill_at: float | None = None
    while None in (codes := [child.poll() for child in children]):
        if (received or (stop and stop())) and not passed_on:
            passed_on = True
            _terminate(children)
        elif any(codes) and not passed_on and kill_at is None:
            first = _first_to_fail(codes)
            kill_at = time.monotonic() + grace
            _terminate(children)
        elif kill_at is not None and time.monotonic() > kill_at:
            for child in children:
                child.kill()
        time.sleep(_SECONDS_BETWEEN_POLLS)
    if not passed_on and (first is None or codes[first] == LOST):  # the cause may be known after its effect
        ours = {-signal.SIGTERM, -signal.SIGKILL} if kill_at and time.monotonic() > kill_at else {-signal.SIGTERM}
        first = _first_to_fail([0 if code in ours and first is not None else code for code in codes])
    return Ended([code for code in codes if code is not None], first)


def _first_to_fail(codes: Sequence[int | None]) -> int | None:
    """The rank of the process that failed by itself.

    Several may have ended between two polls: a signal comes first, then any code but that of a process that lost another.
    """
    failed = [rank for rank, code in enumerate(codes) if code]
    return min(failed, key=lambda rank: ((codes[rank] or 0) > 0, codes[rank] == LOST, rank), default=None)


def _terminate(children: Sequence[Child]) -> None:
    for child in children:
        child.terminate()


@contextlib.contextmanager
def _signals() -> Iterator[list[int]]:
    """Collect SIGINT and SIGTERM instead of acting on them; the second SIGINT raises KeyboardInterrupt."""
    received: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        if number == signal.SIGINT and signal.SIGINT in received:
            raise KeyboardInterrupt
        received.append(number)

    if threading.current_thread() is not threading.main_thread():  # Python runs handlers in the main thread only
        yield received
        return
    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
