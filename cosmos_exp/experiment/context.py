"""The stages that `experiment.run` walks through. They meet in the run folder and in `Prepared`, nowhere else."""

from __future__ import annotations

import contextlib
import gc
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from tqdm import tqdm

from cosmos_exp.config.hashing import stage_hash
from cosmos_exp.config.schema import Config
from cosmos_exp.data.cache import RunCache
from cosmos_exp.data.dataset import Dataset
from cosmos_exp.distributed import Processes
from cosmos_exp.provenance import now
from cosmos_exp.run_folder import RunFolder
from cosmos_exp.world.encoders import Encoders
from cosmos_exp.world.model_folder import ModelFolder


@dataclass
class Prepared:
    """What later stages need: the data, the model's folder, the cache; encoders only when data.cache is off."""

    dataset: Dataset
    model: ModelFolder
    cache: RunCache
    encoders: Encoders | None


def dtype_of(config: Config) -> torch.dtype:
    """The base weights' precision."""
    return torch.bfloat16 if config.hardware.mixed_precision == "bf16" else torch.float32


@contextlib.contextmanager
def stage(name: str, config: Config, folder: RunFolder, processes: Processes) -> Iterator[None]:
    """Status, seconds and peak memory of a stage into the run folder."""
    if processes.is_main:
        folder.set_status("running", name)
    if processes.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    began = time.perf_counter()
    yield
    processes.barrier()
    if processes.is_main:
        if processes.device.type == "cuda":
            peak = torch.cuda.max_memory_allocated() / 2**30
        else:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        entry = {"seconds": round(time.perf_counter() - began, 2), "peak_memory_gib": round(peak, 3), "ended": now()}
        if name in ("train", "generate", "evaluate"):
            entry["config_hash"] = stage_hash(config, name)
        folder.update_manifest(stages={name: entry})
    processes.barrier()


def _set_aside(folder: RunFolder, name: str, path: Any, config: Config, processes: Processes) -> None:
    """Outputs that a stage made under another configuration are renamed, never mixed with new ones."""
    key, current = f"{name}_begun", stage_hash(config, name)
    if processes.is_main:
        before = folder.read(folder.manifest_file).get(key)
        if before and before != current and path.exists():
            path.rename(path.with_name(f"{path.stem}-{before}{path.suffix}"))
        folder.update_manifest(**{key: current})
    processes.barrier()


def _bar(words: str, unit: str, processes: Processes) -> Callable[[list], Any]:
    return lambda items: tqdm(items, desc=words, unit=unit, disable=None if processes.is_main else True)


def _free() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
