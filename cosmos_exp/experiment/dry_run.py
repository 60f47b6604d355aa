"""`dry_run=true`: the plan of a run, from arithmetic and the meta device, and what is missing here for it.

Loads no weights, needs no network, writes nothing.
"""

from __future__ import annotations

from collections import defaultdict

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cosmos_exp.config.hashing import stage_hash
from cosmos_exp.config.layers import (
    adapted_layers,
    layer_ranks,
    layer_scale,
    layer_type,
    transformer_config,
    update_scale,
)
from cosmos_exp.config.rollout import OVERLAP, rollout_frames
from cosmos_exp.config.schema import Config
from cosmos_exp.config.tiling import describe_tiles
from cosmos_exp.experiment.checks import findings, plan_data, server_findings
from cosmos_exp.experiment.cost import Cost, Counts, count_parameters, estimate_cost, memory_in_words
from cosmos_exp.text import printable, redact
from cosmos_exp.training.plan import learning_rates, sample_order

TITLE = "dry run: nothing is loaded, trained or written"
MEASURES = {"recording": "against the recording", "motion": "of motion", "words": "of the prompt's words"}

Rows = list[tuple[str, str]]  # (what, value)


def print_plan(config: Config) -> list[str]:
    """Print the plan, and below it what was found here for it. Returns the names of what is missing here.

    Raises:
        RunError: bad videos, none is left to train on, nothing would be scored, or a check of the sizes failed.
    """
    table = Table(title=TITLE, show_header=False, title_justify="left")
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for name, value in rows(config):
        table.add_row(name, Text(redact(printable(value))))
    table.add_section()
    missing = []
    for finding in [*findings(config), *server_findings(config)]:
        mark = {"ok": "", "warn": "warning: ", "FAIL": "MISSING: "}[finding.level]
        table.add_row(f"here: {finding.what}", Text(redact(printable(mark + finding.text))))
        if finding.level == "FAIL":
            missing.append(finding.what)
    console = Console()
    if not console.is_terminal:
        console = Console(width=140)
    console.print(table, highlight=False)
    return missing


def rows(config: Config) -> Rows:
    """The plan as (what, value).

    Raises:
        RunError: as `print_plan`.
    """
    counts = count_parameters(config)
    cost = estimate_cost(config, counts.base, counts.trainable)
    return [
        *_model_rows(config, counts),
        *_training_rows(config),
        *_cost_rows(config, cost),
        *_output_rows(config, cost),
    ]


def _model_rows(config: Config, counts: Counts) -> Rows:
    model, adapter = config.model, config.adapter
    revision = f" at {model.revision}" if model.revision else ""
    described = "none: the base model is evaluated"
    if adapter.kind != "none":
        scale = f"{adapter.scaling} scale {update_scale(adapter):g}"
        described = f"{adapter.kind}, rank {adapter.rank}, alpha {adapter.alpha:g}, {scale}"
    return [
        ("model", f"{model.name}: {model.source}{revision}"),
        ("components", "transformer, vae, text_encoder, tokenizer, scheduler"),
        ("guardrail", model.guardrail),
        ("base parameters", f"{counts.base:,} in the transformer, frozen"),
        ("adapter", described),
        *_pattern_rows(config),
        ("adapted layers", f"{counts.layers} ({', '.join(adapter.target_modules)})"),
        ("trainable parameters", f"{counts.trainable:,} ({counts.trainable / 1e6:.3f} M)"),
    ]


def _pattern_rows(config: Config) -> Rows:
    """The layers of each rank and scale, if adapter.rank_pattern or adapter.alpha_pattern sets some apart."""
    adapter = config.adapter
    if adapter.kind == "none" or not (adapter.rank_pattern or adapter.alpha_pattern):
        return []
    layers = adapted_layers(transformer_config(config.model), adapter.target_modules)
    groups: dict[tuple[int, float], list[str]] = defaultdict(list)
    for name, rank in layer_ranks(layers, adapter).items():
        groups[rank, layer_scale(adapter, name)].append(layer_type(name))
    words = []
    for (rank, scale), types in sorted(groups.items()):
        words.append(f"rank {rank}, scale {scale:g}: {len(types)} layers ({', '.join(sorted(set(types)))})")
    return [("ranks by layer", "; ".join(words))]


