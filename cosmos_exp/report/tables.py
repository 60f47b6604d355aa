"""A study as text: report.md, table.tex, scores.csv, report.json, and the lines on the terminal. pandas writes the tables."""

from __future__ import annotations

import importlib.metadata
import io
import json
import math
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cosmos_exp.config.measures import MEASURES, OF_KEPT, main_measures
from cosmos_exp.files import JsonObject, atomic_path, write_text
from cosmos_exp.report.study import Study, load_study
from cosmos_exp.statistics.claims import CONFIRMED, NOT_SHOWN, REFUTED
from cosmos_exp.text import markdown, one_line, printable

FORMAT = 3  # of report.json
VERSIONS = "versions"  # the only entry of it that may differ when a report is recomputed
SYMBOLS = {CONFIRMED: "✓", REFUTED: "✗", NOT_SHOWN: "·"}
WIDTH = 150  # columns when the output is not a terminal
ROWS_AT_ONCE = 2000  # of scores.csv
MOST_NOTES = 8  # on the terminal; report.md has all
FEW = ("tse", "physics", "instruction", *OF_KEPT)  # the measures of the first table, with those that the study names
FIGURES = "![differences](figures/differences.png)\n\n![scores over rank](figures/rank.png)\n"
LEGEND = (
    "Mean [95 % interval over scenes and, from three training runs on, over runs]. Against the base, Holm's correction, 5 %: "
    "+ better, − worse, = equivalent within the margin; in brackets: about these trained adapters only; °: holds if no training "
    "run fails. † a still picture scores as well as the recordings."
)


def number(value: float | None) -> str:
    """Three significant digits; a dash for a missing number."""
    if value is None or math.isnan(value):
        return "-"
    return f"{value:.3g}"


def interval(mean: float | None, low: float | None, high: float | None) -> str:
    """`0.42 [0.31, 0.55]`; the mean alone without an interval; a dash without a mean."""
    if "-" in (number(mean), number(low), number(high)):
        return number(mean)
    return f"{number(mean)} [{number(low)}, {number(high)}]"


def claim_lines(study: Study) -> list[str]:
    """`✓ instruction: lora-r32 > base   confirmed: 0.91 [0.79, 1.03], p = 3.8e-07 (holds if no training run fails)` …"""
    lines = []
    for claim in study.claims.itertuples():
        line = f"{SYMBOLS[claim.verdict]} {claim.text}   {claim.verdict}"
        if pd.notna(claim.p):
            line += f": {interval(claim.difference, claim.low, claim.high)}, p = {number(claim.p)}"
        if claim.note:
            line += f" ({claim.note})"
        lines.append(line)
    return lines


# --- tables ---
def table_columns(study: Study) -> list[str]:
    """The measures of the first table: the standard ones, those of the claims, and those that only this study has."""
    unlisted = [m for m in study.measures if m not in MEASURES]
    columns = [m for m in dict.fromkeys([*FEW, *study.claims["measure"], *unlisted]) if m in study.measures]
    return columns or study.main_measures[:3]


def main_table(study: Study, measures: Sequence[str]) -> pd.DataFrame:
    """One row per adapter, then the references: runs, validation loss, and the given measures with marks against the base."""
    arms, names = study.arms, [*study.arms.index, *study.references]
    unfinished = "/" + arms["runs"].astype(str)
    runs = arms["done"].astype(str) + unfinished.where(arms["done"] < arms["runs"], "")
    table = pd.DataFrame({"adapter": names}, index=names)
    table["runs"] = runs.reindex(names, fill_value="-")
    table["validation loss"] = arms["validation_loss"].reindex(names).map(number)
    texts = study.means.assign(text=_intervals(study.means, "mean") + (" " + study.means["mark"]).str.rstrip())
    texts = texts.pivot(index="arm", columns="measure", values="text").reindex(index=names, columns=measures)
    return table.join(texts.fillna("-").rename(columns=study.heading))


def all_measures(study: Study) -> pd.DataFrame:
    """One row per measure, one column per adapter and reference."""
    table = main_table(study, study.measures).drop(columns=["adapter", "runs", "validation loss"])
    return table.T.reset_index(names="measure")


