"""The model card: a YAML header that the hub understands, the code that loads the adapter, results, recipe and limits.

Built by huggingface_hub from `card.md.j2`; the code in it is `snippet.py.j2`: plain diffusers, the adapter at its trained
scale, the settings of the run's own videos.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path

import jinja2
import pandas as pd
from huggingface_hub import EvalResult, ModelCard, ModelCardData

from cosmos_exp.config.layers import pattern_labels
from cosmos_exp.config.measures import measure_info, split_main
from cosmos_exp.config.registry import VAE_CLASSES
from cosmos_exp.config.schema import Config
from cosmos_exp.files import JsonObject
from cosmos_exp.publish.neutral import shown
from cosmos_exp.publish.source import Arm, Source
from cosmos_exp.report.runs import Run
from cosmos_exp.report.tables import claims_markdown, drift_markdown, measures_markdown
from cosmos_exp.text import markdown as plain_markdown
from cosmos_exp.text import no_html, one_line

TEMPLATES = Path(__file__).parent
TASKS = {"image2world": "image-to-video", "video2world": "video-to-video"}
KINDS = {"lora": "LoRA", "dora": "DoRA"}
DTYPES = {"bf16": "torch.bfloat16", "no": "torch.float32"}
PRECISIONS = {"bf16": "bf16 base, fp32 adapter", "no": "fp32"}
STAGES = ("prepare", "train", "generate", "evaluate")
MARKUP = "\\`*_{}[]|~$#!"


@dataclass(frozen=True)
class Example:
    """A published video.

    video: its path in the published folder.
    prompt: the text that it was generated from.
    frames: number of published conditioning frames.
    arm: the adapter's name in a sweep; empty for a single run.
    """

    video: str
    prompt: str
    seed: int
    frames: int
    arm: str = ""

    @property
    def title(self) -> str:
        """The prompt, in a sweep with its adapter."""
        return ": ".join(filter(None, (self.arm, self.prompt)))


def model_card(source: Source, examples: Sequence[Example], files: pd.DataFrame, repository: str | None) -> ModelCard:
    """The card of a published folder.

    Args:
        examples: the published videos.
        files: one row per adapter: folder, hash, parameters, MiB.
        repository: of the folder on the hub; None: it is not known yet.
    """
    first, names, study = source.arms[0], source.names, source.study
    title = shown(source.title, names)
    if repository:
        title = repository.partition("/")[2]
    recipes = pd.DataFrame([recipe(arm) for arm in source.arms], index=[arm.name for arm in source.arms]).fillna("-")
    is_shared = recipes.nunique() == 1
    parts = {"results": "", "drift": "", "claims": ""}
    if study.means["mean"].notna().any():
        parts["results"] = _from_report(measures_markdown(study), names)
    if len(study.drift):
        parts["drift"] = _from_report(drift_markdown(study), names)
    if study.claims:
        parts["claims"] = _from_report(claims_markdown(study), names)
    return ModelCard.from_template(
        card_data(source, examples, title),
        template_path=str(TEMPLATES / "card.md.j2"),
        title=title,
        source=source,
        config=first.run.settings,
        kinds=" and ".join(sorted({KINDS[arm.adapter.kind] for arm in source.arms})),
        data=data_words(first.run.settings),
        snippet=snippet(first, source, next(iter(examples), None), repository),
        recipe=recipes.loc[first.name, is_shared].to_dict(),
        differing=recipes.loc[:, ~is_shared],
        notes=[escaped(shown(note, names)) for note in study.notes],
        examples=examples,
        files=files,
        autoencoder=_autoencoder_file(source),
        cell=lambda text: no_html(shown(one_line(text), names)).replace("|", "\\|").replace("](", "]&#40;"),
        escaped=escaped,
        scales={arm.name: span(arm.adapter.scales.values()) for arm in source.arms},
        **parts,
    )


def card_data(source: Source, examples: Sequence[Example], title: str) -> ModelCardData:
    """The header."""
    config, data = source.arms[0].run.settings, source.arms[0].run.settings.data
    kinds = sorted({arm.adapter.kind for arm in source.arms})
    datasets = None
    if data.repo_id and data.path is None:
        datasets = [data.repo_id]
    header = ModelCardData(
        base_model=source.base.repository,
        library_name="diffusers",
        pipeline_tag=TASKS[config.generation.mode],
        datasets=datasets,
        tags=[*kinds, "peft", "world-model", "robotics", "cosmos-predict2.5", "cosmos-exp"],
        model_name=title,
        eval_results=eval_results(source) or None,
        **source.base.licence,
    )
    if examples:  # the hub's gallery
        header["widget"] = [{"text": example.title, "output": {"url": example.video}} for example in examples]
    if source.base.repository:
        header["base_model_relation"] = "adapter"
    return header


def eval_results(source: Source) -> list[EvalResult]:
    """One result per adapter and measure that has a value; of a sweep for the main measures."""
    run, study = source.arms[0].run, source.study
    config, data = run.settings, run.settings.data
    kind = "private"
    if data.path is None and data.test_path is None:
        kind = data.test_repo_id or data.repo_id or f"cosmos-exp/{data.builder}"
    measures = study.measures
    if source.is_sweep:
        measures, _ = split_main(measures)
    adapters = study.arms.index[~study.arms["is_base"]]
    means = study.means[study.means["arm"].isin(adapters) & study.means["measure"].isin(measures)]
    results = []
    for row in means.dropna(subset="mean").itertuples():
        info = measure_info(row.measure)
        name = one_line(row.measure)
        if source.is_sweep:
            name += f", {row.arm}"
        if info.unit:
            name += f" ({info.unit})"
        arguments: JsonObject = {"n": int(row.n)}
        if pd.notna(row.low):
            arguments |= {"ci_low": float(row.low), "ci_high": float(row.high)}
        if info.better:
            arguments["better"] = {1: "higher", -1: "lower"}[info.better]
        results.append(
            EvalResult(
                task_type=TASKS[config.generation.mode],
                dataset_type=kind,
                dataset_name=data_words(config).replace("`", ""),
                dataset_split="test",
                dataset_args={"fingerprint": run.manifest.get("data_fingerprint")},
                metric_type=one_line(row.measure),
                metric_name=name,
                metric_value=float(row.mean),
                metric_args=arguments,
            )
        )
    return results


def snippet(arm: Arm, source: Source, example: Example | None, repository: str | None) -> str:
    """Python code that generates the example's video with the adapter.

    Args:
        example: None: the user's own first frame and prompt.
        repository: of the published folder on the hub; None: it is not known yet.
    """
    config = arm.run.settings
    data, generation = config.data, config.generation
    if example is None:
        example = Example("", "Your prompt.", (generation.seeds or [0])[0], 0)
    prompt = example.prompt
    if generation.chunk_prompts == "lines" and generation.chunks > 1:
        prompt = prompt.partition("\\n")[0]
    loader = jinja2.FileSystemLoader(TEMPLATES)
    environment = jinja2.Environment(loader=loader, trim_blocks=True, lstrip_blocks=True)
    environment.filters["repr"] = repr
    return environment.get_template("snippet.py.j2").render(
        config=config,
        base=source.base,
        autoencoder=_autoencoder_file(source),
        arm=arm,
        repository=repository,
        example=example,
        prompt=prompt,
        scale=span(arm.adapter.scales.values()),
        dtype=DTYPES[config.hardware.mixed_precision],
        noise_shape=(1, config.model.z_dim, (data.num_frames - 1) // 4 + 1, data.height // 8, data.width // 8),
    )


def _autoencoder_file(source: Source) -> Path | None:
    """The file of the base's autoencoder class, if diffusers does not have it; it is copied into the folder."""
    if source.base.autoencoder is None:
        return None
    return VAE_CLASSES.source(source.base.autoencoder)


