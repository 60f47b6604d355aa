"""Stage 3: make the test videos."""

from __future__ import annotations

from diffusers import Cosmos2_5_PredictBasePipeline

from cosmos_exp.config.context import RunContext
from cosmos_exp.config.hashing import stage_hash
from cosmos_exp.errors import UserError
from cosmos_exp.experiment.stages.common import dtype_of, free_memory, recorded_stage, set_aside
from cosmos_exp.experiment.stages.damaged import drop_damaged
from cosmos_exp.experiment.stages.prepare import Inputs
from cosmos_exp.experiment.stages.tasks import probe_pairs, tested_pairs, video_tasks
from cosmos_exp.generation.videos import Generator
from cosmos_exp.run_folder.records import damaged
from cosmos_exp.world import adapter as adapters
from cosmos_exp.world.guardrail import load_guardrail
from cosmos_exp.world.loading import load_transformer, load_vae
from cosmos_exp.world.pipeline import load_pipeline, negative_prompt


def generate(context: RunContext, inputs: Inputs) -> None:
    """Make the videos that do not exist yet; the processes divide them.

    Raises:
        RunError: the guardrail refuses a prompt.
    """
    config, folder, processes = context.config, context.folder, context.processes
    pairs = inputs.dataset.pairs
    pairs = tested_pairs(config, pairs) + probe_pairs(config, pairs)
    tasks = video_tasks(config, pairs, inputs.dataset.held_out, folder.video)
    drop_damaged(context)
    if folder.stage_done("generate", stage_hash(config, "generate")) and all(t.path.is_file() for t in tasks):
        return
    set_aside(context, "generate", folder.videos, folder.references)
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


def _pipeline(context: RunContext, inputs: Inputs) -> Cosmos2_5_PredictBasePipeline:
    """diffusers' pipeline with the run's adapter, merged unless generation.merge_adapter=false."""
    config = context.config
    transformer, _ = load_transformer(inputs.model, dtype_of(config))
    if config.adapter.kind != "none":
        try:
            adapters.load_adapter(transformer, context.folder.adapter_file)
        except UserError as error:
            raise damaged(context.folder.adapter_file, error) from error
        if config.generation.merge_adapter:
            adapters.merge(transformer)
            transformer.unload_lora()  # the merged weights stay
    vae = load_vae(inputs.model, dtype_of(config))
    pipe = load_pipeline(inputs.model, transformer, vae, load_guardrail(config.model.guardrail))
    return pipe.to(context.processes.device)
