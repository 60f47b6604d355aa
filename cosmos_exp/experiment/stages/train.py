"""Stage 2: train the adapter and write its file."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict

from diffusers import CosmosTransformer3DModel
from torch import nn

from cosmos_exp.config.adapter_file import find_adapter
from cosmos_exp.config.context import RunContext
from cosmos_exp.config.hashing import own_keys, stage_hash
from cosmos_exp.config.layers import adapted_layers, layer_ranks
from cosmos_exp.config.schema import Config
from cosmos_exp.errors import UserError
from cosmos_exp.experiment.stages.common import dtype_of, free_memory, recorded_stage
from cosmos_exp.experiment.stages.evaluated import record_training
from cosmos_exp.experiment.stages.prepare import Inputs
from cosmos_exp.files import JsonObject, file_sha256, write_json
from cosmos_exp.training.log import Mirror, SpeedMeter
from cosmos_exp.training.loop import AdaptedModel, Trainer
from cosmos_exp.training.plan import sample_order
from cosmos_exp.training.samples import SampleSource
from cosmos_exp.world import adapter as adapters
from cosmos_exp.world.hardware import latent_shape, memory_estimate, num_tokens, training_flops
from cosmos_exp.world.kernels import attention_kernel, conditions, shrink_base
from cosmos_exp.world.loading import latent_statistics, load_transformer


def train(context: RunContext, inputs: Inputs, mirror: Mirror) -> None:
    """Train, unless there is no adapter or it is trained already.

    Args:
        mirror: called with every row of the training logs.
    """
    config, folder = context.config, context.folder
    if config.adapter.kind == "none" or _is_trained(context):
        return
    _check_begun(context)
    if config.adapter.truncate_from:
        _truncate(context, inputs)
        return
    with recorded_stage("train", context):
        trainer, transformer = _trainer(context, inputs, mirror)
        summary = trainer.train()
        if context.processes.is_main:
            file = adapters.save_adapter(transformer, folder.adapter, _trained_on(context, inputs))
            summary["adapter_mib"] = round(file.stat().st_size / 2**20, 3)
            write_json(folder.metrics, folder.read(folder.metrics) | {"training": summary})
            record_training(folder)
        del trainer, transformer
        inputs.encoders = None
        free_memory()


def _is_trained(context: RunContext) -> bool:
    """Whether the adapter is there, and its summary, or nothing is left to make the summary from."""
    folder = context.folder
    done = folder.stage_done("train", stage_hash(context.config, "train")) and folder.adapter_file.is_file()
    return done and ("training" in folder.read(folder.metrics) or not any(folder.checkpoints.glob("step_*")))


def _check_begun(context: RunContext) -> None:
    """Refuse checkpoints of another training: config.yaml may have been deleted.

    Raises:
        UserError: the training that was begun here has another configuration.
    """
    folder, current = context.folder, stage_hash(context.config, "train")
    if folder.manifest.get("train_begun", current) != current:
        raise UserError(
            f"{folder.checkpoints}: belongs to a training with another configuration. Give the overrides of that run, or "
            "delete checkpoints/ and manifest.json to train this one here."
        )
    if context.processes.is_main:
        folder.update_manifest(train_begun=current)


def _truncate(context: RunContext, inputs: Inputs) -> None:
    """Cut the adapter of another run to this run's rank, in place of a training."""
    from cosmos_exp.world.adapter_truncation import truncate_adapter

    config, folder = context.config, context.folder
    source = find_adapter(folder.path / str(config.adapter.truncate_from))
    with recorded_stage("train", context):
        if context.processes.is_main:
            file = truncate_adapter(source, folder.adapter, config.adapter.rank, _trained_on(context, inputs))
            summary = {"adapter_mib": round(file.stat().st_size / 2**20, 3), "truncated_from": file_sha256(source)}
            write_json(folder.metrics, folder.read(folder.metrics) | {"training": summary})
            record_training(folder)


def _trainer(context: RunContext, inputs: Inputs, mirror: Mirror) -> tuple[Trainer, CosmosTransformer3DModel]:
    config, device, dataset = context.config, context.processes.device, inputs.dataset
    transformer, _ = load_transformer(inputs.model, dtype_of(config))
    parameters = adapters.inject(transformer, config.adapter, config.seed)
    if config.approximate.fp8_base:
        shrink_base(transformer)
    transformer.to(device)

    checkpointing, flops = training_cost(config, transformer, parameters)
    _record_speed_choices(context, transformer, checkpointing)
    statistics = latent_statistics(inputs.model)
    source = SampleSource(config, dataset.train, inputs.cache, statistics, inputs.encoders)
    held_out = None
    if dataset.validation:
        held_out = SampleSource(config, dataset.validation, inputs.cache, statistics, inputs.encoders)
    trainer = Trainer(
        context,
        AdaptedModel(transformer, parameters, config, device, checkpointing),
        sample_order(len(dataset.train), config.training, config.seed),
        source,
        held_out,
        SpeedMeter(flops, device),
        mirror,
    )
    return trainer, transformer


def training_cost(
    config: Config, transformer: CosmosTransformer3DModel, parameters: dict[str, nn.Parameter]
) -> tuple[list[str], float]:
    """The activation checkpointing policy of each block, and a sample's floating-point operations."""
    keys, data = dict(transformer.config), config.data
    shape = latent_shape(config.model.z_dim, data.num_frames, data.height, data.width)
    base = sum(p.numel() for p in transformer.parameters() if not p.requires_grad)
    trainable = sum(p.numel() for p in parameters.values())
    dora = config.adapter.kind == "dora"
    estimate = memory_estimate(
        keys, base, trainable, num_tokens(shape), config.hardware, config.training.global_batch_size, dora
    )
    layers = adapted_layers(keys, config.adapter.target_modules)
    flops = training_flops(keys, shape, config.model.prompt_tokens, layers, layer_ranks(layers, config.adapter))
    return list(estimate["checkpointing"]), flops


def _record_speed_choices(context: RunContext, transformer: CosmosTransformer3DModel, checkpointing: list[str]) -> None:
    config, keys = context.config, transformer.config
    device = context.processes.device
    kernel = attention_kernel(keys.num_attention_heads, keys.attention_head_dim, dtype_of(config), device)
    if context.processes.is_main:
        made = conditions(config, device, kernel)
        manifest = context.folder.manifest
        # Of the parts that were trained before an interruption; earlier versions recorded `speed` alone.
        before = manifest.get("exactness", [{"arithmetic": 1}] if "speed" in manifest else [])
        context.folder.update_manifest(
            exactness=before if made in before else [*before, made],
            speed={
                "checkpointing": dict(Counter(checkpointing)),
                "compile": config.hardware.compile,
                "attention": kernel,
                "approximate": [k for k, on in asdict(config.approximate).items() if on],
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
        "adapter": own_keys(config.adapter),
        "seed": config.seed,
    }
