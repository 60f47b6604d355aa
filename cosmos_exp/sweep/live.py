"""A sweep on the terminal: one row per run, live; without a terminal, one line whenever a run starts or ends."""

from __future__ import annotations

import contextlib
import datetime
import json
import sys
import threading
from collections.abc import Iterator

from rich.console import Console
from rich.live import Live
from rich.table import Table
from rich.text import Text

from cosmos_exp.files import JsonObject
from cosmos_exp.run_folder import RunFolder
from cosmos_exp.sweep.runs import SweepRun
from cosmos_exp.sweep.slurm import live_job
from cosmos_exp.text import printable
from cosmos_exp.training.plan import sample_order

COLORS = {
    "done": "green",
    "failed": "red",
    "running": "cyan",
    "interrupted": "yellow",
    "queued": "blue",
    "missing": "dim",
}
WIDTH = 120  # columns when the output is not a terminal
TAIL = 4096  # bytes; longer than any row of a training log


def last_row(folder: RunFolder) -> JsonObject:
    """The newest complete row of a run's training log; empty if there is none."""
    try:
        with open(folder.train_log, "rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - TAIL))
            text = file.read()
        for line in reversed(text.split(b"\n")):
            if line.startswith(b"{") and line.endswith(b"}"):
                return dict(json.loads(line))
    except (OSError, ValueError):
        pass
    return {}


def progress(run: SweepRun, state: str) -> tuple[str, str, str, str]:
    """Stage, step of steps, loss, and time left in training, as text."""
    stage, row = str(run.folder.status.get("stage", "")), last_row(run.folder)
    if state == "queued" and (job := live_job(run.folder)):
        stage = f"job {job.id}: {job.reason}"
    videos = len(run.folder.manifest.get("data", {}).get("train", []))
    if not row or not videos:
        return stage, "", "", ""
    total = sample_order(videos, run.config.training, run.config.seed).num_steps
    left = ""
    if stage == "train" and state == "running":
        left = str(datetime.timedelta(seconds=round((total - row["step"]) * row["seconds"])))
    return stage, f"{row['step']}/{total}", f"{row['loss']:.4f}", left


def states_table(runs: list[SweepRun]) -> Table:
    """The states of all runs now."""
    table = Table(title=Text(printable(runs[0].config.name)))  # a name is never markup
    table.add_column("run", overflow="fold")  # a long name takes several lines; nothing is cut
    for head in ("state", "stage", "step", "loss", "training left"):
        table.add_column(head, no_wrap=True)
    for run in runs:
        state = run.state()
        cells = [Text(printable(cell)) for cell in progress(run, state)]
        table.add_row(Text(printable(run.name)), Text(state, COLORS.get(state, "white")), *cells)
    return table


def print_states(runs: list[SweepRun]) -> None:
    """Print the states once."""
    _console().print(states_table(runs))


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else WIDTH)


@contextlib.contextmanager
def watch(runs: list[SweepRun], seconds: float = 1.0) -> Iterator[None]:
    """Show the sweep while the block runs, updated every `seconds`."""
    stop, console = threading.Event(), _console()
    follow = _live if console.is_terminal else _lines
    thread = threading.Thread(target=follow, args=(runs, stop, console, seconds), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=10)


def _live(runs: list[SweepRun], stop: threading.Event, console: Console, seconds: float) -> None:
    with Live(states_table(runs), console=console, auto_refresh=False) as live:
        while not stop.wait(seconds):
            live.update(states_table(runs), refresh=True)
        live.update(states_table(runs), refresh=True)


def _lines(runs: list[SweepRun], stop: threading.Event, console: Console, seconds: float) -> None:
    printed = {r.name: r.state() for r in runs}
    ended = False
    while not ended:
        ended = stop.wait(seconds)
        for run in runs:
            state = run.state()
            if state != printed[run.name]:
                printed[run.name] = state
                console.print(f"{run.name}: {state}", highlight=False, markup=False)
