"""The stages that `experiment.run` walks through. They meet in the run folder and in `Prepared`, nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from cosmos_exp.config.hashing import stage_hash
from cosmos_exp.config.schema import Config
from cosmos_exp.data.dataset import Dataset, pair_frames
from cosmos_exp.data.readers.records import TestPair
from cosmos_exp.distributed import Processes
from cosmos_exp.experiment.context import Prepared, _free, _set_aside, dtype_of, stage
from cosmos_exp.generation.videos import Generator, VideoTask, condition_frames
from cosmos_exp.run_folder import RunFolder
from cosmos_exp.world import adapter as adapters
from cosmos_exp.world import adapter_file
from cosmos_exp.world.guardrail import load_guardrail
from cosmos_exp.world.loading import load_transformer, load_vae
from cosmos_exp.world.pipeline import load_pipeline, negative_prompt


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
            adapter_file.load_adapter(transformer, folder.adapter_file)
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
        maker.make(processes.shard(tasks), negative_prompt(config.generation.negative_prompt), show=processes.is_main)
        del pipe, maker, transformer
        _free()
