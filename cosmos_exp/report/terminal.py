"""The table of runs on the terminal, at the end of a run, of a sweep and of `cosmos-exp report`."""

from __future__ import annotations

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

from cosmos_exp.report.tables import notes, run_row, table_columns, table_rows
from cosmos_exp.run_folder import RunFolder

WIDTH = 150  # columns when the output is not a terminal


MOST_COLUMNS = 5  # runs side by side; more runs become rows, with the main measures only


def runs_table(runs: list[RunFolder]) -> Group:
    """The table of runs with its notes, for rich: one column per run and reference, or one row per run if they are many."""
    rows = [run_row(r) for r in runs]
    header, cells = table_rows(rows) if len(rows) > MOST_COLUMNS else table_columns(rows)
    table = Table(*header)
    for row in cells:
        table.add_row(*row)
    return Group(table, *(Text(note) for note in notes(rows)))


def print_runs(runs: list[RunFolder]) -> None:
    """Print the table of runs."""
    Console(width=None if Console().is_terminal else WIDTH).print(runs_table(runs))
