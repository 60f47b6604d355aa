"""`dry_run=true`: the plan of a run, from arithmetic and the meta device. Loads no weights, needs no network."""

from __future__ import annotations

from collections.abc import Sequence

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
from cosmos_exp.errors import UserError
from cosmos_exp.experiment.cost import Counts, Rows, cost_rows, count_parameters, video_flops
from cosmos_exp.experiment.data_plan import plan_data
from cosmos_exp.experiment.preflight import Finding, findings
from cosmos_exp.metrics.judges.reachable import server_warning
from cosmos_exp.text import printable, redact
from cosmos_exp.training.plan import learning_rates, sample_order

TITLE = "dry run: nothing is loaded, trained or written"


def rows(config: Config) -> Rows:
    """The plan as (what, value).

    Raises:
        RunError: bad videos, none is left to train on, nothing would be scored, or a check of the sizes failed.
    """
    counts = count_parameters(config)
    return [*_model_rows(config, counts), *_training_rows(config), *cost_rows(config, counts), *_output_rows(config)]


def plan_table(config: Config, found: Sequence[Finding]) -> Table:
    """The plan, and below it what was found here for it."""
    table = Table(title=TITLE, show_header=False, title_justify="left")
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    for name, value in rows(config):
        table.add_row(name, Text(redact(printable(value))))
    table.add_section()
    for finding in found:
        table.add_row(f"here: {finding.name}", Text(redact(printable(_shown(finding)))))
    return table


def print_plan(config: Config) -> list[str]:
    """Print the plan. Returns the names of what is missing here."""
    found = findings(config)
    Console(width=None if Console().is_terminal else 140).print(plan_table(config, found), highlight=False)
    if warning := server_warning(config.judge):
        print(f"warning: {warning}")
    return [f.name for f in found if not f.ok]


def _shown(finding: Finding) -> str:
    return finding.text if finding.ok else f"MISSING: {finding.text}"


def _model_rows(config: Config, counts: Counts) -> Rows:
    model, adapter = config.model, config.adapter
    scale = f"{adapter.scaling} scale {update_scale(adapter):g}"
    described = f"{adapter.kind}, rank {adapter.rank}, alpha {adapter.alpha:g}, {scale}"
    return [
        ("model", f"{model.name}: {model.source}" + (f" at {model.revision}" if model.revision else "")),
        ("components", "transformer, vae, text_encoder, tokenizer, scheduler"),
        ("guardrail", model.guardrail),
        ("base parameters", f"{counts.base:,} in the transformer, frozen"),
        ("adapter", "none: the base model is evaluated" if adapter.kind == "none" else described),
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
    groups: dict[tuple[int, float], list[str]] = {}
    for name, rank in layer_ranks(layers, adapter).items():
        groups.setdefault((rank, layer_scale(adapter, name)), []).append(name)
    words = [
        f"rank {rank}, scale {scale:g}: {len(names)} layers ({', '.join(sorted({layer_type(n) for n in names}))})"
        for (rank, scale), names in sorted(groups.items())
    ]
    return [("ranks by layer", "; ".join(words))]


def _training_rows(config: Config) -> Rows:
    plan = plan_data(config)
    videos = plan.train
    first = [*plan.rows(), *(("tiles", t) for t in describe_tiles(config.data))]
    if config.adapter.kind == "none":
        return first
    if videos < 1:
        raise UserError("data: no video is left to train on. Lower data.validation_videos or data.test_videos.")
    training = config.training
    order = sample_order(videos, training, config.seed)
    lrs = learning_rates(order, training)
    stop = f", stopped at {training.max_steps}" if training.max_steps else ""
    steps = f"{order.num_steps:,} ({order.steps_per_epoch} per epoch, {training.epochs} epochs{stop})"
    samples = order.samples_before(order.num_steps)
    return [
        *first,
        ("optimizer steps", steps),
        ("samples", f"{samples:,}, global batch {training.global_batch_size}"),
        ("processes", _processes(config)),
        ("learning rate", f"start {lrs[0]:.3g}, peak {max(lrs):.3g}, end {lrs[-1]:.3g}"),
    ]


def _processes(config: Config) -> str:
    hardware, batch = config.hardware, config.training.global_batch_size
    count, slots = hardware.all_processes, -(-batch // hardware.samples_per_forward)
    text = (
        f"{count} on {hardware.device}, mixed precision {hardware.mixed_precision}; {slots} forward passes per optimizer step "
        f"of at most {min(batch, hardware.samples_per_forward)} samples, {-(-slots // count)} per process"
    )
    if count > slots:
        each = max(1, batch // count)
        text += f"; {count - slots} PROCESSES IDLE in training. Set hardware.samples_per_forward={each}"
        text += f" or training.global_batch_size={count * hardware.samples_per_forward}"
    return text


def _output_rows(config: Config) -> Rows:
    generation, judge = config.generation, config.judge
    guidance = f"guidance {generation.guidance_scale:g}" if generation.guidance_scale > 1 else "no guidance"
    seeds = f"{len(generation.seeds)} seeds per test pair"
    names = {"recording": "against the recording", "motion": "of motion", "words": "of the prompt's words"}
    measures = ["Sampson error"] if config.sampson.enabled else []
    measures += [f"measures {text}" for key, text in names.items() if getattr(config.measures, key)]
    measures += [judge.source or judge.name] if judge.name != "none" else []
    return [
        ("test videos", f"{generation.mode}, {seeds}, {generation.num_steps} steps, {guidance}"),
        *_rollout_rows(config),
        ("scores", ", ".join(measures) or "none"),
        ("outputs", config.run_dir or f"outputs/{config.name}/<timestamp>"),
        ("config hash", stage_hash(config)),
    ]


def _rollout_rows(config: Config) -> Rows:
    """Length and cost of a video of several chunks."""
    data, generation, training = config.data, config.generation, config.training
    if generation.chunks == 1:
        return []
    frames = rollout_frames(config)
    passes = generation.num_steps * (2 if generation.guidance_scale > 1 else 1)
    length = (
        f"{generation.chunks} chunks of {data.num_frames} frames, each later one conditioned on the last {OVERLAP} before it: "
        f"{frames} frames, {frames / generation.fps:.1f} s at {generation.fps:g} fps"
    )
    cost = (
        f"{generation.chunks} x {passes} forward passes, {video_flops(config):.3g} floating-point operations, "
        f"{generation.chunks} times those of one chunk; the memory of one chunk"
    )
    rows = [("rollout", length), ("cost per video", cost)]
    if config.adapter.kind != "none" and not training.condition_frames.get(2):
        never = f"training.condition_frames={training.condition_frames} never shows the adapter two conditioning latent frames"
        rows.append(("rollout", f"NOTE: {never}, and every chunk after the first has two"))
    return rows
