"""Stage 2: train the adapter and write its file."""

from __future__ import annotations

from collections import Counter

import torch
from diffusers import CosmosTransformer3DModel

from cosmos_exp.config.adapter_file import find_adapter, kind_of
from cosmos_exp.config.context import RunContext
from cosmos_exp.config.hashing import stage_hash
from cosmos_exp.experiment.cost import estimate_cost
from cosmos_exp.experiment.prepare import Inputs
from cosmos_exp.experiment.record import dtype_of, free_memory, recorded_stage
from cosmos_exp.files import JsonObject, file_sha256, write_json
from cosmos_exp.training.log import Mirror, SpeedMeter
from cosmos_exp.training.loop import AdaptedModel, Trainer
from cosmos_exp.training.plan import sample_order
from cosmos_exp.training.samples import SampleSource
from cosmos_exp.world import adapter as adapters
from cosmos_exp.world.kernels import attention_kernel, conditions, shrink_base
from cosmos_exp.world.loading import latent_statistics, load_transformer


def train(context: RunContext, inputs: Inputs, mirror: Mirror) -> None:
    """Train, unless there is no adapter or it is trained already.

    With adapter.truncate_from the adapter of another run is cut to this run's rank instead.

    Args:
        mirror: called with every row of the training logs.
    """
    config, folder = context.config, context.folder
    if config.adapter.kind == "none" or _is_trained(context):
        return
    with recorded_stage("train", context):
        if config.adapter.truncate_from:
            summary = _truncate(context, inputs) if context.processes.is_main else {}
        else:
            trainer = make_trainer(context, inputs, mirror)
            summary = trainer.train()
            if context.processes.is_main:
                record = _trained_on(context, inputs)
                adapters.save_adapter(trainer.model.transformer, folder.adapter, record, inputs.model)
            del trainer
        if context.processes.is_main:
            written = folder.adapter_files()
            summary["adapter_mib"] = round(sum(file.stat().st_size for file in written) / 2**20, 3)
            write_json(folder.metrics, folder.read(folder.metrics) | {"training": summary})
            files = [*written, folder.train_log, folder.validation_log]
            folder.update_manifest(trained={"files": folder.hashes(files)})
        inputs.encoders = None
        free_memory()


def _is_trained(context: RunContext) -> bool:
    """Whether the adapter is there, and its summary, or nothing is left to make the summary from."""
    folder = context.folder
    done = folder.stage_done("train", stage_hash(context.config, "train")) and bool(folder.adapter_files())
    return done and ("training" in folder.read(folder.metrics) or not any(folder.checkpoints.glob("step_*")))


def _truncate(context: RunContext, inputs: Inputs) -> JsonObject:
    """Cut the adapter of another run to this run's rank. Returns the summary."""
    from cosmos_exp.world.adapter_truncation import truncate_adapter, truncate_full

    config, folder, record = context.config, context.folder, _trained_on(context, inputs)
    source = find_adapter(folder.path / str(config.adapter.truncate_from))
    if kind_of(source) == "full":
        return {"truncated_from": truncate_full(source, inputs.model, folder.adapter, config.adapter, record)}
    truncate_adapter(source, folder.adapter, config.adapter.rank, record_extra=record)
    return {"truncated_from": file_sha256(source)}


def make_trainer(context: RunContext, inputs: Inputs, mirror: Mirror) -> Trainer:
    """The trainer of a run, its model loaded. What it chose for speed is recorded."""
    config, device, dataset = context.config, context.processes.device, inputs.dataset
    is_full = config.adapter.kind == "full"
    transformer, _ = load_transformer(inputs.model, torch.float32 if is_full else dtype_of(config))
    parameters = adapters.inject(transformer, config.adapter, config.seed)
    if config.approximate.fp8_base:
        shrink_base(transformer)
    transformer.to(device)

    trainable = sum(p.numel() for p in parameters.values())
    base = transformer.num_parameters() - (0 if is_full else trainable)
    cost = estimate_cost(config, base, dict(transformer.config))
    _record_speed_choices(context, transformer, cost.checkpointing)
    statistics = latent_statistics(inputs.model)
    source = SampleSource(config, dataset.train, inputs.cache, statistics, inputs.encoders)
    held_out = None
    if dataset.validation:
        held_out = SampleSource(config, dataset.validation, inputs.cache, statistics, inputs.encoders)
    return Trainer(
        context,
        AdaptedModel(transformer, parameters, config, device, cost.checkpointing),
        sample_order(len(dataset.train), config),
        source,
        held_out,
        SpeedMeter(cost.sample_flops, device),
        mirror,
    )


def _record_speed_choices(context: RunContext, transformer: CosmosTransformer3DModel, checkpointing: list[str]) -> None:
    config, device = context.config, context.processes.device
    kernel = attention_kernel(transformer, dtype_of(config), device, config.training.deterministic)
    if not context.processes.is_main:
        return
    exactness = context.folder.manifest.get("exactness", [])  # of the parts that were trained before an interruption
    made = conditions(config, device, kernel)
    if made not in exactness:
        exactness.append(made)
    context.folder.update_manifest(
        exactness=exactness,
        speed={
            "checkpointing": dict(Counter(checkpointing)),
            "compile": config.hardware.compile,
            "attention": kernel,
            "approximate": [key for key, on in config.approximate.model_dump().items() if on],
        },
    )


def _trained_on(context: RunContext, inputs: Inputs) -> JsonObject:
    """The record in the adapter file's header."""
    config = context.config
    return {
        "base_model": config.model.source,
        "revision": config.model.revision,
        "fingerprints": inputs.cache.fingerprints,
        "data_fingerprint": inputs.dataset.fingerprint,
        "config_hash": stage_hash(config, "train"),
        "adapter": config.adapter.model_dump(),
        "seed": config.seed,
    }
