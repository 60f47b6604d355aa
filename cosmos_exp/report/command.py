"""`cosmos-exp report DIR`, and the table that a run ends with."""

from __future__ import annotations

import argparse
from pathlib import Path

from rich.console import Console
from rich.table import Table

from cosmos_exp.report.sheet import contact_sheet
from cosmos_exp.report.tables import find_runs, markdown, notes, run_row, scores_csv, table_rows
from cosmos_exp.run_folder import RunFolder, atomic_path


def print_runs(runs: list[RunFolder]) -> None:
    """The table on the terminal."""
    rows = [run_row(r) for r in runs]
    header, cells = table_rows(rows)
    table = Table(*header)
    for row in cells:
        table.add_row(*row)
    console = Console(width=None if Console().is_terminal else 150)
    console.print(table)
    for note in notes(rows):
        console.print(note, highlight=False)


def main(args: argparse.Namespace) -> int:
    """Print the table; write report.md, scores.csv and sheet.png. Exit code 1 if a run has failed."""
    runs = find_runs(Path(args.dir))
    rows = [run_row(r) for r in runs]
    out = Path(args.out or args.dir)
    for name, text in (("report.md", markdown(rows)), ("scores.csv", scores_csv(runs))):
        with atomic_path(out / name) as temporary:
            temporary.write_text(text, encoding="utf-8")
    print_runs(runs)
    written = [out / "report.md", out / "scores.csv"]
    finished = [(r, row["adapter"]) for r, row in zip(runs, rows, strict=True) if row["state"] == "done"]
    finished.sort(key=lambda pair: pair[1] != "base")  # the base first
    if contact_sheet([r for r, _ in finished], [name for _, name in finished], out / "sheet.png"):
        written.append(out / "sheet.png")
    print(f"written: {', '.join(map(str, written))}")
    return int(any(r["state"] == "failed" for r in rows))
