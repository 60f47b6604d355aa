"""An HTML page of a study: claims, figures, one table, videos side by side. It opens from disk, offline.

`page.html.j2` is its structure, `page.css` its looks, `page.js` what moves.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

import jinja2
import pandas as pd

from cosmos_exp.config.layers import UNLIKE_LORA
from cosmos_exp.config.measures import OF_KEPT, measure_info
from cosmos_exp.files import JsonObject
from cosmos_exp.report.figure_style import REAL, Drawing, arm_colors
from cosmos_exp.report.page_videos import link_to, scenes_with_videos
from cosmos_exp.report.study import Study
from cosmos_exp.report.tables import LEGEND, SYMBOLS, interval, main_table, number, table_columns
from cosmos_exp.text import printable

ON_TOP = ("differences", "rank")  # the figures above the videos


def write_page(path: Path, study: Study, drawings: Sequence[Drawing]) -> None:
    """Write the page. The template escapes everything that comes from data (prompts, errors, names)."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    scenes, inside = scenes_with_videos(study, path.parent)
    figures = []
    for drawing in drawings:
        svg = base64.b64encode(drawing.png.with_suffix(".svg").read_bytes()).decode()
        figures.append((drawing.png.stem, drawing, f"data:image/svg+xml;base64,{svg}"))
    text = environment.get_template("page.html.j2").render(
        study=study,
        figures=figures,
        on_top=ON_TOP,
        facts=_facts(study),
        settings=_settings(study.arms),
        legend=LEGEND,
        columns=table_columns(study),
        table=main_table(study, study.measures),
        colors=arm_colors(study),
        real_color=REAL,
        scenes=scenes,
        inside=inside,
        data=_data(study),
        links={name: link_to(run.folder.path, path.parent) for name, run in study.records.items()},
        info=measure_info,
        interval=interval,
        number=number,
        jump=jump,
        symbols=SYMBOLS,
    )
    path.write_text(printable(text), encoding="utf-8")


def _facts(study: Study) -> str:
    """What was trained and scored, in two sentences, from the last run that is done. What its records do not say is left out."""
    done = study.shown_runs.query("state == 'done'")
    run = study.records[(done.index if len(done) else study.shown_runs.index)[-1]]
    names: dict[str, str] = {}
    for group in ("model", "data", "judge"):
        settings = run.group(group)
        names[group] = str(
            settings.get("repo_id") or settings.get("builder") or settings.get("path") or settings.get("name")
        )
    tested = study.scores[(study.scores["phase"] == study.phase) & ~study.scores["measure"].isin(OF_KEPT)]
    videos = len(run.manifest.get("data", {}).get("train", []))
    return (
        f"Model {names['model']}, fine-tuned on {videos} videos of {names['data']}. Scored: {tested['prompt'].nunique()} prompts of "
        f"{tested['scene'].nunique()} scenes, {tested['noise'].nunique()} start noise each; judge: {names['judge']}."
    )


def _settings(arms: pd.DataFrame) -> dict[str, str]:
    """What is behind the name of each arm: `rank 8, alpha 16, learning rate 0.003`."""
    settings = {}
    for name, arm in arms.iterrows():
        words = f"learning rate {number(arm.learning_rate)}"
        if arm.kind not in UNLIKE_LORA:
            words = f"rank {arm['rank']}, alpha {number(arm.alpha)}, {words}"
        if arm.truncated_from:
            words += f", cut from {arm.truncated_from}"
        settings[str(name)] = "no adapter" if arm.is_base else words
    return settings


def _data(study: Study) -> JsonObject:
    """What the page's script needs: names, seeds, and the mean score of each prompt by the positions of measure and arm."""
    names = list(study.arms.index)
    of_arms = study.scores[study.scores["arm"].isin(names)]
    scores, values = of_arms.dropna(subset=["value"]), JsonObject()
    for (prompt, measure, arm), mean in scores.groupby(["prompt", "measure", "arm"])["value"].mean().items():
        by_measure = values.setdefault(prompt, {}).setdefault(study.measures.index(measure), {})
        by_measure[names.index(arm)] = mean
    measures = [{"name": measure, "better": measure_info(measure).better} for measure in study.measures]
    data = {"variants": names, "measures": measures, "values": values}
    shown = dict.fromkeys([*table_columns(study), *study.measures])
    data["order"] = list(map(study.measures.index, shown))
    for column in ("noise", "seed"):
        data[column] = sorted(of_arms[column].unique().tolist())
    return data


def jump(study: Study, measure: str, reference: str, arm: str) -> str | None:
    """The page's link to the prompts behind arm − reference in a measure; None if one of the three is not on the page.

    It holds numbers only (`#show:MEASURE:REFERENCE:ARM`, by position), so that no name has to be escaped.
    """
    names = list(study.arms.index)
    if arm not in names or reference not in names or measure not in study.measures:
        return None
    return f"#show:{study.measures.index(measure)}:{names.index(reference)}:{names.index(arm)}"
