"""The parent's handle of a process that `fork_server.start` started."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from multiprocessing.connection import wait
from typing import Any

import psutil

LOCK = threading.RLock()
"""Held while exit codes are read: two threads that read one child's at once would lose it, and `start` reads them all."""

_LOST = 255  # what multiprocessing reports when the fork server ended before it could report the exit code


class Child:
    """A started process."""

    def __init__(self, process: Any, method: str):  # Any: one of two process classes, without a common public base
        self._process = process
        self._method = method
        self._code: int | None = None
        self.pid: int = process.pid
        try:
            self._handle: psutil.Process | None = psutil.Process(process.pid)
        except psutil.NoSuchProcess:  # ended already
            self._handle = None

    def poll(self) -> int | None:
        """Return the exit code, minus the signal's number if a signal ended the process, or None if it is running.

        255 also means that the fork server ended first, so that the exit code is unknown.
        """
        with LOCK:
            if self._code is None:
                code = self._process.exitcode
                if code == _LOST and self._method == "forkserver" and self._is_running():
                    return None
                if code is not None:
                    self._process.join()  # multiprocessing forgets it
                self._code = code
            return self._code

    def wait(self, timeout: float | None = None) -> int | None:
        """Wait until the process ends, at most `timeout` seconds. Returns what `poll` returns."""
        end = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            left = 1.0 if end is None else end - time.monotonic()
            if left <= 0:
                break
            if wait([self._process.sentinel], min(left, 1.0)) and self.poll() is None:
                time.sleep(0.02)  # ends just now, or the fork server is gone
        return code

    def terminate(self) -> None:
        """Send SIGTERM if the process is running. A run writes a checkpoint and ends."""
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL if the process is running."""
        self._send(getattr(signal, "SIGKILL", signal.SIGTERM))

    def _send(self, number: int) -> None:
        if self.poll() is None and self._handle is not None:
            with contextlib.suppress(psutil.NoSuchProcess):  # psutil knows a reused pid from this process
                self._handle.send_signal(number)

    def _is_running(self) -> bool:
        try:
            return self._handle is not None and self._handle.is_running() and self._handle.status() != "zombie"
        except psutil.NoSuchProcess:
            return False
