"""The model card: a YAML header that the hub understands, the code that loads the adapter, results, recipe and limits.

`card.md.j2` is the card; the code in it is `snippet.py.j2`: plain diffusers, the adapter at its trained scale, the settings
of the run's own videos.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import timedelta
from operator import attrgetter
from pathlib import Path

import jinja2
import pandas as pd
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from markupsafe import Markup

from cosmos_exp.config.layers import adapter_label
from cosmos_exp.config.schema import Config
from cosmos_exp.files import JsonObject
from cosmos_exp.publish.neutral import neutral_text
from cosmos_exp.publish.source import Source
from cosmos_exp.report.tables import interval
from cosmos_exp.text import markdown, one_line
from cosmos_exp.world.hardware import latent_shape

TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).parent), trim_blocks=True, lstrip_blocks=True
)
TEMPLATES.filters["repr"] = repr
TASKS = {"image2world": "image-to-video", "video2world": "video-to-video"}
KINDS = {"lora": "LoRA", "dora": "DoRA", "full": "full fine-tuning"}
DTYPES = {"bf16": "torch.bfloat16", "no": "torch.float32"}
# The rows of the recipe: keys of the configuration, of the training's summary in metrics.json, and of the manifest.
SETTINGS = ("adapter.target_modules", "adapter.dropout", "hardware.mixed_precision", "seed", "data.fps")
TRAINING = (
    "global_batch_size",
    "learning_rate",
    "weight_decay",
    "schedule",
    "max_grad_norm",
    "sigma_shift",
    "sigma_std",
    "condition_frames",
    "text_dropout",
    "ema_power",
)
TEST = ("mode", "chunks", "num_steps", "guidance_scale", "seeds", "fps")
SUMMARY = ("steps", "samples", "train_loss", "validation_loss")


@dataclass(frozen=True)
class Example:
    """A published video: its path in the folder, its prompt and seed, and the number of published conditioning frames."""

    video: str
    prompt: str
    seed: int
    frames: int


def model_card(source: Source, examples: Sequence[Example], repository: str | None) -> ModelCard:
    """The card of a published folder.

    Args:
        examples: the published videos.
        repository: of the folder on the hub; None: it is not known yet.
    """
    config, table = source.run.settings, results(source)
    title = f"{config.name} {adapter_label(config.adapter)}"
    if repository:
        title = repository.partition("/")[2]

    def plain(value: object) -> object:
        """Text of a record for a line or a cell: without private text, markup and line breaks."""
        if isinstance(value, str) and not isinstance(value, Markup):
            return markdown(neutral_text(one_line(value), source.names)).replace("|", "\\|")
        return value

    body = (
        TEMPLATES.overlay(finalize=plain)
        .get_template("card.md.j2")
        .render(
            title=title,
            base=source.base,
            config=config,
            kind=KINDS[source.adapter.kind],
            data=data_words(config),
            snippet=Markup(snippet(source, next(iter(examples), None), repository)),
            recipe=recipe(source),
            examples=examples,
            columns=list(table.columns),
            results=Markup(markdown(table.to_markdown(disable_numparse=True))),
            scale=span(source.adapter.scales.values()),
        )
    )
    return ModelCard(f"---\n{card_data(source, examples, neutral_text(title, source.names))}\n---\n\n{body}\n")


def card_data(source: Source, examples: Sequence[Example], title: str) -> ModelCardData:
    """The header."""
    config, data = source.run.settings, source.run.settings.data
    header = ModelCardData(
        base_model=source.base.repository,
        library_name="diffusers",
        pipeline_tag=TASKS[config.generation.mode],
        tags=[
            source.adapter.kind,
            *(["peft"] if source.adapter.layers else []),
            "world-model",
            "robotics",
            "cosmos-predict2.5",
            "cosmos-exp",
        ],
        model_name=title,
        eval_results=eval_results(source) or None,
        **source.base.licence,
    )
    if data.repo_id and data.path is None:
        header["datasets"] = [data.repo_id]
    if examples:  # the hub's gallery
        header["widget"] = [{"text": example.prompt, "output": {"url": example.video}} for example in examples]
    if source.base.repository:
        header["base_model_relation"] = "adapter" if source.adapter.layers else "finetune"
    return header


def eval_results(source: Source) -> list[EvalResult]:
    """One result per measure that has a mean."""
    run, config, data = source.run, source.run.settings, source.run.settings.data
    kind = "private"
    if data.path is None and data.test_path is None:
        kind = data.test_repo_id or data.repo_id or f"cosmos-exp/{data.builder}"
    entries = []
    for measure, summary in run.metrics.get("measures", {}).items():
        if summary["mean"] is None:
            continue
        entries.append(
            EvalResult(
                task_type=TASKS[config.generation.mode],
                dataset_type=kind,
                dataset_name=data_words(config),
                dataset_split="test",
                dataset_args={"fingerprint": run.manifest.get("data_fingerprint")},
                metric_type=one_line(measure),
                metric_value=summary["mean"],
                metric_args={name: summary.get(name) for name in ("n", "ci_low", "ci_high")},
            )
        )
    return entries


def results(source: Source) -> pd.DataFrame:
    """Means with intervals: one row per measure, columns adapter, base, real (the recordings) and frozen (the held first frame)."""
    arms = {"adapter": source.run.metrics}
    if source.base_run:
        arms["base"] = source.base_run.metrics
    columns = {arm: metrics.get("measures", {}) for arm, metrics in arms.items()}
    for metrics in arms.values():  # references do not depend on the adapter
        columns |= metrics.get("references", {})
    table: dict[str, dict[str, str]] = {}
    for arm, measures in columns.items():
        for measure, summary in measures.items():
            cell = interval(summary["mean"], summary["ci_low"], summary["ci_high"])
            if summary["missing"]:
                cell += f" ({summary['missing']} of {summary['videos']} missing)"
            table.setdefault(arm, {})[neutral_text(one_line(measure), source.names)] = cell
    return pd.DataFrame(table).rename_axis("measure").fillna("-")


def recipe(source: Source) -> JsonObject:
    """How the adapter was trained, on what, where, and how long it took: the rows of the card's table."""
    adapter, config, manifest = source.adapter, source.run.settings, source.run.manifest
    summary, stages = source.run.training, manifest.get("stages", {})
    rule = "alpha / sqrt(rank)" if adapter.rslora else "alpha / rank"
    rows: JsonObject = {"kind": KINDS[adapter.kind]}
    if adapter.layers:
        rows["rank"] = span(adapter.ranks.values())
        rows["alpha"] = span([layer.alpha for layer in adapter.layers.values()])
        rows["scale"] = f"{span(adapter.scales.values())} ({rule})"
    keys = [*SETTINGS, *(f"generation.{key}" for key in TEST)]
    if cut := adapter.record.get("truncated"):
        rows["training"] = f"none: cut from a trained adapter, {cut['kept_energy']:.1%} of its energy kept"
    else:
        keys += [f"training.{key}" for key in TRAINING]
        rows |= {key: summary.get(key) for key in SUMMARY}
        rows["training time"] = str(timedelta(seconds=round(stages.get("train", {}).get("seconds", 0))))
    rows |= {key: attrgetter(key)(config) for key in keys}
    rows["data"] = data_words(config)
    rows["fingerprint of the data"] = manifest.get("data_fingerprint")
    rows["device"] = (manifest.get("exactness") or [{}])[-1].get("processor")
    rows["processes"] = manifest.get("processes")
    rows["peak memory of training, GiB"] = stages.get("train", {}).get("peak_memory_gib")
    rows["commit of cosmos-exp"] = (manifest.get("git") or {}).get("commit")
    shown = {}
    for name, value in rows.items():
        if value not in (None, ""):
            shown[name] = f"{value:.4g}" if isinstance(value, float) else str(value)
    return shown


