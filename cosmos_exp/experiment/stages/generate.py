"""Stage 3: make the test videos."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from diffusers import Cosmos2_5_PredictBasePipeline

from cosmos_exp.config.context import RunContext
from cosmos_exp.config.hashing import stage_hash
from cosmos_exp.config.schema import Config
from cosmos_exp.data.dataset import Dataset, pair_frames
from cosmos_exp.data.readers.records import TestPair
from cosmos_exp.experiment.stages.common import dtype_of, free_memory, recorded_stage, set_aside
from cosmos_exp.experiment.stages.prepare import Inputs
from cosmos_exp.generation.videos import Generator, VideoTask, num_conditioning_frames
from cosmos_exp.world import adapter as adapters
from cosmos_exp.world.adapter_file import load_adapter
from cosmos_exp.world.guardrail import load_guardrail
from cosmos_exp.world.loading import load_transformer, load_vae
from cosmos_exp.world.pipeline import load_pipeline, negative_prompt


def generate(context: RunContext, inputs: Inputs) -> None:
    """Make the videos that do not exist yet; the processes divide them.

    Raises:
        RunError: the guardrail refuses a prompt.
    """
    config, folder, processes = context.config, context.folder, context.processes
    tasks = pair_tasks(config, inputs.dataset.pairs, inputs.dataset, folder.video)
    if folder.stage_done("generate", stage_hash(config, "generate")) and all(t.path.is_file() for t in tasks):
        return
    set_aside(context, "generate", folder.videos)
    with recorded_stage("generate", context):
        if not tasks:
            if processes.is_main:
                print(
                    "no test pairs: nothing to generate. Set data.test_path, or hold clips out with data.test_videos."
                )
            return
        generator = Generator(config, _pipeline(context, inputs), inputs.cache.prompt, processes.device)
        negative = negative_prompt(config.generation.negative_prompt)
        generator.make(processes.shard(tasks), negative, show=processes.is_main)
        del generator
        free_memory()


def pair_tasks(
    config: Config, pairs: list[TestPair], dataset: Dataset | None, path: Callable[[str, int], Path]
) -> list[VideoTask]:
    """One task per test pair and seed; `path(sample, seed)` is the video's file."""
    count = num_conditioning_frames(config.generation.mode)
    return [
        VideoTask(p.name, seed, p.prompt, path(p.name, seed), partial(pair_frames, p, dataset, config.data, count))
        for p in pairs[: config.generation.max_prompts]
        for seed in config.generation.seeds
    ]


def _pipeline(context: RunContext, inputs: Inputs) -> Cosmos2_5_PredictBasePipeline:
    """diffusers' pipeline with the run's adapter, merged unless generation.merge_adapter=false."""
    config = context.config
    transformer, _ = load_transformer(inputs.model, dtype_of(config))
    if config.adapter.kind != "none":
        load_adapter(transformer, context.folder.adapter_file)
        if config.generation.merge_adapter:
            adapters.merge(transformer)
            transformer.unload_lora()  # the merged weights stay
    vae = load_vae(inputs.model, dtype_of(config))
    pipe = load_pipeline(inputs.model, transformer, vae, load_guardrail(config.model.guardrail))
    return pipe.to(context.processes.device)
