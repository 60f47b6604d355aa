"""`dry_run=true`: the plan of a run, from arithmetic, and what is missing here for it.

Loads no weights, needs no network, writes nothing.
"""

from __future__ import annotations

from rich.console import Console
from rich.table import Table
from rich.text import Text

from cosmos_exp.config.hashing import stage_hash
from cosmos_exp.config.layers import adapted_layers, transformer_config, update_scale
from cosmos_exp.config.rollout import OVERLAP, rollout_frames
from cosmos_exp.config.schema import Config
from cosmos_exp.data.dataset import find_data, hold_out, load_dataset
from cosmos_exp.experiment.checks import check_dataset, check_scored, findings
from cosmos_exp.experiment.cost import estimate_cost
from cosmos_exp.text import printable, redact
from cosmos_exp.training.plan import learning_rates, sample_order

TITLE = "dry run: nothing is loaded, trained or written"

Rows = list[tuple[str, str]]  # (what, value)


def print_plan(config: Config) -> list[str]:
    """Print the plan, and below it what was found here for it. Returns the names of what is missing here.

    Raises:
        RunError: bad videos, none is left to train on, or nothing would be scored.
    """
    table = Table(title=TITLE, show_header=False, title_justify="left")
    table.add_column(style="bold", no_wrap=True)
    table.add_column()
    missing = []
    shown = plan_rows(config)
    for finding in findings(config):
        mark = {"ok": "", "warn": "warning: ", "FAIL": "MISSING: "}[finding.level]
        shown.append((f"here: {finding.what}", mark + finding.text))
        if finding.level == "FAIL":
            missing.append(finding.what)
    for name, value in shown:
        table.add_row(name, Text(redact(printable(value))))
    console = Console()
    if not console.is_terminal:
        console = Console(width=140)
    console.print(table, highlight=False)
    return missing


def plan_rows(config: Config) -> Rows:
    """The plan as (what, value).

    Raises:
        RunError: as `print_plan`.
    """
    model, data, generation, adapter = config.model, config.data, config.generation, config.adapter
    cost, frames = estimate_cost(config), rollout_frames(config)
    described = "none: the base model is evaluated"
    if adapter.kind == "full":
        described = f"full: all {cost.trainable:,} ({cost.trainable / 1e6:.3f} M) weights of the transformer's matrices are trained"
    elif adapter.kind == "peft":
        described = f"{adapter.method} of peft {adapter.options}: {cost.trainable:,} trainable parameters"
    elif adapter.kind != "none":
        layers = len(adapted_layers(transformer_config(model), adapter.target_modules))
        described = (
            f"{adapter.kind}, rank {adapter.rank}, alpha {adapter.alpha:g}, {adapter.scaling} scale {update_scale(adapter):g}: "
            f"{cost.trainable:,} ({cost.trainable / 1e6:.3f} M) trainable parameters in {layers} layers"
        )
    scores = [judge for judge in [config.judge.source or config.judge.name] if judge != "none"]
    if config.sampson.enabled:
        scores.append("Sampson error")
    scores += [f"measures.{key}" for key, on in config.measures.model_dump().items() if on is True]
    return [
        ("model", f"{model.name}: {model.source} {model.revision or ''}".rstrip()),
        ("adapter", described),
        *_training_rows(config),
        (
            "sample",
            f"{data.num_frames} frames of {data.height}x{data.width}: {cost.tokens:,} tokens, latent {cost.shape}",
        ),
        (
            "test videos",
            f"{generation.mode}, {len(generation.seeds)} seeds per test pair, {generation.num_steps} steps, guidance "
            f"{generation.guidance_scale:g}; {frames} frames, {frames / generation.fps:.1f} s at {generation.fps:g} fps, "
            f"{cost.video_flops:.3g} floating-point operations each",
        ),
        *_rollout_rows(config),
        ("scores", ", ".join(scores) or "none"),
        ("outputs", config.run_dir or f"outputs/{config.name}/<timestamp>"),
        ("config hash", stage_hash(config)),
    ]


