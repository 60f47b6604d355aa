"""The record around a run and its stages: lock, configuration, manifest, status, dashboard, and how the run ended."""

from __future__ import annotations

import contextlib
import gc
import os
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import torch
from filelock import FileLock

from cosmos_exp.config.context import RunContext
from cosmos_exp.config.hashing import stage_hash
from cosmos_exp.config.layers import UNLIKE_LORA, adapter_label, pattern_labels, update_scale
from cosmos_exp.config.paths import cache_root
from cosmos_exp.config.record import save_config
from cosmos_exp.config.schema import Config
from cosmos_exp.distributed import PeerLost, Processes
from cosmos_exp.errors import DamagedError, DiskError, Interrupted, RunError, UserError
from cosmos_exp.files import as_disk_error, remove_leftovers, write_text, writing
from cosmos_exp.provenance import environment, now
from cosmos_exp.run_folder import RunFolder
from cosmos_exp.tracking.wandb import Tracker
from cosmos_exp.training.log import peak_memory_gib, reset_peak_memory

PATIENCE = 30.0  # seconds until a network file system must show what another machine has written
OUT_OF_MEMORY = (
    "out of GPU memory. To fix this, do one of: set hardware.samples_per_forward=1; set hardware.checkpointing=full; "
    "lower data.height, data.width or data.num_frames. dry_run=true estimates what a run needs."
)


@contextlib.contextmanager
def recorded_run(config: Config) -> Iterator[tuple[RunContext, Tracker]]:
    """Hold the run folder and record how the block ends. All processes of the run enter it.

    The folder is locked first: nothing is written into one that another process uses, or whose records are damaged.

    Raises:
        UserError: another process uses the folder, or a record in it is damaged.
    """
    folder = config.folder
    processes = Processes(config.hardware.device, config.hardware.all_processes, config.hardware.num_threads)
    context = RunContext(config, folder, processes)
    lock = _hold(folder) if processes.is_main else None
    tracker, received = Tracker(config, folder, active=False), list[int]()
    try:
        with interruptible() as received:
            if processes.is_main:
                if folder.manifest.get("config_hash") != stage_hash(config) and not folder.holds_work():
                    folder.forget()  # of a run that ended before its first step, whose keys were changed since
                save_config(config, folder.config)
                _open_manifest(context)
                tracker = Tracker(config, folder)
                folder.update_manifest(tracking=tracker.mode)
            processes.barrier()
            check_shared(context)
            yield context, tracker
            if processes.is_main:
                folder.update_manifest(end=now())
                folder.set_status("done", "record")
    except BaseException as error:
        shown = _in_words(error, folder, received)
        with contextlib.suppress(DiskError, DamagedError):  # the error itself is what counts
            _record_end(context, shown)
        tracker.end(exit_code=1)
        if shown is not error:
            raise shown from error
        raise
    finally:
        processes.close()
        if lock:
            lock.release()


def check_shared(context: RunContext) -> None:
    """Check that all machines see the run folder and the cache of the first one. All processes call it.

    Raises:
        RunError: one of them does not.
    """
    processes, seen = context.processes, cache_root(context.config) / ".seen" / context.folder.path.name
    if context.config.hardware.num_machines == 1:
        return
    if processes.is_main:
        write_text(seen, "a run on several machines checks that all of them see this file\n")
    processes.barrier()
    deadline = time.monotonic() + PATIENCE
    for key, path in (("run_dir", context.folder.config), ("cache_dir", seen)):
        while not path.is_file():
            if time.monotonic() > deadline:
                raise RunError(f"{key}: a machine does not see {path}. Set {key} to a folder that all machines share.")
            time.sleep(0.2)


def _hold(folder: RunFolder) -> FileLock:
    """Lock the folder, check its records, and remove what killed processes left half-written in it."""
    with writing(folder.path):
        folder.path.mkdir(parents=True, exist_ok=True)
        lock = folder.lock()
    try:
        folder.check()
        remove_leftovers(folder.path)
    except BaseException:
        lock.release()
        raise
    return lock


