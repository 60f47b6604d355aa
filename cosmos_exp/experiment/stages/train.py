"""The stages that `experiment.run` walks through. They meet in the run folder and in `Prepared`, nowhere else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from cosmos_exp.config.hashing import stage_hash
from cosmos_exp.config.layers import adapted_layers
from cosmos_exp.config.schema import Config
from cosmos_exp.distributed import Processes
from cosmos_exp.experiment.context import Prepared, _free, dtype_of, stage
from cosmos_exp.files import write_json
from cosmos_exp.run_folder import RunFolder
from cosmos_exp.training.loop import Trainer
from cosmos_exp.training.samples import SampleSource
from cosmos_exp.training.schedule import step_plan
from cosmos_exp.training.speed import SpeedMeter
from cosmos_exp.world import adapter as adapters
from cosmos_exp.world import adapter_file
from cosmos_exp.world.approximate import shrink_base
from cosmos_exp.world.flops import training_flops
from cosmos_exp.world.kernels import attention_kernel
from cosmos_exp.world.loading import latent_statistics, load_transformer
from cosmos_exp.world.memory import memory_plan
from cosmos_exp.world.sizes import latent_shape, num_tokens


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
            config,
            transformer,
            parameters,
            source,
            held_out,
            plan,
            folder,
            processes,
            log,
            memory["checkpointing"],
            SpeedMeter(flops, processes.device),
        )
        summary = trainer.train()
        if processes.is_main:
            record = {
                "base_model": config.model.source,
                "revision": config.model.revision,
                "fingerprints": prepared.cache.fingerprints,
                "data_fingerprint": dataset.fingerprint,
                "config_hash": stage_hash(config, "train"),
                "adapter": asdict(config.adapter),
                "seed": config.seed,
            }
            file = adapter_file.save_adapter(transformer, folder.adapter, record)
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
            speed={
                "checkpointing": dict(Counter(checkpointing)),
                "compile": config.hardware.compile,
                "attention": kernel,
                "approximate": [k for k, on in asdict(config.approximate).items() if on],
            }
        )