def plan_data(config: Config) -> tuple[int, int, Rows]:
    """The numbers of training and validation videos, and what a run would use of the data, as (what, value).

    A local folder is inspected as a run does at its start; nothing is rendered or downloaded.

    Raises:
        RunError: the data has problems, or the run would score nothing.
        UserError: no data is set, or nothing is left to train on.
    """
    data = config.data
    find_data(config)
    if data.path:
        dataset = load_dataset(config)
        notes = [*dataset.notes, *check_dataset(config, dataset)]
        train, validation = len(dataset.train), len(dataset.validation)
        origin = f"{dataset.clips} in {data.path}"
        tests = (
            f"{len(dataset.test)} in the data, {len(dataset.tested) * len(config.generation.seeds)} videos to generate"
        )
        selection = str(len(dataset.selection))
    else:
        videos, origin = data.expected_videos or 0, f"expected from {data.repo_id}, not inspected yet"
        if data.builder:
            videos, origin = data.train_clips, "to be rendered"
        counts, notes = hold_out(data, videos, True, origin), []
        if data.builder and not (data.test_pairs or data.test_path):
            check_scored(config, 0, data.selection_pairs)
        train, validation, origin = counts.train, counts.validation, f"{videos} {origin}"
        tests = data.test_path or data.test_repo_id or f"{data.test_pairs} scenes to be rendered"
        selection = f"{data.selection_pairs} scenes"
    rows = [
        ("training videos", f"{train} of {origin}"),
        ("validation videos", str(validation)),
        ("test prompts", tests),
    ]
    return train, validation, [*rows, ("selection prompts", selection), *(("data", note) for note in notes)]


def _training_rows(config: Config) -> Rows:
    training, hardware = config.training, config.hardware
    videos, held_out, rows = plan_data(config)
    if config.adapter.kind == "none":
        return rows
    order = sample_order(videos, config)
    rates, samples = learning_rates(videos, config), order.samples_before(order.num_steps)
    steps = f"{order.num_steps:,} ({order.steps_per_epoch} per epoch, {training.epochs} epochs), {samples:,} samples"
    count, slots = hardware.all_processes, -(-training.global_batch_size // hardware.samples_per_forward)
    idle = ""
    if count > slots:
        idle = f"; {count - slots} PROCESSES IDLE in training: lower hardware.samples_per_forward or raise the global batch"
    if training.max_steps:
        steps += f", stopped at {training.max_steps} steps"
    if config.adapter.kind == "full":
        rows.append(("memory of full", _memory_of_full(config)))
    return [
        *rows,
        *_validation_rows(config, held_out, samples, order.num_steps),
        ("optimizer steps", f"{steps}, global batch {training.global_batch_size} in {slots} forward passes"),
        ("processes", f"{count} on {hardware.device}, mixed precision {hardware.mixed_precision}{idle}"),
        ("learning rate", f"start {rates[0]:.3g}, peak {max(rates):.3g}, end {rates[-1]:.3g}"),
    ]


def _memory_of_full(config: Config) -> str:
    """What the trained weights need on each device, and what would save some of it."""
    cost = estimate_cost(config)
    parts = [f"{what} {gib:.1f}" for what, gib in cost.state_gib.items()]
    weights, rest = cost.state_gib["fp32 weights"], cost.memory_gib - sum(cost.state_gib.values())
    least = estimate_cost(config.updated({"hardware.checkpointing": "full"})).memory_gib
    return (
        f"GiB on each device: {', '.join(parts)}, activations {rest:.1f}; nothing is sharded. approximate.adamw_8bit=true leaves "
        f"{weights / 2:.1f} of AdamW, hardware.checkpointing=full saves {cost.memory_gib - least:.1f}. bf16 weights would save "
        f"{weights * 1.5:.1f}, but lose small updates: not offered. A checkpoint has {3 * weights:.1f} GiB on disk"
    )


def _validation_rows(config: Config, clips: int, samples: int, steps: int) -> Rows:
    """What the validation loss costs: a training sample takes about three forward passes."""
    validation = config.training.validation
    passes, times = clips * len(validation.sigmas), 2 + (steps - 1) // validation.every_steps
    if not passes:
        return []
    share = 100 * passes * times / (3 * samples)
    words = f"{passes} forward passes ({clips} videos x {len(validation.sigmas)} noise levels), {times} times"
    return [("validation", f"{words}: about {share:.0f} % of the training's time")]


def _rollout_rows(config: Config) -> Rows:
    if config.generation.chunks == 1:
        return []
    words = f"{config.generation.chunks} chunks, each later one conditioned on the last {OVERLAP} frames before it"
    if config.adapter.kind != "none" and not config.training.condition_frames.get(2):
        words += (
            f"; training.condition_frames={config.training.condition_frames} NEVER SHOWS the adapter such a condition"
        )
    return [("rollout", words)]
