"""`cosmos-exp report DIR`, and the table that a run ends with."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from cosmos_exp.errors import UserError
from cosmos_exp.files import atomic_path
from cosmos_exp.report.tables import notes, run_row, scores_csv, table_rows
from cosmos_exp.run_folder import RunFolder


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
        console.print(note, highlight=False, markup=False)


def parse_margins(words: list[str], configured: dict[str, float]) -> dict[str, float]:
    """`instruction=0.25` over what the runs' configurations say.

    Raises:
        UserError: not MEASURE=NUMBER with a positive number.
    """
    margins = dict(configured)
    for word in words:
        name, sign, value = word.partition("=")
        try:
            margins[name] = float(value)
        except ValueError:
            sign = ""
        if not sign or not margins[name] > 0:
            raise UserError(f"--margin {word}: write MEASURE=NUMBER, e.g. instruction=0.25")
    return margins


def main(args: argparse.Namespace) -> int:
    """Print the table; write report.md, table.tex, scores.csv, figures/, sheet.png and page.html. Exit code 1 if a run failed."""
    from cosmos_exp.report.figures import draw_all
    from cosmos_exp.report.page import write_page
    from cosmos_exp.report.sheet import contact_sheet
    from cosmos_exp.report.study import check_comparable, differences, find_runs, margins_of, variants
    from cosmos_exp.report.study_tables import differences_markdown, latex, markdown, words

    runs = find_runs(Path(args.dir))
    rows = [run_row(r) for r in runs]
    out = Path(args.out or args.dir)
    study, refused, found = variants(runs), None, []
    try:
        check_comparable(study)
        found = differences(study, parse_margins(getattr(args, "margin", None) or [], margins_of(study)))
    except UserError as error:
        if getattr(args, "margin", None):
            raise
        refused = str(error)
    said = notes(rows) + ([f"No differences are drawn: {refused}"] if refused else [])
    parts = [f"# {out.absolute().name}\n", markdown(study, found)]
    if found:
        parts += ["## What the data say\n", "\n".join(f"- {w}" for w in words(study, found)) + "\n"]
        parts += ["## Every claim\n", differences_markdown(found)]
    parts += ["## Notes\n", "\n".join(f"- {n}" for n in said) + "\n"]
    written = _write(
        out, {"report.md": "\n".join(parts), "table.tex": latex(study, found), "scores.csv": scores_csv(runs)}
    )
    figures = draw_all(study, found, out / "figures")
    done = [v for v in study if v.done]
    if contact_sheet([v.done[0].folder for v in done], [v.name for v in done], out / "sheet.png"):
        written.append(out / "sheet.png")
    _step(out / "page.html", lambda path: write_page(path, out.absolute().name, study, found, figures, said))
    print_runs(runs)
    if refused:
        print(f"No differences are drawn: {refused}")
    print(f"written: {', '.join(str(p.relative_to(out)) for p in written)}, {len(figures)} figures in {out}")
    print(f"page: {out / 'page.html'}")
    return int(any(r["state"] == "failed" for r in rows))


def _write(out: Path, texts: dict[str, str]) -> list[Path]:
    for name, text in texts.items():
        _step(out / name, lambda path, text=text: path.write_text(text, encoding="utf-8"))  # type: ignore[misc]
    return [out / name for name in texts]


def _step(path: Path, write: Callable[[Path], Any]) -> None:
    with atomic_path(path) as temporary:
        write(temporary)
