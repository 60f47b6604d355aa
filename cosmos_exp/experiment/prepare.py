"""Stage 1: inspect the data, then encode what is not in the cache yet."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from cosmos_exp.config.context import RunContext
from cosmos_exp.config.rollout import chunk_prompts
from cosmos_exp.config.schema import Config
from cosmos_exp.data.cache import Item, RunCache, write_tensor
from cosmos_exp.data.clips import load_window, window_starts
from cosmos_exp.data.dataset import Dataset, load_dataset
from cosmos_exp.data.pairs import has_recording
from cosmos_exp.data.scenes import scene_names
from cosmos_exp.errors import RunError
from cosmos_exp.experiment.checks import check_dataset
from cosmos_exp.experiment.record import device_of, dtype_of, free_memory, recorded_stage
from cosmos_exp.files import json_sha256
from cosmos_exp.text import printable
from cosmos_exp.tracking.progress import with_progress
from cosmos_exp.world.encoders import Encoders
from cosmos_exp.world.model_folder import ModelFolder, ensure_model
from cosmos_exp.world.pipeline import negative_prompt

INSPECTING = partial(with_progress, stage="inspecting videos", unit="file")


@dataclass
class Inputs:
    """What the later stages need: data, model folder, cache; `encoders` only if data.cache is off."""

    dataset: Dataset
    model: ModelFolder
    cache: RunCache
    encoders: Encoders | None


def prepare(context: RunContext) -> Inputs:
    """Inspect all data and fill the cache. The encoders are dropped afterwards unless training needs them.

    Raises:
        RunError: bad files, the data has changed since the run began, or the run would score nothing.
        UserError: something that would stop training or generation later, e.g. no step with a learning rate above 0.
    """
    config, processes = context.config, context.processes
    with recorded_stage("prepare", context):
        model = ensure_model(config)
        dataset = load_dataset(config, INSPECTING)
        short_recordings = check_dataset(config, dataset)
        cache = RunCache(config, model.fingerprints())
        if processes.is_main:
            _record_inputs(context, dataset, model, cache.fingerprints, short_recordings)
        processes.barrier()
        # Divided before a look at the cache: a process or another run that has begun must not change the others' parts.
        shard = processes.shard(to_encode(config, dataset))
        encoders = encode_missing(config, model, cache, processes.device, shard)
        processes.barrier()
        if config.data.cache or config.adapter.kind == "none":
            encoders = None
            free_memory()
        elif encoders is None:
            encoders = Encoders(model, processes.device, dtype_of(config), config.model.prompt_tokens)
    return Inputs(dataset, model, cache, encoders)


def to_encode(config: Config, dataset: Dataset) -> list[Item]:
    """The distinct prompts and the windows that a run reads from the cache."""
    windows: list[Item] = []
    prompts: list[Item] = [None, negative_prompt(config)]
    for clip in dataset.train + dataset.validation:
        prompts.append(clip.clip.prompt)
        if config.data.cache and config.adapter.kind != "none":
            windows += [(clip, start) for start in window_starts(clip, config.data, config.seed)]
    for pair in dataset.pairs + dataset.probes + dataset.kept:
        prompts += chunk_prompts(config, pair.prompt, pair.name)
    return [*dict.fromkeys(prompts), *windows]


def encode_shard(configs: Iterable[Config], number: int, count: int) -> list[Path]:
    """Encode what runs of these configurations would: of all distinct items each `count`-th from item `number` on.

    Args:
        number: 1 is the first item; 0 encodes nothing.

    Returns:
        the files of all items in the cache, in order.

    Raises:
        RunError: bad files.
    """
    files: dict[Path, Item] = {}
    for config in configs:
        model = ensure_model(config)
        cache = RunCache(config, model.fingerprints())
        dataset = load_dataset(config, INSPECTING)
        new = {path: item for item in to_encode(config, dataset) if (path := cache.path(item)) not in files}
        if number:
            device = device_of(config)
            encode_missing(config, model, cache, device, [*new.values()][(number - 1 - len(files)) % count :: count])
        files |= new
    return list(files)


def encode_missing(
    config: Config, model: ModelFolder, cache: RunCache, device: torch.device, items: Iterable[Item]
) -> Encoders | None:
    """Encode those of the windows and prompts that the cache lacks. Returns the encoders if they had to be loaded."""
    missing = {path: item for item in items if not (path := cache.path(item)).is_file()}
    if not missing:
        return None
    encoders = Encoders(model, device, dtype_of(config), config.model.prompt_tokens)
    for path, item in with_progress(missing.items(), "encoding", len(missing), "file"):
        if isinstance(item, tuple):
            value = encoders.encode_video(load_window(item[0], config.data, item[1]))
        else:
            value = encoders.encode_prompt(item)
        write_tensor(path, value)
    return encoders


def _record_inputs(
    context: RunContext, dataset: Dataset, model: ModelFolder, fingerprints: dict[str, str], short_recordings: list[str]
) -> None:
    """Print and record what goes into the run.

    Raises:
        RunError: the data has changed since the run began.
    """
    config, folder = context.config, context.folder
    old = folder.manifest.get("data_fingerprint", dataset.fingerprint)
    if old != dataset.fingerprint:
        raise RunError(
            f"{folder.path}: the data has changed since this run began ({old} -> {dataset.fingerprint}). Start a new run."
        )
    notes = [*dataset.notes, *short_recordings]
    for note in notes:
        print(printable(note))
    for problem in dataset.left_out:
        print(printable(f"skipped: {problem}"))
    if model.random:
        print("random base weights: the numbers of this run only show that the pipeline runs")
    by_scene = scene_names(dataset.pairs + dataset.kept, config.data.recordings)
    folder.update_manifest(
        data_fingerprint=dataset.fingerprint,
        data={
            "train": [c.clip.name for c in dataset.train],
            "validation": [c.clip.name for c in dataset.validation],
            "test": dataset.test,
            "selection": dataset.selection,
            "generated": config.generation.split,
            "scenes": by_scene,
            "scenes_sha256": json_sha256(by_scene),
            "recorded": [p.name for p in dataset.pairs if has_recording(p)],
            "left_out": dataset.left_out,
            "notes": notes,
            "short_recordings": short_recordings,
        },
        model={
            "path": str(model.path),
            "source": config.model.source,
            "revision": config.model.revision,
            "random_weights": model.random,
            "fingerprints": fingerprints,
        },
        labels={"random_weights": model.random},
    )
