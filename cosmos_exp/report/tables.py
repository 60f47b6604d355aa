"""A study as text: report.md, table.tex, scores.csv, report.json, and the lines on the terminal. pandas writes the tables."""

from __future__ import annotations

import importlib.metadata
import io
import json
import math
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from cosmos_exp.config.measures import measure_info, split_main
from cosmos_exp.files import JsonObject, atomic_path, write_text
from cosmos_exp.provenance import now
from cosmos_exp.report.claims import ClaimRow
from cosmos_exp.report.study import Study, load_study
from cosmos_exp.run_folder import RunFolder
from cosmos_exp.text import cell, printable
from cosmos_exp.text import markdown as plain_markdown

FORMAT = 2  # of report.json
VERSIONS = "versions"  # the only entry of it that may differ when a report is recomputed
RELATIVE, ABSOLUTE = 1e-9, 1e-15  # numbers that differ by less are the same
WIDTH = 150  # columns when the output is not a terminal
MOST_NOTES = 8  # on the terminal; report.md has all
FEW = ("tse", "physics", "instruction")  # the measures of the first table, with those that the study names
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


# --- what a reader in a hurry asks ---
def answers(study: Study) -> list[tuple[str, str]]:
    """Which adapter to take, whether rank matters, and how far to trust it: question and answer."""
    trust = ("Trust", _trust(study))
    for measure in study.main_measures:
        compared = study.differences[study.differences["measure"] == measure]
        if len(compared) and measure not in study.unreadable:
            better = _shown_better(study, measure, compared)
            return [
                ("Take", _take(study, measure, better)),
                ("Rank", _rank(measure, study.arms, compared, better)),
                trust,
            ]
    return [trust]


def _shown_better(study: Study, measure: str, compared: pd.DataFrame) -> set[tuple[str, str]]:
    """The pairs of arms of which the first is shown to be better, by a claim or by a comparison."""
    better = set()
    for row in compared.itertuples():
        if row.verdict in ("better", "worse"):
            better.add(_ordered(row.arm, row.reference, row.verdict == "better"))
    for claim in study.claims:
        if claim.measure == measure and claim.verdict == "confirmed" and "=" not in claim.text:
            is_above = ">" in claim.text
            is_better = is_above == (measure_info(measure).better > 0)
            better.add(_ordered(claim.arm, claim.reference, is_better))
    return better


def _ordered(arm: str, reference: str, is_better: bool) -> tuple[str, str]:
    """The better one first."""
    if is_better:
        return arm, reference
    return reference, arm


def _take(study: Study, measure: str, better: set[tuple[str, str]]) -> str:
    """The smallest adapter that is better than the base and not worse than another one, as far as this is shown."""
    means = study.means[study.means["measure"] == measure].set_index("arm")
    top = f" Best mean: {', '.join(means.index[means['best']]) or 'none'}."
    beaten = {arm for _, arm in better}
    names = [arm for arm in study.arms.index if (arm, study.base) in better and arm not in beaten]
    if not names:
        return f"No adapter is shown to be better than {study.base or 'another'} in {measure}.{top}"
    name = study.arms.loc[names].sort_values("adapter_mib", kind="stable").index[0]
    row = means.loc[name]
    text = f"{name}: {measure} {interval(row['mean'], row['low'], row['high'])}"
    text += f", {study.base} {number(means.loc[study.base, 'mean'])}."
    if len(names) > 1:
        text += f" The smallest of {len(names)} that are better than {study.base}; none is shown to beat another.{top}"
    against_base = study.differences[
        (study.differences["arm"] == name) & (study.differences["reference"] == study.base)
    ]
    worse = against_base.loc[against_base["verdict"] == "worse", "measure"]
    if len(worse):
        text += f" Worse than {study.base} in {', '.join(worse)}."
    return text


def _rank(measure: str, arms: pd.DataFrame, compared: pd.DataFrame, better: set[tuple[str, str]]) -> str:
    """What the comparisons of two ranks of one kind show."""
    trained = arms[~arms["is_base"] & (arms["truncated_from"] == "")]
    shown, open_pairs = [], []
    for row in compared[compared["arm"].isin(trained.index) & compared["reference"].isin(trained.index)].itertuples():
        a, b = trained.loc[row.arm], trained.loc[row.reference]
        if a["kind"] != b["kind"] or a["rank"] == b["rank"]:
            continue
        if (row.arm, row.reference) in better:
            shown.append(f"{row.arm} > {row.reference}")
        elif (row.reference, row.arm) in better:
            shown.append(f"{row.reference} > {row.arm}")
        elif row.verdict == "equivalent":
            shown.append(f"{row.arm} = {row.reference}")
        else:
            open_pairs.append(f"{row.arm} − {row.reference} {interval(row.difference, row.low, row.high)}")
    if not shown and not open_pairs:
        return "Ranks of one kind were not compared."
    text = f"{measure}: {', '.join(shown)}. " if shown else ""
    return text + (f"No difference shown in {measure}: {', '.join(open_pairs)}." if open_pairs else "")


