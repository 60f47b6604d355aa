"""The model card: a YAML header that the hub understands, and what a reader must know. Built and checked by huggingface_hub."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from huggingface_hub import EvalResult, ModelCard, ModelCardData
from huggingface_hub.utils import HFValidationError, validate_repo_id

from cosmos_exp.config.measures import measure_info, split_main
from cosmos_exp.config.registry import VAE_CLASSES
from cosmos_exp.errors import RunError
from cosmos_exp.publish import recipe
from cosmos_exp.publish.neutral import shown
from cosmos_exp.publish.snippet import Example, snippet
from cosmos_exp.publish.source import Arm, Source
from cosmos_exp.report.tables import claims_markdown, drift_markdown, measures_markdown
from cosmos_exp.text import markdown as plain_markdown
from cosmos_exp.text import no_html, one_line

TEMPLATE = Path(__file__).parent / "card.md.j2"
TASKS = {"image2world": "image-to-video", "video2world": "video-to-video"}
_MARKUP = "\\`*_{}[]<>|~$#!"


def model_card(
    source: Source, examples: Sequence[Example], files: Sequence[Sequence[str]], repository: str | None
) -> ModelCard:
    """The card of a published folder, checked.

    Args:
        examples: the published videos.
        files: of each adapter: folder, hash, parameters, MiB.
        repository: of the folder on the hub; None: it is not known yet.

    Raises:
        RunError: the card does not hold what was put into it.
    """
    title = repository.partition("/")[2] if repository else shown(source.title, source.names)
    data = card_data(source, examples, title)
    body = _body(source, examples, repository, title) | {"files": files}
    card = ModelCard.from_template(data, template_path=str(TEMPLATE), **body)
    check_card(str(card), data)
    return card


def card_data(source: Source, examples: Sequence[Example], title: str) -> ModelCardData:
    """The header."""
    config, licence = source.arms[0].run.settings, source.base.licence
    kinds = sorted({arm.header.kind for arm in source.arms})
    data = config.data
    found = ModelCardData(
        base_model=source.base.repository,
        library_name="diffusers",
        pipeline_tag=TASKS[config.generation.mode],
        license=licence.id,
        license_name=licence.name,
        license_link=licence.link,
        datasets=[data.repo_id] if data.repo_id and data.path is None else None,
        tags=[*kinds, "peft", "world-model", "robotics", "cosmos-predict2.5", "cosmos-exp"],
        model_name=title,
        eval_results=eval_results(source),
    )
    if examples:
        found["widget"] = [_widget(e, source.names) for e in examples]
    if source.base.repository:
        found["base_model_relation"] = "adapter"
    return found


def _widget(example: Example, names: Sequence[str]) -> dict[str, object]:
    """An entry of the hub's gallery."""
    return {"text": shown(_title(example), names), "output": {"url": example.video}}


def _title(example: Example) -> str:
    """The prompt of an example, in a sweep with its adapter."""
    return f"{example.arm}: {one_line(example.prompt)}" if example.arm else one_line(example.prompt)


def eval_results(source: Source) -> list[EvalResult] | None:
    """One result per adapter and measure that has a value, of a sweep for the main measures; None if there are none."""
    config = source.arms[0].run.settings
    test = config.data.test_repo_id or config.data.repo_id
    named = test if test and config.data.test_path is None and config.data.path is None else None
    kind = named or (f"cosmos-exp/{config.data.builder}" if source.base.embedded and config.data.builder else "private")
    fingerprint = source.arms[0].run.manifest.get("data_fingerprint")
    measures = split_main(source.study.measures)[0] if source.is_sweep else source.study.measures
    found = []
    arms = source.study.arms
    for name in arms.index[~arms["is_base"]]:
        for measure in measures:
            summary = source.study.mean(name, measure)
            if pd.isna(summary["mean"]):
                continue
            interval = {"ci_low": summary["low"], "ci_high": summary["high"]}
            arguments = {k: float(v) for k, v in interval.items() if not pd.isna(v)} | {"n": int(summary["n"])}
            info, label = measure_info(measure), f"{one_line(measure)}" + (f", {name}" if source.is_sweep else "")
            unit = f" ({info.unit})" if info.unit else ""
            better = {1: "higher", -1: "lower"}.get(info.better)
            found.append(
                EvalResult(
                    task_type=TASKS[config.generation.mode],
                    dataset_type=kind,
                    dataset_name=recipe.data_words(config).replace("`", ""),
                    dataset_split="test",
                    dataset_args={"fingerprint": fingerprint} if fingerprint else None,
                    metric_type=one_line(measure),
                    metric_name=label + unit,
                    metric_value=float(summary["mean"]),
                    metric_args=arguments | ({"better": better} if better else {}),
                )
            )
    return found or None


