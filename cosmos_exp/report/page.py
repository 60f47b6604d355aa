"""A self-contained HTML page: verdict, videos side by side, tables, figures, configurations. It opens from disk, offline.

`page.html.j2` is its structure, `page.css` its looks, `page.js` what moves.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import json
import os
import shlex
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from urllib.parse import quote

import jinja2
import yaml
from markupsafe import Markup

from cosmos_exp.config.hashing import differences as config_differences
from cosmos_exp.config.measures import measure_info
from cosmos_exp.files import JsonObject, file_sha256
from cosmos_exp.report.claims import ALL_EXPLORATORY, EXPLORATORY, ClaimsReport
from cosmos_exp.report.colors import REFERENCES, adapter_colors, jump, shown_measures
from cosmos_exp.report.conclusions import disagreement, explorations
from cosmos_exp.report.drawing import Drawing
from cosmos_exp.report.drift import INTRODUCTION, Drift, drift_notes, drift_table, main_drifts
from cosmos_exp.report.formatting import interval, number, summary_text
from cosmos_exp.report.page_videos import Number, scenes_with_videos
from cosmos_exp.report.references import MEANINGS, Reference
from cosmos_exp.report.results import NO_SCORES, Results, average, cost, mark_of
from cosmos_exp.report.sweep_tables import INTERVAL_NOTE, MARKS_NOTE
from cosmos_exp.report.variants import Variant
from cosmos_exp.report.verdict import claim_note, verdict
from cosmos_exp.statistics.comparisons import Difference
from cosmos_exp.text import one_line, printable, redact, redacted

HERE = Path(__file__).parent
BESIDE = {  # files of the report, with what they hold
    "scores.csv": "every score",
    "report.md": "the report as text",
    "report.json": "every number",
    "table.tex": "the table for LaTeX",
    "sheet.png": "the contact sheet",
    "claims.json": "the frozen claims",
}


def write_page(
    path: Path,
    results: Results,
    figures: Sequence[Drawing],
    claims: ClaimsReport | None = None,
    folder: Path | None = None,
) -> None:
    """Write the page. The template escapes everything that comes from data (prompts, errors, names).

    Args:
        folder: The folder that was reported, for the commands; None: that of the page.
    """
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    scenes, left_out = scenes_with_videos(results.variants)
    script = (HERE / "page.js").read_text(encoding="utf-8")
    text = environment.get_template("page.html.j2").render(
        **_results(results, claims),
        css=Markup((HERE / "page.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        scenes=scenes,
        left_out=left_out,
        data=_data(results),
        figures=[{"drawing": f, "svg": Markup(f.svg)} for f in figures],
        beside=[(name, what) for name, what in BESIDE.items() if (path.parent / name).is_file()],
        commands=_commands(results, folder or path.parent, path.parent),
        runs=[_run_links(v, path.parent) for v in results.variants],
        made_with=_versions(results),
    )
    path.write_text(printable(text), encoding="utf-8")


def _results(results: Results, claims: ClaimsReport | None) -> dict[str, object]:
    """What the template shows of the results."""
    colors = adapter_colors(results.variants)
    return {
        "title": results.title,
        "verdict": verdict(results, claims),
        "measures": [_measure(m, results) for m in shown_measures(results)],
        "references": [_reference(r, results) for r in results.references],
        "variants": [_variant(v, results) | {"color": colors[v.name]} for v in results.variants],
        "real_color": REFERENCES["real"],
        "claims": _claims(claims, results) if claims else None,
        "drift": _drift(results.drifts, {v.name for v in results.variants}) if results.drifts else None,
        "conclusions_title": EXPLORATORY if claims else "All comparisons",
        "conclusions_note": "" if claims or not results.differences else ALL_EXPLORATORY,
        "conclusions": _conclusions(results, claims),
        "comparisons": [_comparison(d, results) for d in results.differences],
        "notes": results.notes,
        "table_note": f"{INTERVAL_NOTE} {MARKS_NOTE}",
    }


def _measure(name: str, results: Results) -> dict[str, object]:
    info = measure_info(name)
    return {"name": name, "better": info.better, "unit": info.unit, "warning": results.warnings.get(name, "")}


def _claims(claims: ClaimsReport, results: Results) -> dict[str, object]:
    """What the template shows of the frozen claims."""
    head, cells = claims.table()
    kinds = {"confirmed": "good", "refuted": "bad"}
    rows = []
    for row, r in zip(cells, claims.results, strict=True):
        note = claim_note(r, len(claims.results)).removeprefix("; ")
        link = jump(results, r.claim.measure, r.claim.b, r.claim.a)
        rows.append({"cells": row, "kind": kinds.get(r.verdict, ""), "link": link, "note": note})
    notes = [claims.introduction.replace("`", ""), *claims.remarks()]
    return {"heading": claims.heading, "warnings": claims.warnings, "head": head, "rows": rows, "notes": notes}


def _drift(drifts: Sequence[Drift], variants: set[str]) -> dict[str, object]:
    """What the template shows of the chunks."""
    head, rows = drift_table(drifts)
    kinds = {"better": "good", "worse": "bad"}
    said = [{"text": d.sentence, "kind": kinds.get(d.verdict, "")} for d in main_drifts(drifts) if d.name in variants]
    cells = [{"cells": row, "kind": kinds.get(row[-1], "")} for row in rows]
    return {"note": INTRODUCTION, "said": said, "head": head, "rows": cells, "notes": drift_notes(drifts)}


def _conclusions(results: Results, claims: ClaimsReport | None) -> list[dict[str, str | None]]:
    """Each comparison as a sentence with its link, and why an interval excludes 0 beside p > 0.05."""
    found = []
    for d, sentence in explorations(results, claims.pairs if claims else frozenset()):
        family = sum(e.measure == d.measure and e.p is not None for e in results.differences)
        why = disagreement(d, family)
        note = f"{why[0].upper()}{why[1:]}." if why else ""
        found.append({"text": sentence, "note": note, "link": jump(results, d.measure, d.a, d.b)})
    return found


def _comparison(d: Difference, results: Results) -> dict[str, object]:
    """A row of the table of all comparisons."""
    marks = {"+": "good", "−": "bad"}
    mark = mark_of(d)
    cells = [interval(d.mean, d.ci_low, d.ci_high), number(d.p_holm), number(d.p_equivalent_holm), number(d.margin)]
    cells += [f"{d.n} ({d.prompts})", f"{d.runs[1]}, {d.runs[0]}"]
    name, link = f"{d.measure}: {d.b} − {d.a}", jump(results, d.measure, d.a, d.b)
    return {"name": name, "link": link, "mark": mark, "kind": marks.get(mark.strip("()°"), ""), "cells": cells}


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
                "best": variant.name in results.best(m),
                "link": jump(results, m, results.base, variant.name) if not variant.is_base else None,
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


def _data(results: Results) -> dict[str, object]:
    """What the page's script needs: names, and the mean score of each prompt by measure and variant (null: none)."""
    measures = shown_measures(results)
    values: dict[str, list[dict[str, float]]] = {}
    for column, v in enumerate(results.variants):
        found: dict[tuple[str, str], list[float]] = {}
        for row in v.rows():
            if row["value"] is not None:
                found.setdefault((row["sample"], row["measure"]), []).append(row["value"])
        for (sample, measure), own in found.items():
            by_measure = values.setdefault(sample, [{} for _ in measures])
            by_measure[measures.index(measure)][str(column)] = sum(own) / len(own)
    return {
        "variants": [v.name for v in results.variants],
        "measures": [{"name": m, "better": measure_info(m).better} for m in measures],
        "values": values,
    }