# --- recipe ---


def recipe(arm: Arm) -> dict[str, str]:
    """How an adapter was trained, on what, where, and how long it took: the rows of the card's table."""
    rows = _adapter_rows(arm) | _training_rows(arm) | _data_rows(arm.run) | _hardware_rows(arm.run)
    return {name: str(value) for name, value in rows.items() if value not in (None, "", 0)}


def _adapter_rows(arm: Arm) -> JsonObject:
    adapter, config = arm.adapter, arm.run.settings.adapter
    rule = "alpha / rank"
    if adapter.rslora:
        rule = "alpha / sqrt(rank)"
    return {
        "kind": KINDS[adapter.kind],
        "rank": span(adapter.ranks.values()),
        "alpha": span([layer.alpha for layer in adapter.layers.values()]),
        "scale": f"{span(adapter.scales.values())} ({rule})",
        "adapted layers": len(adapter.layers),
        "target modules": ", ".join(config.target_modules),
        "other ranks and alphas": "; ".join(pattern_labels(config)),
        "dropout": config.dropout,
        "trained bias": config.bias or None,
    }


def _training_rows(arm: Arm) -> JsonObject:
    config, training, summary = arm.run.settings, arm.run.settings.training, arm.run.training
    cut = arm.adapter.record.get("truncated")
    if cut:
        return {"training": f"none: cut from a trained adapter, {cut['kept_energy']:.1%} of its energy kept"}
    schedule = training.schedule
    frames = ", ".join(
        f"{count} latent ({share:.0%})" for count, share in training.condition_frames.items() if share > 0
    )
    rows = {
        "steps": f"{summary.get('steps')} of {training.global_batch_size} samples",
        "samples": summary.get("samples"),
        "optimizer": f"AdamW, learning rate {training.learning_rate:g}, weight decay {training.weight_decay:g}",
        "schedule": f"{schedule.warmup_samples:,} samples of warm-up to {schedule.f_max:g} x the rate, linear to "
        f"{schedule.f_min:g} x at {schedule.total_samples:,}",
        "gradient norm": f"at most {training.max_grad_norm:g}",
        "noise": f"rectified flow, sigma shift {training.sigma_shift:g}",
        "conditioning frames": frames,
        "text dropout": f"{training.text_dropout:g}",
        "precision": PRECISIONS[config.hardware.mixed_precision],
        "training seed": str(config.seed),
        "power EMA of the adapter": training.ema_power,
    }
    for name in ("train_loss", "validation_loss"):
        if name in summary:
            rows[name.replace("_", " ")] = f"{summary[name]:.4g}"
    return rows