def snippet(source: Source, example: Example | None, repository: str | None) -> str:
    """Python code that generates the example's video with the adapter.

    Args:
        example: None: the user's own first frame and prompt.
        repository: of the published folder on the hub; None: it is not known yet.
    """
    config = source.run.settings
    generation = config.generation
    if example is None:
        example = Example("", "Your prompt.", (generation.seeds or [0])[0], 0)
    prompt = example.prompt
    if generation.chunk_prompts == "lines" and generation.chunks > 1:
        prompt = prompt.partition("\\n")[0]
    return TEMPLATES.get_template("snippet.py.j2").render(
        config=config,
        base=source.base,
        full=source.adapter.kind == "full",
        repository=repository,
        example=example,
        prompt=prompt,
        scale=span(source.adapter.scales.values()),
        dtype=DTYPES[config.hardware.mixed_precision],
        noise_shape=(1, *latent_shape(config)),
    )


def data_words(config: Config) -> str:
    """The data in words. Folders of a user have no name here."""
    data = config.data
    if data.path is not None or not (data.repo_id or data.builder):
        return f"videos in a folder ({data.reader})"
    if data.repo_id:
        return data.repo_id
    return f"the rendered {data.builder} world of cosmos_exp, {data.look} hands"


def span(values: Collection[float]) -> str:
    """`2`, or `1 to 2` for different values; nothing for none."""
    if not values:
        return ""
    ends = (f"{min(values):.6g}", f"{max(values):.6g}")
    return " to ".join(dict.fromkeys(ends))
