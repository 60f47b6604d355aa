"""The stages that `experiment.run` walks through. They meet in the run folder and in `Prepared`, nowhere else."""

from __future__ import annotations

import contextlib
import gc
import os
import resource
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from cosmos_exp.config import Config, stage_hash
from cosmos_exp.data.cache import RunCache
from cosmos_exp.data.dataset import Dataset, cache_root, load_dataset, pair_frames, window_starts
from cosmos_exp.data.episodes import TestPair
from cosmos_exp.errors import RunError
from cosmos_exp.generation.videos import Generator, VideoTask, condition_frames
from cosmos_exp.metrics.judge import load_judge
from cosmos_exp.metrics.score import ScoredVideo, judge_videos, measure_geometry
from cosmos_exp.processes import Processes
from cosmos_exp.report.statistics import summarize
from cosmos_exp.run_folder import RunFolder, now, read_json_lines, write_json, write_json_lines
from cosmos_exp.training.loop import Trainer
from cosmos_exp.training.samples import SampleSource
from cosmos_exp.training.schedule import step_plan
from cosmos_exp.training.speed import SpeedMeter
from cosmos_exp.world import adapter as adapters
from cosmos_exp.world.approximate import shrink_base
from cosmos_exp.world.architecture import adapted_layers, latent_shape, memory_plan, num_tokens, training_flops
from cosmos_exp.world.components import (
    Encoders,
    latent_statistics,
    load_guardrail,
    load_pipeline,
    load_transformer,
    load_vae,
    negative_prompt,
)
from cosmos_exp.world.kernels import attention_kernel
from cosmos_exp.world.model_folder import ModelFolder, resolve


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
    processes.wait()
    if processes.is_main:
        if processes.device.type == "cuda":
            peak = torch.cuda.max_memory_allocated() / 2**30
        else:
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        entry = {"seconds": round(time.perf_counter() - began, 2), "peak_memory_gib": round(peak, 3), "ended": now()}
        if name in ("train", "generate", "evaluate"):
            entry["config_hash"] = stage_hash(config, name)
        folder.update_manifest(stages={name: entry})
    processes.wait()


def _set_aside(folder: RunFolder, name: str, path: Any, config: Config, processes: Processes) -> None:
    """Outputs that a stage made under another configuration are renamed, never mixed with new ones."""
    key, current = f"{name}_begun", stage_hash(config, name)
    if processes.is_main:
        before = folder.read(folder.manifest_file).get(key)
        if before and before != current and path.exists():
            path.rename(path.with_name(f"{path.stem}-{before}{path.suffix}"))
        folder.update_manifest(**{key: current})
    processes.wait()


# --- prepare ----------------------------------------------------------------------------------------------------
def prepare(config: Config, folder: RunFolder, processes: Processes) -> Prepared:
    """Look at all data, then encode what is not in the cache yet; the encoders leave memory afterwards."""
    with stage("prepare", config, folder, processes):
        model = resolve(config.model, cache_root(config))
        dataset = load_dataset(config, _bar("looking at videos", "video", processes))
        prints = model.fingerprints()
        _record_inputs(config, folder, processes, dataset, model, prints)
        cache = RunCache(cache_root(config) / "encoded", config, prints)
        windows = [
            (c, s) for c in dataset.train + dataset.validation for s in window_starts(c, config.data, config.seed)
        ]
        windows = windows if config.data.cache and config.adapter.kind != "none" else []
        prompts = [c.clip.prompt for c in dataset.train + dataset.validation] + [p.prompt for p in dataset.pairs]
        left_windows, left_prompts = cache.missing(
            windows, [*prompts, None, negative_prompt(config.generation.negative_prompt)]
        )
        keep = not config.data.cache and config.adapter.kind != "none"
        encoders = None
        if left_windows or left_prompts or keep:
            encoders = Encoders(model, processes.device, dtype_of(config), config.model.prompt_tokens)
            for prompt in _bar("encoding prompts", "prompt", processes)(processes.share(left_prompts)):
                cache.encode_prompt(encoders, prompt)
            for window in _bar("encoding windows", "window", processes)(processes.share(left_windows)):
                cache.encode_window(encoders, window)
        processes.wait()
        if not keep:
            encoders = None
            _free()
    return Prepared(dataset, model, cache, encoders)