def _trust(study: Study) -> str:
    """How much the numbers rest on."""
    scores = study.scores[study.scores["arm"].isin(study.arms.index)]
    trained = study.arms.loc[~study.arms["is_base"], "done"]
    fewest = int(trained.min()) if len(trained) else 0
    text = f"Training runs per adapter: {fewest} or more; {scores['scene'].nunique()} scenes, "
    text += f"{scores['prompt'].nunique()} prompts, {scores['value'].isna().sum()} of {len(scores)} scores missing; "
    text += "each adapter tuned on its own." if study.tunings else "settings not tuned for each adapter."
    if fewest < 3:
        text += " Fewer than 3 runs: this holds for these adapters, not for another training of the recipe."
    if study.unreadable:
        text += f" No measure of quality here (†): {', '.join(study.unreadable)}."
    return text


def claim_line(claim: ClaimRow) -> str:
    """`✓ instruction: lora-r32 > base   confirmed: 0.91 [0.79, 1.03], p = 3.8e-07 (holds if no training run fails)`."""
    line = f"{claim.symbol} {claim.text}   {claim.verdict}"
    if claim.p is not None:
        line += f": {interval(claim.difference, claim.low, claim.high)}, p = {number(claim.p)}"
    if claim.note:
        line += f" ({claim.note})"
    return line


# --- tables ---
def table_columns(study: Study) -> list[str]:
    """The measures of the first table: the standard ones, those of the claims, and those that only this study has."""
    main, _ = split_main(study.measures)
    own = [claim.measure for claim in study.claims]
    own += [m for m in study.measures if measure_info(m) == measure_info("")]
    columns = [m for m in dict.fromkeys([*FEW, *own]) if m in study.measures]
    return columns or main[:3]


def main_table(study: Study, measures: Sequence[str]) -> pd.DataFrame:
    """One row per adapter, then the references: runs, validation loss, and the given measures with marks against the base."""
    runs = study.arms["done"].astype(str)
    unfinished = study.arms["done"] < study.arms["runs"]
    runs = runs.where(~unfinished, runs + "/" + study.arms["runs"].astype(str))
    names = [*study.arms.index, *study.references]
    table = pd.DataFrame({"adapter": names}, index=names)
    table["runs"] = runs.reindex(names, fill_value="-")
    table["validation loss"] = study.arms["validation_loss"].reindex(names).map(number)
    for measure in measures:
        own = study.means[study.means["measure"] == measure].set_index("arm")
        text = own.apply(lambda row: interval(row["mean"], row["low"], row["high"]), axis="columns").astype(object)
        text = text.where(~own["best"].astype(bool), "**" + text + "**") + own["mark"].map(
            lambda mark: f" {mark}" if mark else ""
        )
        table[study.heading(measure)] = text.reindex(names, fill_value="-")
    return table


def all_measures(study: Study) -> pd.DataFrame:
    """One row per measure, one column per adapter and reference."""
    table = main_table(study, study.measures).drop(columns=["adapter", "runs", "validation loss"])
    return table.T.reset_index(names="measure")


def difference_table(study: Study) -> pd.DataFrame:
    """All comparisons."""
    d = study.differences
    table = d[["measure", "arm", "reference"]].copy()
    table["difference [95 %]"] = _intervals(d, "difference")
    for name, column in (
        ("p (Holm)", "p_holm"),
        ("margin", "margin"),
        ("p equivalent (Holm)", "p_equivalent_holm"),
        ("d_z", "effect"),
    ):
        table[name] = d[column].astype(float).map(number)
    for name, column in (("scenes", "n"), ("prompts", "prompts"), ("left out", "left_out"), ("verdict", "verdict")):
        table[name] = d[column].astype(str)
    for name in ("scenes_needed", "runs_needed", "also_different"):
        if d[name].astype(bool).any() and d[name].notna().any():
            words = d[name].fillna("").astype(str)
            table[name.replace("_", " ")] = words.str.removesuffix(".0")
    return table


def _intervals(frame: pd.DataFrame, mean: str) -> list[str]:
    texts = []
    for row in frame[[mean, "low", "high"]].astype(float).itertuples(index=False):
        texts.append(interval(*row))
    return texts


def drift_table(study: Study) -> pd.DataFrame:
    """Each measure by chunk, and last minus first with what it says."""
    drift = study.drift.assign(text=_intervals(study.drift, "mean"))
    table = drift.pivot(index=["measure", "arm"], columns="chunk", values="text").fillna("-")
    change = drift[drift["chunk"] == 0].set_index(["measure", "arm"])
    table = table.add_prefix("chunk ").rename(columns={"chunk 0": "last − first"})
    table["last is"] = change["verdict"]
    order = drift[["measure", "arm"]].drop_duplicates()
    position = order["measure"].map(study.measures.index)
    order = order.iloc[position.argsort(kind="stable")]
    return table.loc[pd.MultiIndex.from_frame(order)].reset_index()