def check_card(text: str, data: ModelCardData) -> None:
    """Check that a card read back by huggingface_hub holds what was put into it, and that its header is one the hub takes.

    Raises:
        RunError: it does not.
    """
    problem = None
    try:
        found = ModelCard(text).data
        if found.to_dict() != data.to_dict() or found.get("eval_results") != data.get("eval_results"):
            problem = "its header is not read back as it was written"
        elif found.get("license") == "other" and not (found.get("license_name") and found.get("license_link")):
            problem = "the licence has no name and link"
        for name in [found.get("base_model"), *found.get("datasets", [])]:
            if name is not None:
                validate_repo_id(name)
    except (ValueError, TypeError, KeyError, HFValidationError) as error:
        problem = one_line(error)
    if problem:
        raise RunError(f"check failed: the model card is not valid ({problem}). Nothing was written.")


def _body(
    source: Source, examples: Sequence[Example], repository: str | None, title: str
) -> dict[str, Any]:  # Any: values of every type
    """What the template shows."""
    first, names = source.arms[0], source.names
    adapter, adapter_heads, adapter_rows = recipe.shared_and_own(recipe.adapter_rows(a) for a in source.arms)
    training, training_heads, training_rows = recipe.shared_and_own(recipe.training_rows(a) for a in source.arms)
    hardware, hardware_heads, hardware_rows = recipe.shared_and_own(recipe.hardware_rows(a.run) for a in source.arms)
    heads = [*adapter_heads, *training_heads, *hardware_heads]
    own = [[*a, *t, *h] for a, t, h in zip(adapter_rows, training_rows, hardware_rows, strict=True)]
    return {
        "title": title,
        "source": source,
        "summary": summary(source),
        "snippet": snippet(first, source.base, examples[0] if examples else None, repository),
        "by_parts": source.base.repository is None,
        "tables": [
            ("Adapter", adapter),
            ("Training", training),
            ("Data", recipe.data_rows(first.run)),
            ("Hardware and time", hardware),
        ],
        "heads": heads,
        "own": [[arm.name, *row] for arm, row in zip(source.arms, own, strict=True)],
        "results": _from_records(measures_markdown(source.study), names) if _has_scores(source) else "",
        "drift": _from_records(drift_markdown(source.study), names) if len(source.study.drift) else "",
        "chunks": first.run.settings.generation.chunks,
        "claims": _from_records(claims_markdown(source.study), names) if source.study.claims else "",
        "notes": [escaped(shown(n, names)) for n in source.study.notes],
        "examples": [(e.video, escaped(shown(_title(e), names)), e.seed) for e in examples],
        "has_references": bool(source.study.references),
        "autoencoder": VAE_CLASSES.source(source.base.autoencoder).name if source.base.autoencoder else "",
        "drops": what_others_drop(source.arms),
        "cell": lambda text: _cell(text, names),
    }


def _has_scores(source: Source) -> bool:
    return bool(source.study.means["mean"].notna().any())


def _from_records(text: str, names: Sequence[str]) -> str:
    """A part of a report, without private text and without markup that comes from data."""
    lines = (f"#{line}" if line.startswith("## ") else line for line in text.splitlines())
    return plain_markdown("\n".join(shown(line, names) for line in lines)).strip()


def _cell(text: str, names: Sequence[str]) -> str:
    """Text of ours with values of a record, for a cell: code spans are kept."""
    return no_html(shown(one_line(text), names)).replace("|", "\\|").replace("](", "]&#40;")


def escaped(text: str) -> str:
    """Text of a record that Markdown shows as it is."""
    return "".join(f"\\{c}" if c in _MARKUP and c not in "<>" else {"<": "&lt;", ">": "&gt;"}.get(c, c) for c in text)


def summary(source: Source) -> str:
    """The first sentence of the card."""
    config = source.arms[0].run.settings
    kinds = " and ".join(sorted({"DoRA" if a.header.kind == "dora" else "LoRA" for a in source.arms}))
    what = f"{len(source.arms)} {kinds} adapters" if source.is_sweep else f"A {kinds} adapter"
    size = f"{config.data.num_frames} frames of {config.data.height}x{config.data.width}"
    return f"{what} of {source.base.words}, trained on {recipe.data_words(config)}. {config.generation.mode}, {size}."


def what_others_drop(arms: Sequence[Arm]) -> list[str]:
    """What a loader that does not read the header, or does not know DoRA, makes of these adapters."""
    found = []
    scaled = [a for a in arms if any(abs(s - 1) > 1e-6 for s in a.header.scales.values())]
    if scaled:
        scales = [s for a in scaled for s in a.header.scales.values()]
        low, high = min(scales), max(scales)
        words = f"{low:g}" if low == high else f"{low:g} to {high:g}"
        which = ", ".join(f"`{a.name}`" for a in scaled) if len(arms) > 1 else "this adapter"
        found.append(
            "Rank, alpha and scaling rule are in the file's header (`lora_adapter_metadata`), not in tensors. A loader that does "
            f"not read it applies the update at scale 1; {which} needs {words}."
        )
    else:
        found.append(
            "Alpha equals rank (scale 1), so that a loader that ignores the header, which records both, applies the right scale."
        )
    if any(a.header.kind == "dora" for a in arms):
        found.append(
            "A DoRA file also has magnitudes (`lora_magnitude_vector`). A loader without DoRA drops them and applies another "
            "update than the trained one. Merge the adapter first (`cosmos-exp adapter merge`) for such tools."
        )
    return found