def _record_inputs(
    config: Config, folder: RunFolder, processes: Processes, dataset: Dataset, model: ModelFolder, prints: dict
) -> None:
    if processes.is_main:
        old = folder.read(folder.manifest_file).get("data_fingerprint")
        if old not in (None, dataset.fingerprint):
            raise RunError(
                f"{folder.path}: the data has changed since this run began ({old} -> {dataset.fingerprint}); start a new run"
            )
        for line in [*dataset.notes, *(f"left out: {p}" for p in dataset.left_out)]:
            print(line)
        if model.random:
            print(
                "The base model's weights are random (nothing was learned yet): figures show that the walk works, no more."
            )
        folder.update_manifest(
            data_fingerprint=dataset.fingerprint,
            data={
                "train": [c.clip.name for c in dataset.train], "validation": [c.clip.name for c in dataset.validation],
                "test": [p.name for p in dataset.pairs], "left_out": dataset.left_out, "notes": dataset.notes,
            },
            model={"path": str(model.path), "source": config.model.source, "revision": config.model.revision,
                   "random_weights": model.random, "fingerprints": prints},
            labels={"random_weights": model.random},
        )  # fmt: skip
    processes.wait()


# --- train ------------------------------------------------------------------------------------------------------
def train(
    config: Config, folder: RunFolder, processes: Processes, prepared: Prepared, log: Callable[..., None]
) -> None:
    """Train the adapter and write its file; adapter=none and a finished training are passed over."""
    if config.adapter.kind == "none" or (
        folder.stage_done("train", stage_hash(config, "train")) and folder.adapter_file.is_file()
    ):
        return
    with stage("train", config, folder, processes):
        transformer, _ = load_transformer(prepared.model, dtype_of(config))
        parameters = adapters.inject(transformer, config.adapter, config.seed)
        if config.approximate.fp8_base:
            shrink_base(transformer)
        transformer.to(processes.device)
        statistics = latent_statistics(prepared.model)
        dataset = prepared.dataset
        source = SampleSource(config, dataset.train, prepared.cache, statistics, prepared.encoders)
        held_out = None
        if dataset.validation:
            held_out = SampleSource(config, dataset.validation, prepared.cache, statistics, prepared.encoders)
        plan = step_plan(len(dataset.train), config.training, config.seed)
        memory, flops = training_cost(config, transformer, parameters)
        _record_speed_choices(config, folder, processes, transformer, memory["checkpointing"])
        trainer = Trainer(
            config, transformer, parameters, source, held_out, plan, folder, processes, log, memory["checkpointing"],
            SpeedMeter(flops, processes.device),
        )  # fmt: skip
        summary = trainer.train()
        if processes.is_main:
            record = {
                "base_model": config.model.source, "revision": config.model.revision,
                "fingerprints": prepared.cache.fingerprints, "data_fingerprint": dataset.fingerprint,
                "config_hash": stage_hash(config, "train"), "adapter": asdict(config.adapter), "seed": config.seed,
            }  # fmt: skip
            file = adapters.save_adapter(transformer, folder.adapter, record)
            summary["adapter_mib"] = round(file.stat().st_size / 2**20, 3)
            write_json(folder.metrics, folder.read(folder.metrics) | {"training": summary})
        del trainer, transformer, parameters, source, held_out
        prepared.encoders = None
        _free()


