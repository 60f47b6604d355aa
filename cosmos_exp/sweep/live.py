"""A sweep on the terminal: one row per run, live; without a terminal, one line whenever a run starts or ends."""

from __future__ import annotations

import contextlib
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

COLORS = {"done": "green", "failed": "red", "running": "cyan", "interrupted": "yellow", "queued": "blue"}
WIDTH = 120  # columns when the output is not a terminal
TAIL = 4096  # bytes; longer than any row of a training log


def last_row(folder: RunFolder) -> JsonObject:
    """The newest complete row of a run's training log; empty if there is none."""
    if not folder.train_log.is_file():
        return {}
    with open(folder.train_log, "rb") as file:
        file.seek(max(0, folder.train_log.stat().st_size - TAIL))
        lines = file.read().split(b"\n")[:-1]  # without a last line that is being written
    return dict(json.loads(lines[-1])) if lines else {}


def states_table(runs: list[SweepRun]) -> Table:
    """The states of all runs now, with the stage, the step and the loss of each."""
    table = Table(title=Text(printable(runs[0].config.name)))  # a name is never markup
    table.add_column("run", overflow="fold")  # a long name takes several lines; nothing is cut
    for head in ("state", "stage", "step", "loss"):
        table.add_column(head, no_wrap=True)
    for run in runs:
        state, stage, row = run.state(), str(run.folder.status.get("stage", "")), last_row(run.folder)
        job = live_job(run.folder)
        if job and state == "queued":
            stage = f"job {job.id}: {job.reason}"
        cells = [Text(printable(run.name)), Text(state, COLORS.get(state, "white")), Text(printable(stage))]
        videos = len(run.folder.manifest.get("data", {}).get("train", []))
        if row and videos:
            steps = sample_order(videos, run.config.training, run.config.seed).num_steps
            cells += [Text(f"{row['step']}/{steps}"), Text(f"{row['loss']:.4f}")]
        table.add_row(*cells)
    return table


def print_states(runs: list[SweepRun]) -> None:
    """Print the states once."""
    _console().print(states_table(runs))


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else WIDTH)


@contextlib.contextmanager
def watch(runs: list[SweepRun], seconds: float = 1.0) -> Iterator[None]:
    """Show the sweep while the block runs, updated every `seconds`."""
    console = _console()
    if console.is_terminal:
        with Live(console=console, get_renderable=lambda: states_table(runs), refresh_per_second=1 / seconds):
            yield
        return
    stop = threading.Event()
    thread = threading.Thread(target=_lines, args=(runs, stop, console, seconds), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=10)


def _lines(runs: list[SweepRun], stop: threading.Event, console: Console, seconds: float) -> None:
    printed = {run.name: run.state() for run in runs}
    ended = False
    while not ended:
        ended = stop.wait(seconds)
        for run in runs:
            state = run.state()
            if state != printed[run.name]:
                printed[run.name] = state
                console.print(f"{run.name}: {state}", highlight=False, markup=False)
