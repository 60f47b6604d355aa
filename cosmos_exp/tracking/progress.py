"""How far a stage is: a bar that fits the terminal, or without a terminal a line every half minute."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from tqdm import tqdm

Item = TypeVar("Item")

SECONDS_BETWEEN_LINES = 30.0
RUNNING = "{desc} {unit} {n_fmt}/{total_fmt} |{bar}| {remaining} left{postfix}"
ENDED = "{desc} {unit} {n_fmt}/{total_fmt} in {elapsed}{postfix}"


class Progress:
    """The progress of one stage on stderr: stage, step, time left, and a note such as the loss.

    Of the processes of a run, which a launcher numbers by RANK, the first shows its own for all.

    Args:
        stage: what is done: "training".
        unit: what is counted: "step".
        done: steps that an earlier process did.
        keep: whether the line of the finished stage stays on the terminal.
    """

    def __init__(self, stage: str, total: int, unit: str, done: int = 0, keep: bool = True):
        terminal, show = sys.stderr.isatty(), total > done and os.environ.get("RANK", "0") == "0"
        self.stage, self.total, self.unit, self.done = stage, total, unit, done
        self.began, self.first = time.monotonic(), done
        self.next_line = self.began + SECONDS_BETWEEN_LINES if show and not terminal else None
        self.bar = tqdm(
            total=total,
            initial=done,
            desc=stage,
            unit=unit,
            bar_format=RUNNING,
            disable=not (show and terminal),
            dynamic_ncols=True,
            leave=keep,
        )

    def update(self, note: str = "") -> None:
        """Count one step."""
        self.done += 1
        if note:
            self.bar.set_postfix_str(note, refresh=False)
        self.bar.update()
        now = time.monotonic()
        if self.next_line is not None and now >= self.next_line and self.done < self.total:
            self.next_line = now + SECONDS_BETWEEN_LINES
            per_step = (now - self.began) / (self.done - self.first)
            words = f"{tqdm.format_interval(per_step * (self.total - self.done))} left"
            if note:
                words += f", {note}"
            print(f"{self.stage} {self.unit} {self.done}/{self.total}, {words}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """End the bar."""
        self.bar.bar_format = ENDED
        self.bar.close()


def progress(stage: str, total: int, unit: str, done: int = 0, keep: bool = True) -> contextlib.closing[Progress]:
    """`Progress` while a block runs."""
    return contextlib.closing(Progress(stage, total, unit, done, keep))


def with_progress(items: Iterable[Item], stage: str, total: int, unit: str, keep: bool = True) -> Iterator[Item]:
    """The items, with a progress that advances when the next one is asked for."""
    with progress(stage, total, unit, 0, keep) as bar:
        for item in items:
            yield item
            bar.update()
