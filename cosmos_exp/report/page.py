"""A self-contained HTML page: table, conclusions, figures, videos side by side, configurations. It opens from disk."""

from __future__ import annotations

import base64
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypedDict

import jinja2
import yaml

from cosmos_exp.config.hashing import differences as config_differences
from cosmos_exp.config.measures import measure_info, split_main
from cosmos_exp.files import JsonObject
from cosmos_exp.report.claims import ALL_EXPLORATORY, EXPLORATORY, ClaimsReport
from cosmos_exp.report.conclusions import conclusions
from cosmos_exp.report.formatting import number, summary_text
from cosmos_exp.report.references import MEANINGS, Reference
from cosmos_exp.report.results import NO_SCORES, Results, average, cost
from cosmos_exp.report.sweep_tables import INTERVAL_NOTE, MARKS_NOTE
from cosmos_exp.report.variants import Variant
from cosmos_exp.statistics.scores import ScoreRow
from cosmos_exp.text import printable, redacted

MOST_MIB = 150  # of video in one page; the page says how many prompts are left out


class Number(TypedDict):
    """A number as the page shows it, and as it sorts."""

    text: str
    value: float | None


class Score(Number):
    """A score with the judge's answer, or why there is no value."""

    why: str


@dataclass(frozen=True)
class VideoCell:
    """One video on the page. `video` is a data URL."""

    variant: str
    seed: int | None
    video: str | None
    scores: dict[str, Score]


@dataclass(frozen=True)
class VideoRow:
    """The videos of one prompt: the recording if there is one, then one per variant."""

    sample: str
    prompt: str
    cells: list[VideoCell]


def write_page(path: Path, results: Results, figures: list[Path], claims: ClaimsReport | None = None) -> None:
    """Write the page. The template escapes everything that comes from data (prompts, errors, names)."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    rows, left_out = video_rows(results.variants)
    main, others = split_main(results.measures)
    text = environment.get_template("page.html.j2").render(
        title=results.title,
        measures=[
            {"name": m, "better": measure_info(m).better, "warning": results.warnings.get(m, "")} for m in main + others
        ],
        references=[_reference(r, results) for r in results.references],
        variants=[_variant(v, results) for v in results.variants],
        claims=_claims(claims) if claims else None,
        conclusions_title=EXPLORATORY if claims else "Conclusions",
        conclusions_note="" if claims or not results.differences else ALL_EXPLORATORY,
        conclusions=conclusions(results, claims.pairs if claims else frozenset()),
        notes=results.notes,
        table_note=f"{INTERVAL_NOTE} {MARKS_NOTE}",
        rows=rows,
        left_out=left_out,
        figures=[{"name": f.stem, "data": _data_url(f, "image/png")} for f in figures],
    )
    path.write_text(printable(text), encoding="utf-8")


def _claims(claims: ClaimsReport) -> dict[str, object]:
    """What the template shows of the frozen claims."""
    head, rows = claims.table()
    kinds = {"confirmed": "good", "refuted": "bad"}
    return {
        "heading": claims.heading,
        "warnings": claims.warnings,
        "head": head,
        "rows": [{"cells": row, "kind": kinds.get(r.verdict, "")} for row, r in zip(rows, claims.results, strict=True)],
        "notes": [claims.introduction.replace("`", ""), *claims.remarks()],
    }


def _data_url(path: Path, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def _number(value: float | None) -> Number:
    return {"text": number(value), "value": value}


def _variant(variant: Variant, results: Results) -> dict[str, object]:
    """What the template shows of one variant: its row, its configuration, and the differences from the first variant's."""
    run, first = variant.runs[0], results.variants[0].runs[0]
    return {
        "name": variant.name,
        "state": f"{len(variant.done)}/{len(variant.runs)} done",
        "errors": [str(r.status.get("error")) for r in variant.runs if r.status.get("error")],
        "measures": {
            m: {
                "text": summary_text(s),
                "value": s["mean"],
                "missing": s["missing"],
                "mark": results.marks.get((variant.name, m), ""),
            }
            for m, s in results.table[variant.name].items()
        },
        "losses": [_number(average(variant.training(k))) for k in ("train_loss", "validation_loss")],
        "cost": [number(value) for value in asdict(cost(variant)).values()],
        "config": yaml.safe_dump(redacted(run.config), sort_keys=False, allow_unicode=True),
        "differences": [] if run is first else config_differences(_plain(first.config), _plain(run.config)),
        "manifest": json.dumps(redacted(run.manifest), indent=2, ensure_ascii=False),
    }


def _reference(reference: Reference, results: Results) -> dict[str, object]:
    """What the template shows of the recordings or the frozen videos."""
    summaries = {m: reference.table.get(m, NO_SCORES) for m in results.measures}
    cells = {m: {"text": summary_text(s), "value": s["mean"]} for m, s in summaries.items()}
    return {"name": reference.name, "what": MEANINGS[reference.name], "measures": cells}


def _plain(config: JsonObject) -> JsonObject:
    """The configuration without names and places."""
    return {k: v for k, v in config.items() if k not in ("run_dir", "name", "cache_dir")}


def video_rows(variants: list[Variant]) -> tuple[list[VideoRow], str | None]:
    """One row per prompt: its recording, and each variant's video of the first seed, as far as `MOST_MIB` allows.

    Returns:
        The rows, and a sentence about the prompts that are left out; None if there are none.
    """
    done = [v for v in variants if v.done]
    samples: dict[str, str] = {}
    for v in done:
        for row in v.done[0].scores:
            samples.setdefault(row["sample"], row["prompt"] or row["sample"])
    used, skipped, rows = 0, 0, []
    for sample, prompt in sorted(samples.items()):
        found = [(v.name, *_first_video(v, sample)) for v in done]
        recorded = _recording(done, sample)
        if recorded:
            found.insert(0, ("real", *recorded))
        size = sum(file.stat().st_size for _, _, file in found if file)
        if used + size > MOST_MIB * 2**20:
            skipped += 1
            continue
        used += size
        rows.append(VideoRow(sample, prompt, [_cell(*f) for f in found]))
    rest = f"{skipped} prompts are not shown: a page holds at most {MOST_MIB} MiB of video." if skipped else None
    return rows, rest


def _first_video(variant: Variant, sample: str) -> tuple[list[ScoreRow], Path | None]:
    """The scores of a prompt's video with the lowest generation seed, and its file if it exists."""
    run = variant.done[0]
    own = [r for r in run.scores if r["sample"] == sample]
    first = min((r["seed"] for r in own), default=None)
    own = [r for r in own if r["seed"] == first]
    file = run.folder.recorded_video(own[0]["video"]) if own else None
    return own, file if file and file.is_file() else None


def _recording(variants: list[Variant], sample: str) -> tuple[list[ScoreRow], Path | None] | None:
    """The scores and the file of a prompt's recording; None if there is none."""
    for run in (run for v in variants for run in v.done):
        file = run.folder.recorded(f"references/real/{sample}.mp4")
        if file.is_file():
            return [r for r in run.references("real") if r["sample"] == sample], file
    return None


def _cell(name: str, rows: list[ScoreRow], file: Path | None) -> VideoCell:
    scores: dict[str, Score] = {}
    for r in rows:
        detail = r.get("detail") or {}
        why = str(detail.get("answer") or detail.get("reason") or "")[:600]
        scores[r["measure"]] = {**_number(r["value"]), "why": why}
    video = _data_url(file, "video/mp4") if file else None
    seed = rows[0]["seed"] if rows and name != "real" else None
    return VideoCell(name, seed, video, scores)