def difference_table(study: Study) -> pd.DataFrame:
    """All comparisons, with the names of report.json."""
    table = study.differences[["measure", "arm", "reference", "verdict", "also_different"]].copy()
    table.insert(3, "difference [95 %]", _intervals(study.differences, "difference"))
    for name in ("p_holm", "margin", "p_equivalent_holm", "n", "prompts", "left_out", "scenes_needed", "runs_needed"):
        table[name] = study.differences[name].astype(float).map(number)
    return table


def _intervals(frame: pd.DataFrame, mean: str) -> pd.Series:
    """`interval` of each row."""
    columns = frame[[mean, "low", "high"]].astype(float)
    return pd.Series(map(interval, *columns.to_numpy().T), frame.index, dtype=object)


def drift_table(study: Study) -> pd.DataFrame:
    """Each measure by chunk, and last minus first with what it says."""
    drift = study.drift.assign(text=_intervals(study.drift, "mean"))
    drift["measure"] = pd.Categorical(drift["measure"], study.measures)
    drift["arm"] = pd.Categorical(drift["arm"], drift["arm"].unique())
    rows = drift.set_index(["measure", "arm", "chunk"])["text"].unstack("chunk").fillna("-")
    rows["last is"] = drift[drift["chunk"] == 0].set_index(["measure", "arm"])["verdict"]
    names = {column: f"chunk {column}" for column in rows.columns[1:-1]}
    return rows.rename(columns={0: "last − first", **names}).reset_index()


def to_markdown(table: pd.DataFrame) -> str:
    """A Markdown table."""
    return table.to_markdown(index=False, disable_numparse=True) + "\n"


def report_markdown(study: Study) -> str:
    """report.md: the claims, the figures, the table of few columns, everything else below it."""
    head = [f"# {study.title}\n"]
    if len(study.claims):
        head += [f"## {study.claims_heading}\n", *(f"- {line}" for line in claim_lines(study)), ""]
    parts = [to_markdown(main_table(study, table_columns(study))), f"{LEGEND}\n"]
    parts += ["## All measures\n", to_markdown(all_measures(study))]
    if len(study.differences):
        parts += ["## All comparisons\n", to_markdown(difference_table(study))]
    if len(study.drift):
        parts += ["## Drift over the chunks\n", to_markdown(drift_table(study))]
    for tuning in study.tunings:
        parts += [f"## Tuning: {tuning.heading}\n", to_markdown(tuning.points.round(4).astype(str))]
    if study.notes:
        parts += ["## Notes\n", *(f"- {note}" for note in study.notes), ""]
    # links of data are no links; these are ours
    return "\n".join([markdown("\n".join(head)), FIGURES, markdown("\n".join(parts))])


_LATEX_SIGNS = {"↑": r"$\uparrow$", "↓": r"$\downarrow$", "−": "$-$", "°": r"$^\circ$", "†": r"$^\dagger$"}


def report_latex(study: Study) -> str:
    """The table of the main measures for LaTeX (booktabs), and the verdicts of the claims as comments."""
    measures = main_measures(study.measures)
    table = main_table(study, measures).drop(columns="runs")
    table.columns = table.columns.str.replace("_", r"\_")
    text = table.to_latex(index=False, escape=True, column_format="l" + "r" * (len(table.columns) - 1))
    for sign, latex in _LATEX_SIGNS.items():
        text = text.replace(sign, latex)
    comments = [f"% {line}" for line in (LEGEND, *claim_lines(study))]
    return printable("\n".join([text + comments[0], *comments[1:]]) + "\n")


def scores_csv(study: Study) -> str:
    """Every score of every run and of the references in long form."""
    texts = ["run", "arm", "scene", "prompt", "text", "measure", "video", "reason", "detail"]
    parts = []
    for start in range(0, max(1, len(study.scores)), ROWS_AT_ONCE):  # details are long: not all as text at once
        frame = study.scores[start : start + ROWS_AT_ONCE]
        frame = frame.assign(detail=frame["detail"].map(json.dumps))
        frame[texts] = frame[texts].map(one_line)
        parts.append(frame.to_csv(index=False, header=not start, lineterminator="\n"))
    return "".join(parts)


