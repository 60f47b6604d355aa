"""How fast training goes, in seconds, samples and floating-point operations, and how much memory it took."""

from __future__ import annotations

import resource
import statistics
import time
from typing import Any

import torch

from cosmos_exp.world.flops import peak_flops


class SpeedMeter:
    """Figures of each step and of the whole training.

    Args:
        flops: of one sample, nothing computed twice (`architecture.training_flops`); None where it is not known.
    """

    def __init__(self, flops: float | None, device: torch.device):
        self.flops, self.device = flops, device
        self.peak = peak_flops(torch.cuda.get_device_name(device)) if device.type == "cuda" else None
        self.last = 0.0

    def row(self, began: float, samples: int, processes: int) -> dict[str, float]:
        """Seconds since the step began or the one before it ended, whichever is later, and rates of one process."""
        now = time.perf_counter()
        seconds = now - max(began, self.last)
        self.last = now
        row = {"seconds": seconds, "samples_per_second": samples / seconds}
        if self.flops:
            row["tflops_per_second"] = self.flops * samples / processes / seconds / 1e12
            if self.peak:
                row["mfu"] = row["tflops_per_second"] * 1e12 / self.peak
        return row

    def summary(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        """Median step, first step (with any compilation), work rate, model FLOPs utilisation, peak memory in GiB."""
        seconds = [r["seconds"] for r in rows]
        found: dict[str, Any] = {"step_seconds": statistics.median(seconds), "first_step_seconds": seconds[0]}
        for name in ("tflops_per_second", "mfu"):
            values = [r[name] for r in rows if name in r]
            if values:
                found[name] = statistics.median(values)
        if self.device.type == "cuda":
            found["peak_memory_gib"] = torch.cuda.max_memory_allocated(self.device) / 2**30
        else:
            found["peak_memory_gib"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        return found
