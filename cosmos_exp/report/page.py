"""One self-contained HTML page of a study: table, figures, videos side by side, configurations. Opens from disk."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import jinja2
import yaml

from cosmos_exp.config.hashing import differences as config_differences
from cosmos_exp.config.measures import BETTER
from cosmos_exp.report.study import Variant, measures_of
from cosmos_exp.report.study_tables import cells, cost, interval, marks, number, words
from cosmos_exp.statistics.comparisons import Difference

MOST_MIB = 150  # of video in one page; the rest is left out and said so


def write_page(
    path: Path,
    title: str,
    variants: list[Variant],
    differences: list[Difference],
    figures: list[Path],
    notes: list[str],
) -> None:
    """Write the page. Everything that comes from data (prompts, errors, names) is escaped by the template."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    rows, left_out = video_rows(variants)
    base = next((v.name for v in variants if v.is_base), "")
    text = environment.get_template("page.html.j2").render(
        title=title,
        measures=[{"name": m, "better": BETTER.get(m, 1)} for m in measures_of(variants)],
        variants=[_variant(v, variants) for v in variants],
        marks=_by_variant(marks(differences, base)),
        words=words(variants, differences),
        notes=notes,
        rows=rows,
        left_out=left_out,
        names=[v.name for v in variants if v.done],
        figures=[{"name": f.stem, "data": _data(f, "image/png")} for f in figures],
    )
    path.write_text(text, encoding="utf-8")


def _data(path: Path, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode()}"


def _by_variant(found: dict[tuple[str, str], str]) -> dict[str, dict[str, str]]:
    out: dict[str, dict[str, str]] = {}
    for (variant, measure), mark in found.items():
        out.setdefault(variant, {})[measure] = mark
    return out


def _variant(variant: Variant, variants: list[Variant]) -> dict[str, Any]:
    """What the page shows of one variant: its row, configuration, and how that differs from the first variant's."""
    table = cells(variants)[variant.name]
    losses = {k: variant.training(k) for k in ("train_loss", "validation_loss")}
    run, first = variant.runs[0], variants[0].runs[0]
    return {
        "name": variant.name,
        "state": f"{len(variant.done)}/{len(variant.runs)} done",
        "errors": [str(r.status.get("error")) for r in variant.runs if r.status.get("error")],
        "measures": {m: {"text": interval(e), "value": e["mean"], "missing": e["missing"]} for m, e in table.items()},
        "losses": {
            k: {"text": number(sum(v) / len(v)) if v else "-", "value": sum(v) / len(v) if v else None}
            for k, v in losses.items()
        },
        "cost": {k: number(v) for k, v in cost(variant).items()},
        "config": yaml.safe_dump(run.config, sort_keys=False, allow_unicode=True),
        "differences": [] if run is first else config_differences(_plain(first.config), _plain(run.config)),
        "manifest": json.dumps(run.manifest, indent=2, ensure_ascii=False),
    }


def _plain(config: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in config.items() if k not in ("run_dir", "name", "cache_dir")}


def video_rows(variants: list[Variant]) -> tuple[list[dict[str, Any]], str | None]:
    """A row a prompt: each variant's video of the first generation seed, with its scores; what had to be left out."""
    done = [v for v in variants if v.done]
    samples: dict[str, str] = {}
    for v in done:
        for row in v.done[0].scores:
            samples.setdefault(row["sample"], row["prompt"] or row["sample"])
    used, skipped, rows = 0, 0, []
    for sample, prompt in sorted(samples.items()):
        cells_, size = [], 0
        for v in done:
            own = [r for r in v.done[0].scores if r["sample"] == sample]
            first = min((r["seed"] for r in own), default=None)
            own = [r for r in own if r["seed"] == first]
            file = v.done[0].folder.videos / own[0]["video"] if own else None
            size += file.stat().st_size if file and file.is_file() else 0
            cells_.append((v, own, file))
        if used + size > MOST_MIB * 2**20:
            skipped += 1
            continue
        used += size
        rows.append({"sample": sample, "prompt": prompt, "cells": [_cell(*c) for c in cells_]})
    rest = f"{skipped} prompts are not shown: the page holds {MOST_MIB} MiB of video at most." if skipped else None
    return rows, rest


def _cell(variant: Variant, rows: list[dict[str, Any]], file: Path | None) -> dict[str, Any]:
    scores = {r["measure"]: r["value"] for r in rows}
    why = {r["measure"]: (r.get("detail") or {}).get("answer") or (r.get("detail") or {}).get("reason") for r in rows}
    return {
        "variant": variant.name,
        "seed": rows[0]["seed"] if rows else None,
        "video": _data(file, "video/mp4") if file and file.is_file() else None,
        "scores": {m: {"value": v, "text": number(v), "why": str(why[m] or "")[:600]} for m, v in scores.items()},
    }
