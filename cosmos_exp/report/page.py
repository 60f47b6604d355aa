"""An HTML page of a study: claims, figures, one table, videos side by side. It opens from disk, offline.

`page.html.j2` is its structure, `page.css` its looks, `page.js` what moves.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.metadata
import os
import shlex
from collections.abc import Sequence
from pathlib import Path

import jinja2
import pandas as pd
import yaml
from markupsafe import Markup

from cosmos_exp.config.measures import measure_info
from cosmos_exp.files import JsonObject
from cosmos_exp.report.figure_style import REAL, Drawing, arm_colors, jump
from cosmos_exp.report.page_videos import link_to, scenes_with_videos
from cosmos_exp.report.study import MEANINGS, Study
from cosmos_exp.report.tables import answers, interval, number, table_columns
from cosmos_exp.text import one_line, printable, redact, redacted

HERE = Path(__file__).parent
ON_TOP = ("differences", "rank")  # the figures above the videos
BESIDE = {  # files of the report, with what they hold
    "scores.csv": "every score",
    "report.md": "the report as text",
    "report.json": "every number",
    "table.tex": "the table for LaTeX",
    "sheet.png": "the contact sheet",
    "claims.json": "the frozen claims",
}


def write_page(path: Path, study: Study, drawings: Sequence[Drawing]) -> None:
    """Write the page. The template escapes everything that comes from data (prompts, errors, names)."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    out = path.parent
    script = (HERE / "page.js").read_text(encoding="utf-8")
    scenes, inside = scenes_with_videos(study, out)
    text = environment.get_template("page.html.j2").render(
        study=study,
        answers=answers(study),
        drawings=[(d, Markup(d.svg)) for d in drawings],
        on_top=ON_TOP,
        columns=table_columns(study),
        cells=_cells(study),
        comparisons=study.differences.to_dict("records"),
        colors=arm_colors(study),
        real_color=REAL,
        scenes=scenes,
        inside=inside,
        data=_data(study),
        runs=_run_links(study, out),
        configurations=_configurations(study),
        beside=[(name, what) for name, what in BESIDE.items() if (out / name).is_file()],
        commands=_commands(study, out),
        made_with=_versions(study),
        interval=interval,
        number=number,
        jump=jump,
        meanings=MEANINGS,
        css=Markup((HERE / "page.css").read_text(encoding="utf-8")),
        script=Markup(script),
        script_hash=base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
    )
    path.write_text(printable(text), encoding="utf-8")


# --- Numbers ---
def _cells(study: Study) -> JsonObject:
    """The mean of each reference and arm in each measure, by (name, measure); NaN where it has no scores."""
    names = [*study.references, *study.arms.index]
    means = study.means.set_index(["arm", "measure"])
    table = means.reindex(pd.MultiIndex.from_product([names, study.measures]))
    return table.fillna({"mark": "", "best": False, "missing": 0}).astype({"missing": int}).to_dict("index")


def _data(study: Study) -> JsonObject:
    """What the page's script needs: names, and the mean score of each prompt by measure and arm."""
    names = list(study.arms.index)
    scores = study.scores[study.scores["arm"].isin(names)].dropna(subset=["value"])
    values: dict[str, list[dict[int, float]]] = {}
    for (prompt, measure, arm), mean in scores.groupby(["prompt", "measure", "arm"])["value"].mean().items():
        by_measure = values.setdefault(prompt, [{} for _ in study.measures])
        by_measure[study.measures.index(measure)][names.index(arm)] = mean
    measures = [{"name": measure, "better": measure_info(measure).better} for measure in study.measures]
    return {"variants": names, "measures": measures, "values": values}


# --- Where things are ---
def _run_links(study: Study, out: Path) -> list[JsonObject]:
    """The files of each run, relative to the page."""
    rows = []
    for key, run in study.shown_runs.iterrows():
        folder = study.records[str(key)].folder
        files = {"folder": folder.path, "config.yaml": folder.config, "manifest.json": folder.manifest_file}
        files |= {"scores": folder.scores, "videos": folder.videos, "adapter": folder.adapter_file}
        links = [(name, link_to(file, out)) for name, file in files.items() if file.exists()]
        rows.append({"arm": run["arm"], "seed": run["seed"], "state": run["state"], "links": links})
    return rows


def _configurations(study: Study) -> list[tuple[str, str]]:
    """The configuration of each arm's first run."""
    texts = []
    for arm, runs in study.shown_runs.groupby("arm", sort=False):
        config = redacted(study.records[runs.index[0]].config)
        texts.append((arm, yaml.safe_dump(config, sort_keys=False, allow_unicode=True)))
    return texts


def _commands(study: Study, out: Path) -> list[str]:
    """What makes this page again, checks it, and repeats or uses a run; for a shell in the folder of the page."""
    reported = shlex.quote(os.path.relpath(study.path, out))
    report = f"cosmos-exp report {reported}" + " --out ." * (reported != ".")
    commands = [f"{report} --verify", report]
    finished = study.shown_runs[study.shown_runs["state"] == "done"]
    for key in finished.index[finished["kind"] != "none"][:1]:
        folder = study.records[key].folder
        commands.append(f"cosmos-exp rerun {shlex.quote(os.path.relpath(folder.path, out))}")
        if folder.adapter_file.is_file():
            adapter = shlex.quote(os.path.relpath(folder.adapter_file, out))
            commands.append(f"cosmos-exp generate --adapter {adapter} --prompts PROMPTS --out VIDEOS")
    return list(map(one_line, map(redact, commands)))


def _versions(study: Study) -> list[tuple[str, str]]:
    """What the runs and this page were made with. Several values where the runs differ."""
    values: dict[str, set[str]] = {"report": {f"cosmos-exp {importlib.metadata.version('cosmos-exp')}"}}
    for record in study.records.values():
        manifest = record.manifest
        git, packages = manifest.get("git") or {}, manifest.get("packages", {})
        about = {"python": manifest.get("python"), "data": manifest.get("data_fingerprint")}
        for name in ("cosmos-exp", "torch", "diffusers", "peft"):
            about[name] = packages.get(name)
        about["git commit"] = str(git.get("commit") or "")[:12] + " with changes" * bool(git.get("dirty"))
        about |= manifest.get("model", {}).get("fingerprints", {})
        for name, value in about.items():
            if value:
                values.setdefault(name, set()).add(str(value))
    return [(name, ", ".join(sorted(several))) for name, several in values.items()]