def to_markdown(table: pd.DataFrame) -> str:
    """A Markdown table."""
    return table.to_markdown(index=False, disable_numparse=True) + "\n"


def claims_markdown(study: Study) -> str:
    """The frozen claims with their verdicts, one line each."""
    lines = [f"- {claim_line(claim)}" for claim in study.claims]
    return "\n".join([f"## {study.claims_heading}\n", *lines, ""])


def measures_markdown(study: Study) -> str:
    """The table of few columns, and all measures."""
    few, measures = to_markdown(main_table(study, table_columns(study))), to_markdown(all_measures(study))
    return "\n".join([few, f"{LEGEND}\n", "## All measures\n", measures])


def drift_markdown(study: Study) -> str:
    """Each measure by chunk."""
    return "\n".join(["## Drift over the chunks\n", to_markdown(drift_table(study))])


def report_markdown(study: Study) -> str:
    """report.md: the answers, the claims, the figures, the table of few columns, everything else below it."""
    parts = [f"# {study.title}\n"]
    for question, answer in answers(study):
        parts.append(f"**{question}**: {answer}\n")
    if study.claims:
        parts.append(claims_markdown(study))
    head, parts = "\n".join(parts), [measures_markdown(study)]
    if len(study.differences):
        parts += ["## All comparisons\n", to_markdown(difference_table(study))]
    if len(study.drift):
        parts.append(drift_markdown(study))
    for tuning in study.tunings:
        points = tuning.points.assign(score=_intervals(tuning.points, "score")).drop(columns=["low", "high"])
        parts += ["## Tuning\n", f"{tuning.heading[0].upper()}{tuning.heading[1:]}.\n", to_markdown(points.astype(str))]
    if study.notes:
        parts += ["## Notes\n", "\n".join(f"- {note}" for note in study.notes) + "\n"]
    # links of data are no links; these are ours
    return "\n".join([plain_markdown(head), FIGURES, plain_markdown("\n".join(parts))])


_LATEX = {"\\": r"\textbackslash{}", "_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#"}
_LATEX_SIGNS = {" ↑": r" $\uparrow$", " ↓": r" $\downarrow$", "−": r"$-$", "°": r"$^\circ$", "†": r"$^\dagger$"}


def report_latex(study: Study) -> str:
    """The main table for LaTeX (booktabs), with intervals in small type, and the verdicts of the claims as comments."""
    measures, _ = split_main(study.measures)
    table = main_table(study, measures).drop(columns="runs")
    for sign, escaped in (_LATEX | _LATEX_SIGNS).items():
        table = table.apply(lambda column, s=sign, e=escaped: column.str.replace(s, e, regex=False))
        table.columns = table.columns.str.replace(sign, escaped, regex=False)
    for name in table.columns[2:]:
        table[name] = table[name].str.replace(r"\*\*(\S+)(.*?)\*\*", r"\\textbf{\1}\2", regex=True)
        table[name] = table[name].str.replace(r"(\[.*?\])", r"{\\scriptsize \1}", regex=True)
    text = table.to_latex(index=False, escape=False, column_format="l" + "r" * (len(table.columns) - 1))
    comments = [f"% {printable(claim_line(claim))}" for claim in study.claims]
    return printable("\n".join([text.rstrip("\n"), f"% {LEGEND.replace('%', 'percent')}", *comments]) + "\n")


def scores_csv(study: Study) -> str:
    """Every score of every run and of the references in long form."""
    frame = study.scores.copy()
    frame["detail"] = frame["detail"].map(json.dumps)
    for column in ("run", "arm", "scene", "prompt", "text", "measure", "video", "reason", "detail"):
        frame[column] = frame[column].map(cell)
    return frame.to_csv(index=False, lineterminator="\n")


# --- report.json ---
def report_numbers(study: Study, margins: Sequence[str], margins_at: str) -> JsonObject:
    """The content of report.json: every number of a report for machines.

    Args:
        margins: The margins of the command line, MEASURE=NUMBER, and when they were given.
    """
    content: JsonObject = {"format": FORMAT, VERSIONS: {}, "title": study.title, "margins": list(margins)}
    for name in ("cosmos-exp", "numpy", "pandas", "scipy"):
        content[VERSIONS][name] = importlib.metadata.version(name)
    if margins:
        content["margins_at"] = margins_at
    content["runs"] = _records(study.runs.reset_index())
    for name in ("means", "differences", "drift"):
        content[name] = _records(getattr(study, name))
    content |= {"claims_heading": study.claims_heading, "claims": [asdict(claim) for claim in study.claims]}
    content |= {"answers": dict(answers(study)), "notes": study.notes}
    return content


