"""A sweep on the terminal: a line whenever a run starts, comes to its next stage or ends; and the states of all runs."""

from __future__ import annotations

import contextlib
import itertools
import os
import threading
from collections.abc import Callable, Iterator

import pandas as pd

from cosmos_exp.sweep.runs import SweepRun
from cosmos_exp.sweep.slurm import live_job
from cosmos_exp.text import printable

SECONDS = 1.0  # between two looks
IN_TURN = 8  # runs that are read each second although they have written nothing


def place_of(run: SweepRun) -> tuple[str, str]:
    """The state of a run, and its stage or the job that it waits for."""
    state = run.state()
    if state == "queued" and (job := live_job(run.folder)):
        return state, f"job {job.id}: {job.reason}"
    return state, str(run.folder.status.get("stage", ""))


def print_states(runs: list[SweepRun]) -> None:
    """Print the state and the stage of each run."""
    states = pd.DataFrame([(run.name, *place_of(run)) for run in runs], columns=["run", "state", "stage"])
    print(printable(states.to_string(index=False)))


@contextlib.contextmanager
def watch(report: Callable[..., None], *args: object) -> Iterator[None]:
    """Call report(*args, stop) in a thread while the block runs; the event `stop` is set at its end."""
    stop = threading.Event()
    thread = threading.Thread(target=report, args=(*args, stop), daemon=True)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join(timeout=10)


def print_changes(runs: list[SweepRun], stop: threading.Event) -> None:
    """Print a line whenever a run comes to another state or stage.

    A run is read again when its status or job was written; each in its turn, as a killed run writes nothing.
    """
    printed, written = dict[str, tuple[str, str]](), dict[str, list[int]]()
    for run in runs:
        printed[run.name], written[run.name] = place_of(run), _written(run)
    turns, ended = itertools.cycle(runs), False
    while not ended:
        ended = stop.wait(SECONDS)
        looked_at = list(itertools.islice(turns, len(runs) if ended else IN_TURN))
        for run in runs:
            if (times := _written(run)) != written[run.name]:
                written[run.name] = times
                looked_at.append(run)
        for run in looked_at:
            state, stage = place_of(run)
            if (state, stage) != printed[run.name]:
                printed[run.name] = state, stage
                done = sum(of_run[0] == "done" for of_run in printed.values())
                print(printable(f"[{done}/{len(runs)} done] {run.name}: {state} {stage}"), flush=True)


def _written(run: SweepRun) -> list[int]:
    """When the files that say the state of a run were written; nothing for one that is not there."""
    times = []
    for file in (run.folder.status_file, run.folder.job):
        with contextlib.suppress(OSError):
            times.append(os.stat(file).st_mtime_ns)
    return times