def training_cost(config: Config, transformer: Any, parameters: dict[str, Any]) -> tuple[dict[str, Any], float]:
    """The memory plan with its checkpointing, and a sample's floating-point operations."""
    keys, data = dict(transformer.config), config.data
    shape = latent_shape(config.model.z_dim, data.num_frames, data.height, data.width)
    share = -(-config.training.global_batch_size // config.hardware.num_processes)
    base = sum(p.numel() for p in transformer.parameters() if not p.requires_grad)
    trainable = sum(p.numel() for p in parameters.values())
    dora = config.adapter.kind == "dora"
    plan = memory_plan(keys, base, trainable, num_tokens(shape), config.hardware, share, dora)
    layers = adapted_layers(keys, config.adapter.target_modules)
    return plan, training_flops(keys, shape, config.model.prompt_tokens, layers, config.adapter.rank)


def _record_speed_choices(
    config: Config, folder: RunFolder, processes: Processes, transformer: Any, checkpointing: list[str]
) -> None:
    keys = transformer.config
    kernel = attention_kernel(keys.num_attention_heads, keys.attention_head_dim, dtype_of(config), processes.device)
    if processes.is_main:
        folder.update_manifest(
            speed={"checkpointing": dict(Counter(checkpointing)), "compile": config.hardware.compile, "attention": kernel,
                   "approximate": [k for k, on in asdict(config.approximate).items() if on]},
        )  # fmt: skip


# --- generate ---------------------------------------------------------------------------------------------------
def pair_tasks(
    config: Config, pairs: list[TestPair], dataset: Dataset | None, path: Callable[[str, int], Path]
) -> list[VideoTask]:
    """One task for each test pair and seed; `path(sample, seed)` says where the video goes."""
    count = condition_frames(config.generation.mode)
    return [
        VideoTask(p.name, seed, p.prompt, path(p.name, seed), partial(pair_frames, p, dataset, config.data, count))
        for p in pairs[: config.generation.max_prompts]
        for seed in config.generation.seeds
    ]


def generate(config: Config, folder: RunFolder, processes: Processes, prepared: Prepared) -> None:
    """Make the test videos; processes share them."""
    tasks = pair_tasks(config, prepared.dataset.pairs, prepared.dataset, folder.video)
    if folder.stage_done("generate", stage_hash(config, "generate")) and all(t.path.is_file() for t in tasks):
        return
    _set_aside(folder, "generate", folder.videos, config, processes)
    with stage("generate", config, folder, processes):
        if not tasks:
            if processes.is_main:
                print("no test pairs: nothing to generate (set data.test_path, or data.test_videos to hold clips out)")
            return
        transformer, _ = load_transformer(prepared.model, dtype_of(config))
        if config.adapter.kind != "none":
            adapters.load_adapter(transformer, folder.adapter_file)
            if config.generation.merge_adapter:
                adapters.merge(transformer)
                transformer.unload_lora()  # the merged weights stay
        pipe = load_pipeline(
            prepared.model,
            transformer,
            load_vae(prepared.model, dtype_of(config)),
            load_guardrail(config.model.guardrail),
        )
        pipe.to(processes.device)
        maker = Generator(config, pipe, prepared.cache.prompt, processes.device)
        maker.make(processes.share(tasks), negative_prompt(config.generation.negative_prompt), show=processes.is_main)
        del pipe, maker, transformer
        _free()


# --- evaluate ---------------------------------------------------------------------------------------------------
def evaluate(config: Config, folder: RunFolder, processes: Processes, prepared: Prepared) -> None:
    """Score every video, then sum up with intervals; processes share the videos."""
    tasks = pair_tasks(config, prepared.dataset.pairs, prepared.dataset, folder.video)
    _set_aside(folder, "evaluate", folder.scores, config, processes)
    with stage("evaluate", config, folder, processes):
        done = {(r["sample"], r["seed"], r["measure"]) for r in read_json_lines(folder.scores)}
        videos = [ScoredVideo(t.sample, t.seed, t.prompt, t.path) for t in tasks]
        judge = (
            load_judge(config.judge, processes.device, config.hardware.mixed_precision, config.seed) if videos else None
        )
        processes.wait()
        mine, show = processes.share(videos), processes.is_main
        workers = max(1, (os.cpu_count() or 1) // processes.size)
        failure = None
        try:
            measure_geometry(mine, config, folder.scores, done, show, workers)
            if judge:
                judge_videos(mine, config, judge, folder.scores, done, cache_root(config) / "judged", show)
        except RunError as error:
            failure = error
        processes.wait()
        if processes.is_main:
            rows = sorted(read_json_lines(folder.scores), key=lambda r: (r["sample"], r["seed"], r["measure"]))
            write_json_lines(folder.scores, rows)
            write_json(folder.metrics, folder.read(folder.metrics) | {"measures": summarize(rows)})
        if failure:
            raise RunError(f"{failure}\nWhat was scored before is kept; the same command with run_dir={folder.path} scores the rest.") from failure  # fmt: skip


def _bar(words: str, unit: str, processes: Processes) -> Callable[[list], Any]:
    return lambda items: tqdm(items, desc=words, unit=unit, disable=None if processes.is_main else True)


def _free() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
