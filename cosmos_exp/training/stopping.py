"""A request to stop: SIGTERM or Ctrl-C."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from types import FrameType


class StopRequest:
    """`asked` is set by SIGTERM or the first Ctrl-C. A second Ctrl-C raises KeyboardInterrupt."""

    def __init__(self) -> None:
        self.asked = False

    @contextlib.contextmanager
    def listening(self) -> Iterator[StopRequest]:
        """Handle the signals while the block runs."""

        def ask(number: int, frame: FrameType | None) -> None:
            if self.asked and number == signal.SIGINT:
                raise KeyboardInterrupt
            self.asked = True

        try:
            old = {s: signal.signal(s, ask) for s in (signal.SIGTERM, signal.SIGINT)}
        except ValueError:  # not the main thread
            old = {}
        try:
            yield self
        finally:
            for number, handler in old.items():
                signal.signal(number, handler)
