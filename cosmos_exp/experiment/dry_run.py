"""`dry_run=true`: what a run would do, from arithmetic and the meta device. Loads no weights, needs no network."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from cosmos_exp.config.hashing import stage_hash
from cosmos_exp.config.layers import adapted_layers, trainable_parameters, transformer_config
from cosmos_exp.config.schema import Config
from cosmos_exp.errors import RunError, UserError
from cosmos_exp.training.schedule import learning_rate, step_plan
from cosmos_exp.world.flops import training_flops
from cosmos_exp.world.memory import memory_plan, training_memory_gib
from cosmos_exp.world.sizes import latent_shape, num_tokens


def num_videos(config: Config) -> tuple[int, str]:
    """Training videos, and where the number comes from."""
    from cosmos_exp.data.readers.registry import read_episodes

    data = config.data
    held = data.validation_videos + data.test_videos
    if data.path:
        found = read_episodes(data, Path(data.path))
        if found.problems and not data.skip_bad:
            raise RunError(f"{len(found.problems)} problems in {data.path}, the first: {found.problems[0]}")
        return len(found.clips) - held, f"{len(found.clips)} in {data.path}, {held} held out"
    if data.builder:
        return data.train_clips - held, f"{data.train_clips} to be rendered, {held} held out"
    if data.expected_videos:
        return data.expected_videos - held, f"{data.expected_videos} expected from {data.repo_id}, not looked at yet"
    raise UserError("data.path: where is the data? Give data.path=DIR")


def meta_counts(config: Config) -> dict[str, int]:
    """Base and trainable parameters and wrapped layers of the real classes, built on the meta device."""
    import torch
    from diffusers import CosmosTransformer3DModel
    from peft.tuners.lora import LoraLayer

    from cosmos_exp.world.adapter import inject

    keys = transformer_config(config.model)
    with torch.device("meta"):
        model = CosmosTransformer3DModel(
            **keys,
            extra_pos_embed_type=None,
            use_crossattn_projection=True,
            crossattn_proj_in_channels=config.model.text_channels,
            encoder_hidden_states_channels=keys["text_embed_dim"],
        )
        base = sum(p.numel() for p in model.parameters())
        if config.adapter.kind == "none":
            return {"base": base, "trainable": 0, "layers": 0}
        trainable = sum(p.numel() for p in inject(model.requires_grad_(False), config.adapter, 0).values())
    return {"base": base, "trainable": trainable, "layers": sum(isinstance(m, LoraLayer) for m in model.modules())}


def rows(config: Config) -> list[tuple[str, str]]:
    """(what, figure) of the plan.

    Raises:
        RunError: arithmetic and the real classes disagree.
    """
    counts = meta_counts(config)
    keys = transformer_config(config.model)
    layers = adapted_layers(keys, config.adapter.target_modules)
    if counts["trainable"] != trainable_parameters(
        layers, config.adapter.kind, config.adapter.rank, config.adapter.bias
    ):
        raise RunError(f"check failed: {counts['trainable']} trainable parameters, arithmetic gives another number")
    return [
        *_model_rows(config, counts),
        *_training_rows(config),
        *_cost_rows(config, counts, keys),
        *_output_rows(config),
    ]


def _model_rows(config: Config, counts: dict[str, int]) -> list[tuple[str, str]]:
    model, adapter = config.model, config.adapter
    divisor = adapter.rank if adapter.scaling == "standard" else adapter.rank**0.5
    where = f"{model.source}" + (f" at {model.revision}" if model.revision else "")
    return [
        ("model", f"{model.name}: {where}"),
        ("components", "transformer, vae, text_encoder, tokenizer, scheduler"),
        ("guardrail", model.guardrail),
        ("base parameters", f"{counts['base']:,} in the transformer, frozen"),
        (
            "adapter",
            "none: the base model is evaluated"
            if adapter.kind == "none"
            else f"{adapter.kind}, rank {adapter.rank}, alpha {adapter.alpha:g}, {adapter.scaling} scale {adapter.alpha / divisor:g}",
        ),
        ("wrapped layers", f"{counts['layers']} ({', '.join(adapter.target_modules)})"),
        ("trainable parameters", f"{counts['trainable']:,} ({counts['trainable'] / 1e6:.3f} M)"),
    ]


def _training_rows(config: Config) -> list[tuple[str, str]]:
    videos, source = num_videos(config)
    rows = [("training videos", f"{videos} ({source})")]
    if config.adapter.kind == "none":
        return rows
    if videos < 1:
        raise RunError("no video is left to train on; hold fewer out (data.validation_videos, data.test_videos)")
    training, hardware = config.training, config.hardware
    plan = step_plan(videos, training, config.seed)
    total = plan.samples_before(plan.num_steps)
    rates = [learning_rate(plan.samples_before(s), training) for s in range(plan.num_steps)]
    each = -(-training.global_batch_size // hardware.num_processes)
    at_once = min(each, hardware.samples_per_forward)
    return [
        *rows,
        (
            "optimizer steps",
            f"{plan.num_steps:,} ({plan.steps_per_epoch} an epoch, {training.epochs} epochs"
            + (f", stopped at {training.max_steps}" if training.max_steps else "")
            + ")",
        ),
        ("samples", f"{total:,}, global batch {training.global_batch_size}"),
        (
            "processes",
            f"{hardware.num_processes} on {hardware.device}, {hardware.mixed_precision} mixed precision; each takes "
            f"{each} of the batch, {at_once} at once, accumulation {-(-each // at_once)}",
        ),
        ("learning rate", f"start {rates[0]:.3g}, peak {max(rates):.3g}, end {rates[-1]:.3g}"),
    ]


def _cost_rows(config: Config, counts: dict[str, int], keys: dict[str, Any]) -> list[tuple[str, str]]:
    data, hardware = config.data, config.hardware
    shape = latent_shape(config.model.z_dim, data.num_frames, data.height, data.width)
    share = -(-config.training.global_batch_size // hardware.num_processes)
    plan = memory_plan(
        keys, counts["base"], counts["trainable"], num_tokens(shape), hardware, share, config.adapter.kind == "dora"
    )
    need = training_memory_gib(plan)
    policies = ", ".join(f"{n} blocks {p}" for p, n in Counter(plan["checkpointing"]).items())
    layers = adapted_layers(keys, config.adapter.target_modules)
    flops = training_flops(keys, shape, config.model.prompt_tokens, layers, config.adapter.rank)
    fits = (
        ""
        if hardware.memory_gb is None
        else (" - fits" if need < 0.92 * hardware.memory_gb else " - MAY NOT FIT") + f" {hardware.memory_gb:g} GB"
    )
    return [
        (
            "video",
            f"{data.num_frames} frames, {data.height}x{data.width}, {'rate as it comes' if data.fps is None else f'{data.fps:g} fps'}",
        ),
        ("latent", f"{shape[0]} channels x {shape[1]} latent frames x {shape[2]} x {shape[3]}"),
        ("tokens", f"{num_tokens(shape):,} a sample"),
        (
            "memory",
            f"about {need:.1f} GiB a process while training, checkpointing {hardware.checkpointing} ({policies}){fits}",
        ),
        ("work a sample", f"{flops:.3g} floating-point operations that training cannot do without"),
    ]


def _output_rows(config: Config) -> list[tuple[str, str]]:
    generation = config.generation
    guidance = f"guidance {generation.guidance_scale:g}" if generation.guidance_scale > 1 else "no guidance"
    measures = (["Sampson error"] if config.sampson.enabled else []) + (
        [config.judge.source or config.judge.name] if config.judge.name != "none" else []
    )
    return [
        (
            "test videos",
            f"{generation.mode}, {len(generation.seeds)} seeds a test pair, {generation.num_steps} steps, {guidance}",
        ),
        ("scores", ", ".join(measures) or "none"),
        ("outputs", config.run_dir or f"outputs/{config.name}/<timestamp>"),
        ("config hash", stage_hash(config)),
    ]


def print_plan(config: Config) -> None:
    """The plan as a table on the terminal."""
    table = Table(title="dry run: nothing is loaded, trained or written", show_header=False, title_justify="left")
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for name, value in rows(config):
        table.add_row(name, value)
    Console(width=None if Console().is_terminal else 140).print(table, highlight=False)
