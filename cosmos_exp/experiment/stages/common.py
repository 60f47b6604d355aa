"""What all stages do: record how they ended, keep outputs of another configuration apart, show progress."""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import torch

from cosmos_exp.config.context import RunContext
from cosmos_exp.config.hashing import stage_hash
from cosmos_exp.config.schema import Config
from cosmos_exp.distributed import Processes
from cosmos_exp.provenance import now
from cosmos_exp.tracking.progress import with_progress
from cosmos_exp.training.log import peak_memory_gib, reset_peak_memory

Item = TypeVar("Item")


def dtype_of(config: Config) -> torch.dtype:
    """The precision of the base weights."""
    return torch.bfloat16 if config.hardware.mixed_precision == "bf16" else torch.float32


@contextlib.contextmanager
def recorded_stage(name: str, context: RunContext) -> Iterator[None]:
    """Record a stage's status, seconds and peak memory in the run folder."""
    folder, processes = context.folder, context.processes
    if processes.is_main:
        folder.set_status("running", name)
    reset_peak_memory(processes.device)
    began = time.perf_counter()
    yield
    processes.barrier()
    if processes.is_main:
        entry: dict[str, object] = {
            "seconds": round(time.perf_counter() - began, 2),
            "peak_memory_gib": round(peak_memory_gib(processes.device), 3),
            "ended": now(),
        }
        if name in ("train", "generate", "evaluate"):
            entry["config_hash"] = stage_hash(context.config, name)
        folder.update_manifest(stages={name: entry})
    processes.barrier()


def set_aside(context: RunContext, stage: str, *paths: Path) -> None:
    """Rename outputs that a stage made under another configuration, so that they never mix with new ones."""
    key, current = f"{stage}_begun", stage_hash(context.config, stage)
    if context.processes.is_main:
        before = context.folder.manifest.get(key)
        for path in paths if before and before != current else ():
            if path.exists():
                path.rename(path.with_name(f"{path.stem}-{before}{path.suffix}"))
        context.folder.update_manifest(**{key: current})
    context.processes.barrier()


def progress(items: Collection[Item], words: str, unit: str, processes: Processes) -> Iterable[Item]:
    """The items with a progress that the main process shows."""
    return with_progress(items, words, len(items), unit, processes.is_main)


def free_memory() -> None:
    """Return the memory of dropped models."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