def _records(frame: pd.DataFrame) -> list[JsonObject]:
    """The rows of a frame, with Python's own numbers, and null for a missing one."""
    frame = frame.astype(object)
    is_number = frame.notna() & ~frame.isin([math.inf, -math.inf])  # JSON has no word for an infinite loss
    return json.loads(json.dumps(frame.where(is_number, None).to_dict("records"), default=_plain))


def _plain(value: object) -> object:
    """A number of numpy as one of Python."""
    return value.item() if hasattr(value, "item") else str(value)


def mismatches(old: object, new: object, where: str = "") -> Iterator[str]:
    """`differences[3].p: 0.04 in the file, 0.06 recomputed` for every entry in which two JSON values differ."""
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        for key in sorted({*old, *new}):
            name = f"{where}.{key}" if where else str(key)
            if key not in old or key not in new:
                yield f"{name}: only {'recomputed' if key in new else 'in the file'}"
            elif name != VERSIONS:
                yield from mismatches(old[key], new[key], name)
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for k, (a, b) in enumerate(zip(old, new, strict=True)):
            yield from mismatches(a, b, f"{where}[{k}]")
    elif not _same(old, new):
        yield f"{where}: {_short(old)} in the file, {_short(new)} recomputed"


def _same(old: object, new: object) -> bool:
    if isinstance(old, float) or isinstance(new, float):
        try:
            return math.isclose(old, new, rel_tol=RELATIVE, abs_tol=ABSOLUTE)  # type: ignore[arg-type]
        except (OverflowError, TypeError):  # an integer beyond a float; no number
            return False
    return old == new


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else f"{text[:57]}..."


def report_texts(study: Study, margins: Sequence[str] = (), margins_at: str = "") -> dict[str, str]:
    """The text files of a report by name."""
    numbers = report_numbers(study, margins, margins_at)
    return {
        "report.md": report_markdown(study),
        "table.tex": report_latex(study),
        "scores.csv": scores_csv(study),
        "report.json": json.dumps(numbers, indent=2, ensure_ascii=False, allow_nan=False) + "\n",
    }


# --- terminal ---
def print_study(study: Study) -> None:
    """Print what a reader asks for: the answers, the claims, the table of few columns, and the first notes."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without arrows gets question marks
    console = Console(width=None if Console().is_terminal else WIDTH, highlight=False)
    lines = [f"{question}: {answer}" for question, answer in answers(study)]
    if study.claims:
        lines += ["", study.claims_heading, *map(claim_line, study.claims)]
    _print(console, lines)
    console.print(rich_table(main_table(study, table_columns(study))))
    rest = len(study.notes) - MOST_NOTES
    _print(console, study.notes[:MOST_NOTES] + ([f"and {rest} notes more in report.md"] if rest > 0 else []))


def rich_table(table: pd.DataFrame) -> Table:
    """A table for the terminal. No cell is cut."""
    shown = Table()
    for name in table.columns:
        shown.add_column(Text(printable(name)), overflow="fold")
    for row in table.itertuples(index=False):
        shown.add_row(*(Text(printable(str(value).replace("**", ""))) for value in row))
    return shown


def _print(console: Console, lines: Sequence[str]) -> None:
    """Print lines of data: no markup of rich, no control characters."""
    for line in lines:
        console.print(Text(printable(line)))


def print_runs(folders: Sequence[RunFolder]) -> None:
    """Print the table of each run."""
    for folder in folders:
        print_study(load_study(folder.path))


# --- on disk ---
@dataclass(frozen=True)
class WrittenReport:
    """A report on disk.

    Attributes:
        out: Its folder.
        files: The tables and the contact sheet.
        figures: The PNG files; a PDF is beside each.
        page: The HTML page.
    """

    study: Study
    out: Path
    files: list[Path]
    figures: list[Path]
    page: Path

    @property
    def any_failed(self) -> bool:
        """Whether a run has failed or has damaged records."""
        return bool(self.study.damages) or bool((self.study.runs["state"] == "failed").any())


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
    from cosmos_exp.report.sheet import contact_sheet

    out, margins_at = out or folder, now()
    study = load_study(folder, out.absolute().name, margins, margins_at)
    files = []
    for name, text in report_texts(study, margins, margins_at).items():
        write_text(out / name, text)
        files.append(out / name)
    drawings = draw_all(study, out / "figures")
    if contact_sheet(study, out / "sheet.png"):
        files.append(out / "sheet.png")
    with atomic_path(out / "page.html") as temporary:
        write_page(temporary, study, drawings)
    return WrittenReport(study, out, files, [drawing.png for drawing in drawings], out / "page.html")
