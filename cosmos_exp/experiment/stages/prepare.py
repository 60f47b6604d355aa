"""The stages that `experiment.run` walks through. They meet in the run folder and in `Prepared`, nowhere else."""

from __future__ import annotations

from cosmos_exp.config.paths import cache_root
from cosmos_exp.config.schema import Config
from cosmos_exp.data.cache import RunCache
from cosmos_exp.data.dataset import Dataset, load_dataset
from cosmos_exp.data.windows import window_starts
from cosmos_exp.distributed import Processes
from cosmos_exp.errors import RunError
from cosmos_exp.experiment.context import Prepared, _bar, _free, dtype_of, stage
from cosmos_exp.run_folder import RunFolder
from cosmos_exp.world.encoders import Encoders
from cosmos_exp.world.model_folder import ModelFolder, resolve
from cosmos_exp.world.pipeline import negative_prompt


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
            for prompt in _bar("encoding prompts", "prompt", processes)(processes.shard(left_prompts)):
                cache.encode_prompt(encoders, prompt)
            for window in _bar("encoding windows", "window", processes)(processes.shard(left_windows)):
                cache.encode_window(encoders, window)
        processes.barrier()
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
                "train": [c.clip.name for c in dataset.train],
                "validation": [c.clip.name for c in dataset.validation],
                "test": [p.name for p in dataset.pairs],
                "left_out": dataset.left_out,
                "notes": dataset.notes,
            },
            model={
                "path": str(model.path),
                "source": config.model.source,
                "revision": config.model.revision,
                "random_weights": model.random,
                "fingerprints": prints,
            },
            labels={"random_weights": model.random},
        )
    processes.barrier()
