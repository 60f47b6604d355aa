"""The training logs: a step's figures on their way from the device, its speed, train_log.jsonl and validation_log.jsonl.

The rows are mirrored on the dashboard, and the progress bar shows the loss.
"""

from __future__ import annotations

import contextlib
import math
import statistics
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import torch

from cosmos_exp.distributed import Processes
from cosmos_exp.errors import RunError
from cosmos_exp.files import JsonObject, append_json_line, write_json_lines
from cosmos_exp.run_folder import RunFolder
from cosmos_exp.run_folder.records import read_rows
from cosmos_exp.tracking.progress import Progress, progress
from cosmos_exp.training.plan import SampleOrder
from cosmos_exp.world.hardware import peak_flops

Mirror = Callable[[str, Mapping[str, float], int], None]  # (kind of row, values, step), e.g. Tracker.log


@dataclass
class StepFigures:
    """One step's losses (one per sample of the global batch), gradient norm and stop flag, which the step does not wait for.

    step: number of the step, from 0. batch: its (sample number, video index). began: time.perf_counter at its start.
    """

    step: int
    batch: list[tuple[int, int]]
    lr: float
    began: float
    host: torch.Tensor = field(init=False)
    arrived: torch.cuda.Event | None = field(init=False, default=None)

    def send(self, losses: torch.Tensor, norm: torch.Tensor, stop: torch.Tensor) -> None:
        """Start the copy to the CPU."""
        packed = torch.cat([losses, norm.detach().view(1).to(losses), stop.view(1).to(losses)])
        if packed.device.type != "cuda":
            self.host = packed
            return
        self.host = torch.empty(packed.shape, dtype=packed.dtype, pin_memory=True).copy_(packed, non_blocking=True)
        self.arrived = torch.cuda.Event()
        self.arrived.record()

    def read(self, path_of: Callable[[int], object]) -> tuple[float, float, bool]:
        """(mean loss, gradient norm, whether a process was asked to stop); waits for the copy.

        Args:
            path_of: the file of a video index.

        Raises:
            RunError: the loss or the gradient is not finite.
        """
        if self.arrived is not None:
            self.arrived.synchronize()
        *losses, norm, stop = self.host.tolist()
        for (number, video), loss in zip(self.batch, losses, strict=True):
            if not math.isfinite(loss):
                raise RunError(
                    f"the loss is not finite at step {self.step + 1}, sample {number} ({path_of(video)}). Earlier "
                    "checkpoints are kept. Try a lower training.learning_rate or training.max_grad_norm."
                )
        if not math.isfinite(norm):
            raise RunError(
                f"the gradient is not finite at step {self.step + 1}. Earlier checkpoints are kept. "
                "training.zero_nonfinite_grads=true sets such entries to zero, as the official recipe does."
            )
        return self.host[: len(losses)].mean().item(), norm, stop > 0


class SpeedMeter:
    """Seconds, rates and floating-point operations of each step and of the whole training.

    Args:
        flops: of one sample without recomputation (`world.flops.training_flops`); None if unknown.
    """

    def __init__(self, flops: float | None, device: torch.device):
        self.flops, self.device = flops, device
        self.peak = peak_flops(torch.cuda.get_device_name(device)) if device.type == "cuda" else None
        self.last = 0.0

    def row(self, began: float, samples: int, processes: int) -> dict[str, float]:
        """Seconds since the step began or the step before it ended, whichever is later; rates of one process."""
        now = time.perf_counter()
        seconds = now - max(began, self.last)
        self.last = now
        row = {"seconds": seconds, "samples_per_second": samples / seconds}
        if self.flops:
            row["tflops_per_second"] = self.flops * samples / processes / seconds / 1e12
            if self.peak:
                row["mfu"] = row["tflops_per_second"] * 1e12 / self.peak
        return row

    def summary(self, rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
        """Median step, first step (with compilation), TFLOP/s, model FLOPs utilisation, peak memory in GiB."""
        seconds = [r["seconds"] for r in rows]
        summary = {"step_seconds": statistics.median(seconds), "first_step_seconds": seconds[0]}
        for name in ("tflops_per_second", "mfu"):
            values = [r[name] for r in rows if name in r]
            if values:
                summary[name] = statistics.median(values)
        return summary | {"peak_memory_gib": peak_memory_gib(self.device)}


def reset_peak_memory(device: torch.device) -> None:
    """Begin to measure the peak anew; without effect where the system does not offer it."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    elif sys.platform == "linux":
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")  # resets the high-water mark that ru_maxrss reports


def peak_memory_gib(device: torch.device) -> float:
    """Peak memory in GiB since `reset_peak_memory`: of the allocator on a GPU, else of this process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**30
    import resource

    peak = float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    return peak / (2**30 if sys.platform == "darwin" else 2**20)  # bytes on macOS, KiB on Linux


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
        self.pending: deque[StepFigures] = deque()
        self.bar: Progress | None = None

    @contextlib.contextmanager
    def progress(self, step: int) -> Iterator[None]:
        """Show the progress from `step` on while the block runs."""
        with progress("training", self.order.num_steps, "step", step) as self.bar:
            yield

    def read(self, leave: int) -> bool:
        """Write the rows of all steps but the newest `leave`. Returns whether a process was asked to stop.

        Raises:
            RunError: a loss or gradient is not finite.
        """
        stop = False
        while len(self.pending) > leave:
            stop = self._read_one(self.pending.popleft()) or stop
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
            if self.bar is not None:
                self.bar.update(f"loss {loss:.4f}")
        return stop

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

        If the log was deleted, they are those of the steps since then.
        """
        rows = read_rows(self.folder.train_log) if self.processes.is_main else []
        if not rows:
            return {}
        tail = rows[-max(1, len(rows) // 10) :]
        seconds = sum(r["seconds"] for r in rows)
        samples = self.order.samples_before(self.order.num_steps) - self.order.samples_before(rows[0]["step"] - 1)
        return {
            "train_loss": sum(r["loss"] for r in tail) / len(tail),
            "train_seconds": seconds,
            "samples_per_second": samples / max(seconds, 1e-9),
            **self.meter.summary(rows),
        }