def _data_rows(run: Run) -> JsonObject:
    config, data, generation = run.settings, run.manifest.get("data", {}), run.settings.generation
    counts = []
    for split in ("train", "validation", "test"):
        if data.get(split):
            counts.append(f"{len(data[split])} {split}")
    noise = ", ".join(map(str, generation.seeds))
    return {
        "data": data_words(config),
        "videos": ", ".join(counts),
        "frames": f"{config.data.num_frames} of {config.data.height}x{config.data.width} pixels",
        "frame rate": config.data.fps,
        "fingerprint of the data": run.manifest.get("data_fingerprint"),
        "test videos": f"{generation.mode}, chunks: {generation.chunks}, {generation.num_steps} steps, guidance {generation.guidance_scale:g}, start "
        f"noise {noise}, {generation.fps:g} frames per second",
        "guardrail": config.model.guardrail,
    }


def data_words(config: Config) -> str:
    """The data in words. Folders of a user have no name here."""
    data = config.data
    if data.path is None and data.repo_id:
        words = f"`{data.repo_id}`"
        if data.test_repo_id and data.test_path is None:
            words += f"; test pairs of `{data.test_repo_id}`"
    elif data.path is None and data.builder:
        words = f"the rendered {data.builder} world of cosmos_exp, {data.look} hands"
    else:
        words = f"videos in a folder ({data.reader})"
        if data.repo_id:
            words += f", read as `{data.repo_id}`"
    return words


def _hardware_rows(run: Run) -> JsonObject:
    manifest = run.manifest
    stages, packages, git = manifest.get("stages", {}), manifest.get("packages", {}), manifest.get("git") or {}
    exactness = manifest.get("exactness") or [{}]
    device = exactness[-1].get("processor") or manifest.get("hardware", {}).get("device")
    times, versions = [], []
    for stage in STAGES:
        if "seconds" in stages.get(stage, {}):
            times.append(f"{stage} {duration(stages[stage]['seconds'])}")
    for package in ("cosmos-exp", "torch", "diffusers", "peft"):
        if package in packages:
            versions.append(f"{package} {packages[package]}")
    commit = git.get("commit")
    if commit and git.get("dirty"):
        commit += ", with changes"
    return {
        "device": device,
        "processes": manifest.get("processes"),
        "time": ", ".join(times),
        "peak memory of training, GiB": stages.get("train", {}).get("peak_memory_gib"),
        "versions": ", ".join(versions),
        "commit of cosmos-exp": commit,
    }


# --- text ---


def span(values: Collection[float]) -> str:
    """`2`, or `1 to 2` for different values."""
    ends = (f"{min(values):.6g}", f"{max(values):.6g}")
    return " to ".join(dict.fromkeys(ends))


def duration(seconds: float) -> str:
    """`34 s`, `5 min`, `2.3 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def _from_report(text: str, names: Sequence[str]) -> str:
    """A part of a report, without private text and without markup that comes from data; headings one level lower."""
    lines = []
    for line in text.splitlines():
        if line.startswith("## "):
            line = f"#{line}"
        lines.append(shown(line, names))
    return plain_markdown("\n".join(lines)).strip()


def escaped(text: str) -> str:
    """Text of a record that Markdown shows as it is."""
    for character in MARKUP:
        text = text.replace(character, f"\\{character}")
    return text.replace("<", "&lt;").replace(">", "&gt;")
