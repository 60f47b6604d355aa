"""One run: its stages in order. Each leaves its output in the run folder and is skipped when that is complete."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import torch

from cosmos_exp.config.hashing import stage_hash
from cosmos_exp.config.schema import Config
from cosmos_exp.distributed import Processes
from cosmos_exp.errors import Interrupted, RunError, UserError
from cosmos_exp.experiment.context import Prepared, stage
from cosmos_exp.experiment.stages.evaluate import evaluate
from cosmos_exp.experiment.stages.generate import generate
from cosmos_exp.experiment.stages.prepare import prepare
from cosmos_exp.experiment.stages.train import train
from cosmos_exp.provenance import environment, now
from cosmos_exp.run_folder import RunFolder
from cosmos_exp.tracking.wandb import Tracker
from cosmos_exp.world.kernels import choose_kernels

OUT_OF_MEMORY = (
    "out of GPU memory. Mend it by one of: hardware.samples_per_forward=1, hardware.checkpointing=full, a smaller "
    "data.height, data.width or data.num_frames; dry_run=true estimates what a run needs."
)


def run(config: Config) -> RunFolder:
    """Walk through prepare, train, generate, evaluate, record in this process (one of `hardware.num_processes`).

    Raises:
        UserError: what a user can mend; the run folder's status says it too.
    """
    folder = RunFolder(str(config.run_dir))
    processes = Processes(config.hardware.device, config.hardware.num_processes, config.hardware.num_threads)
    choose_kernels(config.hardware.attention, config.approximate.tf32)
    with _recorded(config, folder, processes) as tracker:
        prepared: Prepared = prepare(config, folder, processes)
        train(config, folder, processes, prepared, tracker.log)
        generate(config, folder, processes, prepared)
        evaluate(config, folder, processes, prepared)
        with stage("record", config, folder, processes):
            tracker.finish(folder)
    return folder


@contextlib.contextmanager
def _recorded(config: Config, folder: RunFolder, processes: Processes) -> Iterator[Tracker]:
    """Manifest, status and tracker around the stages; how the run ended is always written down."""
    main = processes.is_main
    # Outside the training loop, which first writes a checkpoint, SIGTERM ends the run as Ctrl-C does.
    before = signal.getsignal(signal.SIGTERM)
    with contextlib.suppress(ValueError):  # not the main thread
        signal.signal(signal.SIGTERM, _interrupt)
    tracker = Tracker(config, folder, active=False)
    held = folder.lock() if main else None
    try:
        if main:
            _open_record(config, folder, processes)
            tracker = Tracker(config, folder)
            folder.update_manifest(tracking=tracker.mode)
        processes.barrier()
        yield tracker
        if main:
            folder.update_manifest(end=now())
            folder.set_status("done", "record")
    except BaseException as error:
        told = RunError(OUT_OF_MEMORY) if isinstance(error, torch.OutOfMemoryError) else error
        stopped = isinstance(error, (Interrupted, KeyboardInterrupt))
        if main:
            reached = folder.read(folder.status_file).get("stage", "prepare")
            words = str(told) if isinstance(told, UserError) else f"{type(told).__name__}: {told}"
            folder.set_status("interrupted" if stopped else "failed", reached, words)
            folder.update_manifest(end=now())
        tracker.abandon()
        if told is not error:
            raise told from error
        raise
    finally:
        with contextlib.suppress(ValueError):
            signal.signal(signal.SIGTERM, before)
        processes.close()
        if held:
            held.close()


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt(f"signal {number}")


def _open_record(config: Config, folder: RunFolder, processes: Processes) -> None:
    old = folder.read(folder.manifest_file)
    adapter = config.adapter
    scale = adapter.alpha / (adapter.rank if adapter.scaling == "standard" else adapter.rank**0.5)
    label = "base" if adapter.kind == "none" else f"{adapter.kind} r{adapter.rank} (scale {scale:g})"
    folder.update_manifest(
        **environment(),
        name=config.name,
        config_hash=stage_hash(config),
        seeds={"run": config.seed, "generation": list(config.generation.seeds)},
        guardrail=config.model.guardrail,
        hardware=dataclasses.asdict(config.hardware),
        processes=processes.size,
        labels={"adapter": label},
        start=old.get("start", now()),
        starts=[*old.get("starts", []), now()],
    )


def run_safely(config: Config) -> int:
    """`run`, with the closing words a user needs. Returns the exit code."""
    folder = RunFolder(str(config.run_dir))
    try:
        run(config)
    except (Interrupted, KeyboardInterrupt) as error:
        if _is_main():
            print(f"interrupted: {error}\nTo go on: cosmos-exp run run_dir={_short(folder.path)}", flush=True)
        return 1
    return 0


def _is_main() -> bool:
    return os.environ.get("RANK", "0") == "0"


def _short(path: Path) -> str:
    with contextlib.suppress(ValueError):
        return str(path.relative_to(Path.cwd()))
    return str(path)
