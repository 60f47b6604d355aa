"""The training logs: train_log.jsonl and validation_log.jsonl, their mirror on the dashboard, and the progress bar."""

from __future__ import annotations

import contextlib
from collections import deque
from collections.abc import Callable, Iterator, Mapping

from cosmos_exp.distributed import Processes
from cosmos_exp.files import JsonObject, append_json_line, write_json_lines
from cosmos_exp.run_folder import RunFolder
from cosmos_exp.run_folder.records import read_rows
from cosmos_exp.tracking.progress import Progress, progress
from cosmos_exp.training.figures import StepFigures
from cosmos_exp.training.sample_order import SampleOrder
from cosmos_exp.training.speed import SpeedMeter

Mirror = Callable[[str, Mapping[str, float], int], None]  # (kind of row, values, step), e.g. Tracker.log


class TrainingLog:
    """Writes a row per step as soon as its figures are on the CPU. Only the main process writes.

    On a GPU a step's figures are read while the next step runs (`lag` 1), so that no step waits for them.
    """

    def __init__(
        self,
        folder: RunFolder,
        processes: Processes,
        order: SampleOrder,
        path_of: Callable[[int], object],
        mirror: Mirror,
        meter: SpeedMeter,
    ):
        self.folder, self.processes, self.order = folder, processes, order
        self.path_of, self.mirror, self.meter = path_of, mirror, meter
        self.lag = 1 if processes.device.type == "cuda" else 0
        self.unread: deque[StepFigures] = deque()
        self.bar: Progress | None = None

    @contextlib.contextmanager
    def progress(self, step: int) -> Iterator[None]:
        """Show the progress from `step` on while the block runs."""
        with progress("training", self.order.num_steps, "step", step, self.processes.is_main) as self.bar:
            yield

    def read(self, leave: int) -> bool:
        """Write the rows of all steps but the newest `leave`. Returns whether a process was asked to stop.

        Raises:
            RunError: a loss or gradient is not finite.
        """
        stop = False
        while len(self.unread) > leave:
            stop = self._read_one(self.unread.popleft()) or stop
        return stop

    def _read_one(self, figures: StepFigures) -> bool:
        loss, norm, stop = figures.read(self.path_of)
        samples = len(figures.batch)
        row = {
            "step": figures.step + 1,
            "samples": self.order.samples_before(figures.step) + samples,
            "loss": loss,
            "lr": figures.lr,
            "grad_norm": norm,
            **self.meter.row(figures.began, samples, self.processes.size),
        }
        if self.processes.is_main:
            append_json_line(self.folder.train_log, row)
            self.mirror("train", row, figures.step + 1)
            self._advance_bar(row)
        return stop

    def _advance_bar(self, row: Mapping[str, float]) -> None:
        if self.bar is not None:
            self.bar.update(f"loss {row['loss']:.4f}")

    def validation(self, step: int, losses: Mapping[str, float]) -> None:
        """Write a validation row."""
        if self.processes.is_main:
            row = {"step": step, **losses}
            append_json_line(self.folder.validation_log, row)
            self.mirror("validation", row, step)

    def cut(self, step: int) -> None:
        """Drop the rows after `step`: a resumed training writes them again."""
        if not self.processes.is_main:
            return
        for log, last in ((self.folder.train_log, step), (self.folder.validation_log, step or -1)):
            rows = read_rows(log)
            if rows:
                write_json_lines(log, [r for r in rows if r["step"] <= last])

    def summary(self) -> JsonObject:
        """Loss (mean of the last tenth of the steps), seconds and rates of the whole training; empty off the main process.

        If the log was deleted, they are those of the steps since then, and `first_logged_step` says so.
        """
        rows = read_rows(self.folder.train_log) if self.processes.is_main else []
        if not rows:
            return {}
        tail = rows[-max(1, len(rows) // 10) :]
        seconds = sum(r["seconds"] for r in rows)
        first = rows[0]["step"]
        samples = self.order.samples_before(self.order.num_steps) - self.order.samples_before(first - 1)
        return {
            **({"first_logged_step": first} if first > 1 else {}),
            "train_loss": sum(r["loss"] for r in tail) / len(tail),
            "train_seconds": seconds,
            "samples_per_second": samples / max(seconds, 1e-9),
            **self.meter.summary(rows),
        }
