"""How fast training goes: seconds, samples and floating-point operations; and how much memory it takes."""

from __future__ import annotations

import contextlib
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil
import torch

from cosmos_exp.world.hardware import peak_flops


class SpeedMeter:
    """Figures of each step and of the whole training.

    Args:
        flops: of one sample without recomputation (`world.hardware.training_flops`); None if unknown.
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
        found = {"step_seconds": statistics.median(seconds), "first_step_seconds": seconds[0]}
        for name in ("tflops_per_second", "mfu"):
            values = [r[name] for r in rows if name in r]
            if values:
                found[name] = statistics.median(values)
        return found | {"peak_memory_gib": peak_memory_gib(self.device)}


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
    if sys.platform == "win32":
        return float(psutil.Process().memory_info().peak_wset) / 2**30
    import resource

    # ru_maxrss is in KiB on Linux and in bytes on macOS.
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss) / (2**30 if sys.platform == "darwin" else 2**20)