def _training_rows(config: Config) -> Rows:
    training, plan = config.training, plan_data(config)
    data = plan.rows()
    for tiles in describe_tiles(config.data):
        data.append(("tiles", tiles))
    if config.adapter.kind == "none":
        return data
    order = sample_order(plan.train, training, config.seed)
    rates = learning_rates(order, training)
    stop = f", stopped at {training.max_steps}" if training.max_steps else ""
    samples = order.samples_before(order.num_steps)
    return [
        *data,
        ("optimizer steps", f"{order.num_steps:,} ({order.steps_per_epoch} per epoch, {training.epochs} epochs{stop})"),
        ("samples", f"{samples:,}, global batch {training.global_batch_size}"),
        ("processes", _processes(config)),
        ("learning rate", f"start {rates[0]:.3g}, peak {max(rates):.3g}, end {rates[-1]:.3g}"),
    ]


def _processes(config: Config) -> str:
    hardware, batch = config.hardware, config.training.global_batch_size
    count, slots = hardware.all_processes, -(-batch // hardware.samples_per_forward)
    text = (
        f"{count} on {hardware.device}, mixed precision {hardware.mixed_precision}; {slots} forward passes per optimizer step "
        f"of at most {min(batch, hardware.samples_per_forward)} samples, {-(-slots // count)} per process"
    )
    if count > slots:
        text += (
            f"; {count - slots} PROCESSES IDLE in training. Set hardware.samples_per_forward={max(1, batch // count)} or "
            f"training.global_batch_size={count * hardware.samples_per_forward}"
        )
    return text


def _cost_rows(config: Config, cost: Cost) -> Rows:
    data = config.data
    rate = "the file's frame rate" if data.fps is None else f"{data.fps:g} fps"
    channels, frames, height, width = cost.shape
    return [
        ("video", f"{data.num_frames} frames, {data.height}x{data.width}, {rate}"),
        ("latent", f"{channels} channels x {frames} latent frames x {height} x {width}"),
        ("tokens", f"{cost.tokens:,} per sample"),
        ("memory", memory_in_words(config, cost)),
        ("work per sample", f"{cost.sample_flops:.3g} floating-point operations, without recomputation"),
    ]


def _output_rows(config: Config, cost: Cost) -> Rows:
    generation, judge = config.generation, config.judge
    guidance = f"guidance {generation.guidance_scale:g}" if generation.guidance_scale > 1 else "no guidance"
    seeds = f"{len(generation.seeds)} seeds per test pair"
    scores = ["Sampson error"] if config.sampson.enabled else []
    for key, words in MEASURES.items():
        if getattr(config.measures, key):
            scores.append(f"measures {words}")
    if judge.name != "none":
        scores.append(judge.source or judge.name)
    return [
        ("test videos", f"{generation.mode}, {seeds}, {generation.num_steps} steps, {guidance}"),
        *_rollout_rows(config, cost),
        ("scores", ", ".join(scores) or "none"),
        ("outputs", config.run_dir or f"outputs/{config.name}/<timestamp>"),
        ("config hash", stage_hash(config)),
    ]


def _rollout_rows(config: Config, cost: Cost) -> Rows:
    """Length and cost of a video of several chunks."""
    generation, counts = config.generation, config.training.condition_frames
    if generation.chunks == 1:
        return []
    frames = rollout_frames(config)
    passes = generation.num_steps * (2 if generation.guidance_scale > 1 else 1)
    rows = [
        (
            "rollout",
            f"{generation.chunks} chunks of {config.data.num_frames} frames, each later one conditioned on the last {OVERLAP} "
            f"before it: {frames} frames, {frames / generation.fps:.1f} s at {generation.fps:g} fps",
        ),
        (
            "cost per video",
            f"{generation.chunks} x {passes} forward passes, {cost.video_flops:.3g} floating-point operations, "
            f"{generation.chunks} times those of one chunk; the memory of one chunk",
        ),
    ]
    if config.adapter.kind != "none" and not counts.get(2):
        never = f"training.condition_frames={counts} never shows the adapter two conditioning latent frames"
        rows.append(("rollout", f"NOTE: {never}, and every chunk after the first has two"))
    return rows