def _in_words(error: BaseException, folder: RunFolder, received: list[int]) -> BaseException:
    """A request to stop that a library turned into an error of its own, a full GPU or disk in words; any other error itself.

    safetensors, met by a signal in its C code, raises a ValueError, and diffusers calls that an unreadable file.
    """
    if received and isinstance(error, Exception):
        return KeyboardInterrupt(f"stopped by {signal.Signals(received[0]).name}")
    if isinstance(error, torch.OutOfMemoryError):
        return RunError(OUT_OF_MEMORY)
    if isinstance(error, UserError) or not isinstance(error, Exception):
        return error
    return as_disk_error(error, folder.path) or error


@contextlib.contextmanager
def interruptible() -> Iterator[list[int]]:
    """SIGTERM ends the block as Ctrl-C does. The training loop has its own handler, which writes a checkpoint first.

    Python ignores an exception in a destructor or in the callback of a weak reference, where a signal can meet it as
    anywhere else. The signal is then sent again, so that a request to stop is never lost.

    Yields:
        the signals that have come, which a library may have turned into an error of its own.
    """
    received: list[int] = []

    def interrupt(number: int, frame: FrameType | None) -> None:
        received.append(number)
        raise KeyboardInterrupt(f"stopped by {signal.Signals(number).name}")

    def ignored(problem: sys.UnraisableHookArgs) -> None:
        if issubclass(problem.exc_type, KeyboardInterrupt):
            number = signal.SIGTERM if "SIGTERM" in str(problem.exc_value) else signal.SIGINT
            threading.Timer(0.05, os.kill, (os.getpid(), number)).start()
        else:
            hook(problem)

    before, hook = {signal.SIGTERM: signal.getsignal(signal.SIGTERM)}, sys.unraisablehook
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # an ignored Ctrl-C stays ignored
        before[signal.SIGINT] = signal.default_int_handler
    with contextlib.suppress(ValueError):  # not the main thread
        for number in before:
            signal.signal(number, interrupt)
    sys.unraisablehook = ignored
    try:
        yield received
    finally:
        sys.unraisablehook = hook
        with contextlib.suppress(ValueError):
            for number, handler in before.items():
                signal.signal(number, handler)


def _record_end(context: RunContext, error: BaseException) -> None:
    """Record why the run ended. A failure of any process is recorded; being stopped because of it is not."""
    folder, is_main = context.folder, context.processes.is_main
    stopped = isinstance(error, (Interrupted, KeyboardInterrupt, PeerLost))
    others_failed = context.processes.size > 1 and folder.status.get("state") == "failed"
    words = str(error) if stopped or isinstance(error, UserError) else f"{type(error).__name__}: {error}"
    if not (stopped and others_failed):  # a scheduler may stop any of the processes, and that one alone knows
        folder.set_status("interrupted" if stopped else "failed", folder.status.get("stage", "prepare"), words)
    if is_main and folder.manifest:  # a run that was stopped before its first record has none to end
        folder.update_manifest(end=now())


def _open_manifest(context: RunContext) -> None:
    config, adapter = context.config, context.config.adapter
    old = context.folder.manifest
    label = adapter_label(adapter)
    if adapter.kind not in ("none", *UNLIKE_LORA):
        scale = "; ".join([f"scale {update_scale(adapter):g}", *pattern_labels(adapter)])
        label = f"{adapter.kind} r{adapter.rank} ({scale})"
    context.folder.update_manifest(
        **environment(),
        name=config.name,
        config_hash=stage_hash(config),
        seeds={"run": config.seed, "generation": list(config.generation.seeds)},
        hardware=config.hardware.model_dump(),
        processes=context.processes.size,
        labels={"adapter": label},
        start=old.get("start", now()),
        starts=[*old.get("starts", []), now()],
    )


# --- what all stages do ---


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
        before = context.folder.manifest.get(key, current)
        for path in paths:
            if before != current and path.exists():
                path.rename(path.with_name(f"{path.stem}-{before}{path.suffix}"))
        context.folder.update_manifest(**{key: current})
    context.processes.barrier()


def dtype_of(config: Config) -> torch.dtype:
    """The precision of the base weights."""
    return torch.bfloat16 if config.hardware.mixed_precision == "bf16" else torch.float32


def device_of(config: Config) -> torch.device:
    """The device of a process that is alone."""
    device: torch.device = Processes(config.hardware.device, 1, config.hardware.num_threads).device
    return device


def free_memory() -> None:
    """Return the memory of dropped models."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
