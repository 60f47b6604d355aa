"""The rows of a card's tables: how the adapters were trained, on what, where, and how long it took."""

from __future__ import annotations

from collections.abc import Iterable

from cosmos_exp.config.layers import pattern_labels
from cosmos_exp.config.schema import Config
from cosmos_exp.files import JsonObject
from cosmos_exp.publish.base import entries
from cosmos_exp.publish.source import Arm
from cosmos_exp.report.runs import Run

Rows = list[tuple[str, str]]  # name, value
STAGES = ("prepare", "train", "generate", "evaluate")


def adapter_rows(arm: Arm) -> Rows:
    """What the adapter is, from its file."""
    header, config = arm.header, arm.run.settings.adapter
    ranks, alphas = sorted(set(header.ranks.values())), sorted({layer.alpha for layer in header.layers.values()})
    scales = sorted({float(f"{s:.6g}") for s in header.scales.values()})
    rule = "alpha / sqrt(rank)" if header.rslora else "alpha / rank"
    cut = header.record.get("truncated")
    rows = [
        ("kind", "DoRA" if header.kind == "dora" else "LoRA"),
        ("rank", _numbers(ranks)),
        ("alpha", _numbers(alphas)),
    ]
    rows += [("scale", f"{_numbers(scales)} ({rule})"), ("adapted layers", str(len(header.ranks)))]
    rows += [("target modules", ", ".join(config.target_modules))]
    rows += [("other ranks and alphas", "; ".join(pattern_labels(config)))] if pattern_labels(config) else []
    rows += [("dropout", f"{config.dropout:g}")] if config.dropout else []
    rows += [("bias", "trained")] if config.bias else []
    rows += [("cut from", f"an adapter of higher rank, {cut['kept_energy']:.1%} of its energy kept")] if cut else []
    return rows


def training_rows(arm: Arm) -> Rows:
    """How it was trained."""
    config, summary = arm.run.settings, arm.run.metrics.get("training", {})
    if "truncated" in arm.header.record:
        return [("training", "none: cut from a trained adapter")]
    t = config.training
    steps, samples = (_whole(summary.get(name)) for name in ("steps", "samples"))
    rows = [("steps", f"{steps} of {t.global_batch_size} samples")] if steps else []
    rows += [("samples", f"{samples:,}")] if samples else []
    rows += [
        ("optimizer", f"AdamW, learning rate {t.learning_rate:g}, weight decay {t.weight_decay:g}"),
        (
            "schedule",
            f"{t.schedule.warmup_samples:,} samples of warm-up to {t.schedule.f_max:g} x the rate, linear to "
            f"{t.schedule.f_min:g} x at {t.schedule.total_samples:,}",
        ),
        ("gradient norm", f"at most {t.max_grad_norm:g}"),
        ("noise", f"rectified flow, sigma shift {t.sigma_shift:g}"),
        ("conditioning frames", _probabilities(t.condition_frames)),
        ("text dropout", f"{t.text_dropout:g}"),
        ("precision", "bf16 base, fp32 adapter" if config.hardware.mixed_precision == "bf16" else "fp32"),
        ("training seed", str(config.seed)),
    ]
    rows += [("average", f"power EMA of the adapter, {t.ema_power:g}")] if t.ema_power else []
    for name in ("train_loss", "validation_loss"):
        rows += [(name.replace("_", " "), f"{summary[name]:.4g}")] if name in summary else []
    return rows


def data_rows(run: Run) -> Rows:
    """What it was trained and evaluated on."""
    config, data = run.settings, run.manifest.get("data", {})
    counts = [f"{len(data[k])} to {w}" for k, w in _SPLITS if data.get(k)]
    rows = [("data", data_words(config)), ("videos", ", ".join(counts))] if counts else [("data", data_words(config))]
    rows += [("frames", f"{config.data.num_frames} of {config.data.height}x{config.data.width} pixels")]
    if config.data.fps:
        rows.append(("frame rate", f"{config.data.fps:g} per second"))
    fingerprint = run.manifest.get("data_fingerprint")
    rows += [("fingerprint", f"`{fingerprint}`")] if fingerprint else []
    g = config.generation
    chunks = f", {g.chunks} chunks" if g.chunks > 1 else ""
    noise = ", ".join(map(str, g.seeds))
    words = f"{g.mode}{chunks}, {g.num_steps} steps, guidance {g.guidance_scale:g}, start noise {noise}, {g.fps:g} frames per second"
    return [*rows, ("test videos", words), ("guardrail", config.model.guardrail)]


_SPLITS = (("train", "train"), ("validation", "validate"), ("test", "test"))


def data_words(config: Config) -> str:
    """The data in words. Folders of a user have no name here."""
    data = config.data
    if data.path is None and data.repo_id:
        test = f"; test pairs of `{data.test_repo_id}`" if data.test_repo_id and data.test_path is None else ""
        return f"`{data.repo_id}`{test}"
    if data.builder and data.path is None:
        return f"the rendered {data.builder} world of cosmos_exp, {data.look} hands"
    known = f", read as `{data.repo_id}`" if data.repo_id else ""
    return f"videos in a folder ({data.reader}){known}"


def hardware_rows(run: Run) -> Rows:
    """Where it was made and how long it took."""
    manifest = run.manifest
    exactness = manifest.get("exactness")  # free keys of a record may hold anything
    exact = entries(exactness[-1] if isinstance(exactness, list) and exactness else None)
    device = str(exact.get("processor") or manifest.get("hardware", {}).get("device") or "")
    processes = _whole(manifest.get("processes")) or 1
    rows = [("device", f"{processes} x {device}" if processes != 1 else device)] if device else []
    stages: JsonObject = manifest.get("stages", {})
    timed = [s for s in STAGES if "seconds" in stages.get(s, {})]
    rows += [("time", ", ".join(f"{s} {duration(stages[s]['seconds'])}" for s in timed))] if timed else []
    peaks = [stages[s]["peak_memory_gib"] for s in ("train",) if "peak_memory_gib" in stages.get(s, {})]
    rows += [("peak memory of training", f"{peaks[0]:.2f} GiB")] if peaks else []
    packages = manifest.get("packages", {})
    names = [n for n in ("cosmos-exp", "torch", "diffusers", "peft") if n in packages]
    rows += [("versions", ", ".join(f"{n} {packages[n]}" for n in names))] if names else []
    git = entries(manifest.get("git"))
    commit, changed = git.get("commit"), ", with changes" if git.get("dirty") else ""
    return [*rows, ("commit of cosmos-exp", f"`{commit}`{changed}")] if commit else rows


def duration(seconds: float) -> str:
    """`34 s`, `5 min`, `2.3 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def shared_and_own(tables: Iterable[Rows]) -> tuple[Rows, list[str], list[list[str]]]:
    """The rows that all tables have in common; the names of the others, and their values by table."""
    found = [dict(rows) for rows in tables]
    names = list(dict.fromkeys(name for rows in found for name in rows))
    shared = [n for n in names if len({rows.get(n) for rows in found}) == 1]
    own = [n for n in names if n not in shared]
    return [(n, found[0][n]) for n in shared], own, [[rows.get(n, "-") for n in own] for rows in found]


def _whole(value: object) -> int | None:
    """A whole number of a record; None for anything else."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _numbers(values: list[float] | list[int]) -> str:
    return f"{values[0]:g}" if len(values) == 1 else f"{values[0]:g} to {values[-1]:g}"


def _probabilities(frames: dict[int, float]) -> str:
    words = [f"{n} latent frame{'s' if n > 1 else ''} ({p:.0%})" for n, p in frames.items() if p > 0]
    return ", ".join(words)