# --- report.json ---
def report_numbers(study: Study, margins: Sequence[str]) -> JsonObject:
    """The content of report.json: every number of a report for machines.

    Args:
        margins: The margins of the command line, MEASURE=NUMBER.
    """
    versions = {name: importlib.metadata.version(name) for name in ("cosmos-exp", "numpy", "pandas", "scipy")}
    content: JsonObject = {"format": FORMAT, VERSIONS: versions, "title": study.title, "margins": list(margins)}
    for name in ("runs", "means", "differences", "drift", "claims"):
        content[name] = _records(getattr(study, name))
    content["runs"] = _records(study.runs.reset_index())
    return content | {"claims_heading": study.claims_heading, "notes": study.notes}


def _records(frame: pd.DataFrame) -> list[JsonObject]:
    """The rows of a frame, with Python's own numbers, and null for a missing one."""
    frame = frame.astype(object)
    is_number = frame.notna() & ~frame.isin([math.inf, -math.inf])  # JSON has no word for an infinite loss
    return json.loads(json.dumps(frame.where(is_number, None).to_dict("records"), default=lambda value: value.item()))


def report_texts(study: Study, margins: Sequence[str] = ()) -> dict[str, str]:
    """The text files of a report by name."""
    numbers = report_numbers(study, margins)
    return {
        "report.md": report_markdown(study),
        "table.tex": report_latex(study),
        "scores.csv": scores_csv(study),
        "report.json": json.dumps(numbers, indent=2, ensure_ascii=False, allow_nan=False) + "\n",
    }


# --- terminal ---
def print_study(study: Study) -> None:
    """Print what a reader asks for: the claims, the table of few columns, and the first notes."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without arrows gets question marks
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDTH
    notes = study.notes[:MOST_NOTES]
    if len(study.notes) > MOST_NOTES:
        notes.append(f"and {len(study.notes) - MOST_NOTES} notes more in report.md")
    for line in filter(None, [study.claims_heading, *claim_lines(study)]):
        console.print(Text(printable(line)))  # no markup of rich, no control characters
    console.print(rich_table(main_table(study, table_columns(study))))
    for note in notes:
        console.print(Text(printable(note)))


def rich_table(table: pd.DataFrame) -> Table:
    """A table for the terminal. No cell is cut."""
    shown = Table()
    for name in table.columns:
        shown.add_column(Text(printable(name)), overflow="fold")
    for row in table.astype(str).itertuples(index=False):
        shown.add_row(*map(Text, map(printable, row)))
    return shown


def print_run(folder: Path) -> None:
    """Print the table of a run."""
    print_study(load_study(folder))


# --- on disk ---
@dataclass(frozen=True)
class WrittenReport:
    """A report on disk: its files in the folder `out`, the page last."""

    study: Study
    out: Path
    files: list[Path]

    @property
    def any_failed(self) -> bool:
        """Whether a run has failed or has damaged records."""
        return bool(self.study.damages or (self.study.runs["state"] == "failed").any())


def write_report(folder: Path, out: Path | None = None, margins: Sequence[str] = ()) -> WrittenReport:
    """Write the report of all runs at or below `folder`.

    Args:
        folder: Folder with run folders.
        out: Folder of the report; None: `folder`.
        margins: Margins of equivalence as MEASURE=NUMBER, instead of those of the runs' configurations.

    Raises:
        UserError: There are no runs; a margin cannot be read; margins are given but the runs are not comparable.
    """
    os.environ.pop("MPLBACKEND", None)  # that of a notebook, which matplotlib may not know; the figures need none
    from cosmos_exp.report.figures import draw_all
    from cosmos_exp.report.page import write_page

    out = out or folder
    study = load_study(folder, out.absolute().name, margins)
    files = []
    for name, text in report_texts(study, margins).items():
        write_text(out / name, text)
        files.append(out / name)
    drawings = draw_all(study, out / "figures")
    with atomic_path(out / "page.html") as temporary:
        write_page(temporary, study, drawings)
    files += [*(drawing.png for drawing in drawings), out / "page.html"]
    return WrittenReport(study, out, files)
