"""Stage 1: inspect the data, then encode what is not in the cache yet."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial

from cosmos_exp.config.context import RunContext
from cosmos_exp.config.paths import cache_root
from cosmos_exp.config.rollout import chunk_prompts
from cosmos_exp.data.cache import RunCache
from cosmos_exp.data.dataset import Dataset, load_dataset
from cosmos_exp.data.pair_frames import has_recording
from cosmos_exp.data.scenes import scenes
from cosmos_exp.data.windows import window_starts
from cosmos_exp.errors import RunError
from cosmos_exp.experiment.cost import check_sizes, positions
from cosmos_exp.experiment.data_plan import check_conditioning, check_scored, rollout_notes
from cosmos_exp.experiment.stages.common import dtype_of, free_memory, progress, recorded_stage
from cosmos_exp.experiment.stages.tasks import probe_pairs, tested_pairs
from cosmos_exp.files import json_sha256
from cosmos_exp.text import printable
from cosmos_exp.training.plan import learning_rates, sample_order
from cosmos_exp.world.encoders import Encoders
from cosmos_exp.world.model_folder import ModelFolder, ensure_model
from cosmos_exp.world.pipeline import negative_prompt


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
        RunError: bad files, or the data has changed since the run began.
    """
    config, processes = context.config, context.processes
    with recorded_stage("prepare", context):
        model = ensure_model(config.model, cache_root(config))
        dataset = load_dataset(config, partial(progress, words="inspecting videos", unit="video", processes=processes))
        _check_generation(context, dataset, model)
        fingerprints = model.fingerprints()
        if processes.is_main:
            _record_inputs(context, dataset, model, fingerprints)
        processes.barrier()
        cache = RunCache(cache_root(config) / "encoded", config, fingerprints)
        encoders = _encode(context, dataset, model, cache)
        processes.barrier()
        encode_on_the_fly = not config.data.cache and config.adapter.kind != "none"
        if not encode_on_the_fly:
            encoders = None
            free_memory()
    return Inputs(dataset, model, cache, encoders)


def _check_generation(context: RunContext, dataset: Dataset, model: ModelFolder) -> None:
    """Find before the encoding what would stop the training, or the making of videos after it.

    Raises:
        UserError: a name that leaves the folder, no prompt, a prompt without enough frames, sizes beyond the model's, no
            step with a learning rate above 0.
    """
    config = context.config
    for pair in dataset.pairs:
        context.folder.video(pair.name, 0)
    check_scored(config, len(dataset.test), len(dataset.selection))
    tested = tested_pairs(config, dataset.pairs)
    check_conditioning(config, tested + probe_pairs(config, dataset.pairs))
    check_sizes(config, math.inf, positions(model.path))
    if config.adapter.kind != "none" and not config.adapter.truncate_from:
        learning_rates(sample_order(len(dataset.train), config.training, config.seed), config.training)


def _encode(context: RunContext, dataset: Dataset, model: ModelFolder, cache: RunCache) -> Encoders | None:
    """Encode the windows and prompts that the cache lacks; the processes divide them. Returns the encoders if loaded."""
    config, processes = context.config, context.processes
    trains = config.adapter.kind != "none"
    clips = dataset.train + dataset.validation
    windows = [(c, s) for c in clips for s in window_starts(c, config.data, config.seed)]
    tested = dataset.pairs + probe_pairs(config, dataset.pairs)
    prompts = [c.clip.prompt for c in clips] + [t for p in tested for t in chunk_prompts(config, p.prompt, p.name)]
    every = list(dict.fromkeys([*prompts, None, negative_prompt(config.generation.negative_prompt)]))
    # Divided before a look at the cache: a process or another run that has begun must not change the others' parts.
    missing_windows, missing_prompts = cache.missing(
        processes.shard(windows) if config.data.cache and trains else [], processes.shard(every)
    )
    if not (missing_windows or missing_prompts or (trains and not config.data.cache)):
        return None
    encoders = Encoders(model, processes.device, dtype_of(config), config.model.prompt_tokens)
    for prompt in progress(missing_prompts, "encoding", "prompt", processes):
        cache.encode_prompt(encoders, prompt)
    for window in progress(missing_windows, "encoding", "window", processes):
        cache.encode_window(encoders, window)
    return encoders


def _record_inputs(context: RunContext, dataset: Dataset, model: ModelFolder, fingerprints: dict[str, str]) -> None:
    config, folder = context.config, context.folder
    old = folder.manifest.get("data_fingerprint")
    if old not in (None, dataset.fingerprint):
        raise RunError(
            f"{folder.path}: the data has changed since this run began ({old} -> {dataset.fingerprint}). Start a new run."
        )
    short = rollout_notes(config, tested_pairs(config, dataset.pairs), dataset.held_out)
    notes = [*dataset.notes, *short]
    for line in [*notes, *(f"skipped: {p}" for p in dataset.left_out)]:
        print(printable(line))
    if model.random:
        print("random base weights: the numbers of this run only show that the pipeline runs")
    by_scene = scenes(dataset.pairs, dataset.held_out, config.data.recordings)
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
            "short_recordings": short,
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
