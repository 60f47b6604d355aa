"""A study on the terminal: a row a run, live while it runs; without a terminal a line when a run starts or ends."""

from __future__ import annotations

import contextlib
import json
import sys
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.live import Live
from rich.table import Table

from cosmos_exp.run_folder import RunFolder

if TYPE_CHECKING:
    from cosmos_exp.sweep.planning import PlannedRun


COLORS = {"done": "green", "failed": "red", "running": "cyan", "interrupted": "yellow", "missing": "dim"}


def last_line(folder: RunFolder) -> dict[str, Any]:
    """The newest whole line of a run's training log; empty when there is none."""
    try:
        with open(folder.train_log, "rb") as file:
            file.seek(0, 2)
            file.seek(max(0, file.tell() - 4096))
            lines = [line for line in file.read().split(b"\n") if line.startswith(b"{") and line.endswith(b"}")]
        return json.loads(lines[-1]) if lines else {}
    except (OSError, ValueError):
        return {}


def progress(run: PlannedRun, state: str) -> tuple[str, str, str, str]:
    """Stage, step of steps, loss and time left in training, as text."""
    from cosmos_exp.training.schedule import step_plan

    status, row = run.folder.read(run.folder.status_file), last_line(run.folder)
    stage = status.get("stage", "")
    videos = len(run.folder.read(run.folder.manifest_file).get("data", {}).get("train", []))
    if not row or not videos:
        return stage, "", "", ""
    total = step_plan(videos, run.config.training, run.config.seed).num_steps
    left = ""
    if stage == "train" and state == "running":
        minutes, seconds = divmod(round((total - row["step"]) * row["seconds"]), 60)
        left = f"{minutes // 60}:{minutes % 60:02d}:{seconds:02d}"
    return stage, f"{row['step']}/{total}", f"{row['loss']:.4f}", left


def table(runs: list[PlannedRun]) -> Table:
    """The study as it stands."""
    out = Table("run", "state", "stage", "step", "loss", "training left", title=runs[0].folder.path.parent.name)
    for run in runs:
        state = run.state()
        out.add_row(run.name, f"[{COLORS.get(state, 'white')}]{state}", *progress(run, state))
    return out


def print_states(runs: list[PlannedRun]) -> None:
    """The table once."""
    Console(width=None if sys.stdout.isatty() else 120).print(table(runs))


@contextlib.contextmanager
def watch(runs: list[PlannedRun], every: float = 1.0) -> Iterator[None]:
    """Show the study while the block runs."""
    stop = threading.Event()
    console = Console(width=None if sys.stdout.isatty() else 120)
    follow = _live if console.is_terminal else _lines
    thread = threading.Thread(target=follow, args=(runs, stop, console, every), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=10)


def _live(runs: list[PlannedRun], stop: threading.Event, console: Console, every: float) -> None:
    with Live(table(runs), console=console, auto_refresh=False) as live:
        while not stop.wait(every):
            live.update(table(runs), refresh=True)
        live.update(table(runs), refresh=True)


def _lines(runs: list[PlannedRun], stop: threading.Event, console: Console, every: float) -> None:
    said = {r.name: r.state() for r in runs}
    ended = False
    while not ended:
        ended = stop.wait(every)
        for run in runs:
            state = run.state()
            if state != said[run.name]:
                said[run.name] = state
                console.print(f"{run.name}: {state}", highlight=False)
