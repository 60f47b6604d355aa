"""The table of runs on the terminal, at the end of a run, of a sweep and of `cosmos-exp report`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from cosmos_exp.report.claims import ClaimsReport
from cosmos_exp.report.drift import drift_notes, drift_table, drifts_of, main_drifts
from cosmos_exp.report.references import footnote_lines
from cosmos_exp.report.tables import (
    RunRow,
    first_with_references,
    measures_of_rows,
    notes,
    run_row,
    table_columns,
    table_rows,
)
from cosmos_exp.run_folder import RunFolder
from cosmos_exp.statistics.scores import read_scores
from cosmos_exp.text import one_line, printable

if TYPE_CHECKING:
    from cosmos_exp.report.checks import Check

MOST_FINDINGS = 20  # of one check; the rest is counted
WIDTH = 150  # columns when the output is not a terminal


MOST_COLUMNS = 5  # runs side by side; more runs become rows, with the main measures only


def runs_table(runs: list[RunFolder]) -> Group:
    """The table of runs with its notes, for rich: one column per run and reference, or one row per run if they are many."""
    rows = [run_row(r) for r in runs]
    many = len(rows) > MOST_COLUMNS
    header, cells = table_rows(rows) if many else table_columns(rows)
    shown = None if many else first_with_references(rows)
    below = notes(rows) + (footnote_lines(shown.footnotes) if shown else [])
    table = _table(header)
    for row in cells:
        table.add_row(*map(_text, row))
    return Group(table, *map(_text, below), *_drift(runs, rows))


def _drift(runs: Sequence[RunFolder], rows: Sequence[RunRow]) -> list[Table | Text]:
    """The main measures by chunk, of runs with videos of several chunks."""
    names = [r.adapter for r in rows]
    drifts = []
    for run, row in zip(runs, rows, strict=True):
        name = row.adapter if names.count(row.adapter) == 1 else f"{row.adapter} ({row.name})"
        scenes = run.manifest.get("data", {}).get("scenes") or {}
        drifts += drifts_of(name, read_scores(run.scores), measures_of_rows([row]), scenes)
    if not drifts:
        return []
    head, cells = drift_table(main_drifts(drifts))
    table = _table(head)
    table.title, table.title_justify = _text("drift over the chunks, main measures"), "left"
    for line in cells:
        table.add_row(*map(_text, line))
    return [table, *map(_text, drift_notes(main_drifts(drifts)))]


def _table(head: Sequence[str]) -> Table:
    """An empty table with these heads."""
    table = Table()
    for name in head:
        table.add_column(_text(name), overflow="fold")  # nothing is cut
    return table


def _text(text: str) -> Text:
    """Text as it is: no markup of rich, no control characters."""
    return Text(printable(text))


def print_runs(runs: list[RunFolder]) -> None:
    """Print the table of runs."""
    Console(width=None if Console().is_terminal else WIDTH).print(runs_table(runs))


def print_claims(claims: ClaimsReport) -> None:
    """Print the frozen claims with their verdicts."""
    head, rows = claims.table()
    table = _table(head)
    table.title, table.title_justify = _text(claims.heading), "left"
    for row in rows:
        table.add_row(*map(_text, row))
    said = [*claims.warnings, *claims.remarks()]
    Console(width=None if Console().is_terminal else WIDTH).print(Group(table, *map(_text, said)))


def print_checks(checks: Sequence[Check]) -> None:
    """Print one line per check, and below it what is wrong."""
    width = max(len(c.name) for c in checks)
    for check in checks:
        print(f"{'ok    ' if check.ok else 'FAILED'}  {check.name:{width}}  {one_line(check.what)}")
        for finding in check.findings[:MOST_FINDINGS]:
            print(f"          {one_line(finding)}")
        if len(check.findings) > MOST_FINDINGS:
            print(f"          and {len(check.findings) - MOST_FINDINGS} more")
        for note in check.notes:
            print(f"          not checked: {one_line(note)}")