# --- where things are ---
def _run_links(variant: Variant, out: Path) -> dict[str, object]:
    """The folders and files of a variant's runs, relative to the page."""
    runs = []
    for run in variant.runs:
        adapter = run.folder.adapter_file
        files = {"folder": run.folder.path, "config.yaml": run.folder.config, "manifest.json": run.folder.manifest_file}
        files |= {"scores": run.folder.scores, "videos": run.folder.videos, "adapter": adapter}
        runs.append(
            {
                "seed": run.seed,
                "path": os.path.relpath(run.folder.path, out),
                "links": [(name, link_to(file, out)) for name, file in files.items() if file.exists()],
                "hash": str(run.manifest.get("config_hash", "")),
                "sha256": file_sha256(adapter)[:16] if adapter.is_file() else "",
            }
        )
    return {"name": variant.name, "runs": runs}


def _commands(results: Results, folder: Path, out: Path) -> list[str]:
    """What makes this page again, checks it, and repeats or uses a run; for a shell in the folder of the page."""
    reported = shlex.quote(os.path.relpath(folder, out))
    elsewhere = "" if reported == "." else " --out ."
    found = [f"cosmos-exp report {reported}{elsewhere} --verify", f"cosmos-exp report {reported}{elsewhere}"]
    done = [r for v in results.variants if v.done for r in v.done[:1]]
    for run in sorted(done, key=lambda r: r.is_base)[:1]:
        found.append(f"cosmos-exp rerun {shlex.quote(os.path.relpath(run.folder.path, out))}")
    files = [r.folder.adapter_file for r in done if r.folder.adapter_file.is_file()]
    for file in files[:1]:
        adapter = shlex.quote(os.path.relpath(file, out))
        found.append(f"cosmos-exp generate --adapter {adapter} --prompts PROMPTS --out VIDEOS")
    return [one_line(redact(command)) for command in found]


def link_to(file: Path, out: Path) -> str:
    """A relative link: never a scheme, a host or a script, whatever the name is."""
    return quote(Path(os.path.relpath(file, out)).as_posix())


def _versions(results: Results) -> list[tuple[str, str]]:
    """What the runs and this page were made with. Several values where the runs differ."""
    manifests = [r.manifest for v in results.variants for r in v.runs]
    rows = [("report", f"cosmos-exp {importlib.metadata.version('cosmos-exp')}")]
    for name in ("cosmos-exp", "torch", "diffusers", "peft"):
        rows.append((name, _distinct([m.get("packages", {}).get(name) for m in manifests])))
    rows.append(("python", _distinct([m.get("python") for m in manifests])))
    rows.append(("git commit", _distinct([_commit(m) for m in manifests])))
    rows.append(("data", _distinct([m.get("data_fingerprint") for m in manifests])))
    prints = [m.get("model", {}).get("fingerprints", {}) for m in manifests]
    rows += [(name, _distinct([p.get(name) for p in prints])) for name in sorted({k for p in prints for k in p})]
    return [(name, value) for name, value in rows if value]


def _commit(manifest: JsonObject) -> str | None:
    git = manifest.get("git") or {}
    commit = git.get("commit")
    return f"{str(commit)[:12]}{' with changes' if git.get('dirty') else ''}" if commit else None


def _distinct(values: Sequence[object]) -> str:
    return ", ".join(sorted({str(v) for v in values if v is not None}))
