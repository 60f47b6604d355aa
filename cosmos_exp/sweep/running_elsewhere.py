"""Runs of a sweep that another process still holds: of a sweep that was just killed, they end within a minute and are resumed."""

from __future__ import annotations

import time
from collections.abc import Callable

from cosmos_exp.experiment.fork_server import SECONDS_TO_CHECKPOINT
from cosmos_exp.sweep.expanding import TAKEN, SweepRun
from cosmos_exp.sweep.slurm_queue import live_job

PATIENCE = SECONDS_TO_CHECKPOINT + 15.0  # a run whose sweep was killed gets SIGTERM, writes a checkpoint, then SIGKILL
Start = Callable[[list[SweepRun], list[SweepRun]], None]


def run_unfinished(runs_of: Callable[[], list[SweepRun]], start: Start) -> None:
    """Start each run once that is missing, failed or interrupted, also one that another process gives up within PATIENCE.

    A run that another process holds for longer belongs to a sweep that is still at work: it is left alone.

    Args:
        runs_of: The runs as they are now.
        start: Runs the missing ones (second argument) of all runs.
    """
    tried = _start_missing(runs_of(), start, set())
    runs = runs_of()
    held = [r for r in runs if r.state() == "running"]
    if held and not any(r.config.fail_fast and r.state() == "failed" for r in runs):
        names = ", ".join(r.name for r in held)
        print(f"{names}: held by another process, e.g. of a sweep that was killed; waiting up to {PATIENCE:.0f} s")
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline and any(r.state() == "running" for r in held):
            time.sleep(0.2)
        _start_missing(runs_of(), start, tried - {r.name for r in held})


def _start_missing(runs: list[SweepRun], start: Start, tried: set[str]) -> set[str]:
    """Start what is missing but for the runs that were tried; returns all that were."""
    missing = [r for r in runs if r.name not in tried and r.state() not in TAKEN]
    if missing or any(live_job(r.folder) for r in runs):  # it also waits for Slurm jobs
        start(runs, missing)
    return tried | {r.name for r in missing}
