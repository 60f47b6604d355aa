"""The report of a folder of runs: report.md, report.json, table.tex, scores.csv, figures/, sheet.png and page.html."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cosmos_exp.errors import UserError
from cosmos_exp.files import atomic_path, write_text
from cosmos_exp.provenance import now
from cosmos_exp.report.claims import ALL_EXPLORATORY, EXPLORATORY, ClaimsReport, claims_report
from cosmos_exp.report.conclusions import cautions, conclusions
from cosmos_exp.report.margins import margin_notes, parse_margins
from cosmos_exp.report.numbers import report_numbers
from cosmos_exp.report.pairs import check_comparable, differences
from cosmos_exp.report.results import Results
from cosmos_exp.report.sweep_tables import claims_markdown, differences_markdown, drift_markdown, latex, markdown
from cosmos_exp.report.tables import notes, run_row, scores_csv
from cosmos_exp.report.tuning import tuning_markdown, tuning_notes, tunings
from cosmos_exp.report.variants import Run, Unreadable, Variant, readable_runs, variants_of
from cosmos_exp.run_folder import RunFolder
from cosmos_exp.statistics.comparisons import Difference
from cosmos_exp.text import markdown as plain_markdown
from cosmos_exp.text import printable


@dataclass(frozen=True)
class WrittenReport:
    """A report on disk.

    Attributes:
        out: Its folder.
        files: The tables and the contact sheet.
        figures: The PNG files; a PDF is beside each.
        page: The HTML page.
        runs: The runs that it covers.
        unreadable: Runs with damaged records, which it lists and does not cover.
        not_compared: Why there are no differences; None if there may be some.
        claims: The frozen claims with their tests; None if there are none.
    """

    out: Path
    files: list[Path]
    figures: list[Path]
    page: Path
    runs: list[RunFolder]
    not_compared: str | None
    claims: ClaimsReport | None = None
    unreadable: Sequence[Unreadable] = ()

    @property
    def any_failed(self) -> bool:
        """Whether a run has failed or has damaged records."""
        return bool(self.unreadable) or any(run.status.get("state") == "failed" for run in self.runs)


@dataclass(frozen=True)
class Content:
    """What a report says. `texts` are its text files by name: they can be compared with those on disk."""

    runs: list[RunFolder]
    results: Results
    claims: ClaimsReport | None
    not_compared: str | None
    texts: dict[str, str]
    unreadable: Sequence[Unreadable]


def report_content(folder: Path, title: str, margins: list[str], margins_at: str | None = None) -> Content:
    """The content of the report of all runs at or below `folder`.

    Args:
        margins: As in `write_report`.
        margins_at: When they were given, UTC; None: now.

    Raises:
        UserError: as `write_report`.
    """
    runs, unreadable = readable_runs(folder)
    margins_at = (margins_at or now()) if margins else None
    results, not_compared = results_of(runs, title, margins, margins_at, [u.note for u in unreadable])
    variants = results.variants
    claims = claims_report(folder, variants, parse_margins(margins, variants))
    numbers = report_numbers(results, claims, folder, margins)
    numbers |= {"margins_at": margins_at} if margins_at else {}
    texts = {
        "report.md": plain_markdown(_markdown(results, claims)),
        "table.tex": printable(latex(results, claims)),
        "scores.csv": scores_csv(runs),
        "report.json": json.dumps(numbers, indent=2, ensure_ascii=False, allow_nan=False) + "\n",
    }
    return Content([r.folder for r in runs], results, claims, not_compared, texts, unreadable)


def results_of(
    runs: list[Run],
    title: str,
    margins: list[str] | None = None,
    margins_at: str | None = None,
    first: Sequence[str] = (),
) -> tuple[Results, str | None]:
    """The results of runs.

    Args:
        margins, margins_at: As in `report_content`.
        first: Notes that come before the others.

    Returns:
        The results, and why they have no differences; None if they may have some.

    Raises:
        UserError: as `write_report`.
    """
    variants = variants_of(runs)
    found, not_compared = _compare(variants, margins or [])
    said = [*first, *notes([run_row(r.folder) for r in runs])]
    if not_compared:
        said.append(f"No differences are reported: {not_compared}")
    said += tuning_notes(variants, tunings(variants))
    said += cautions(variants, found)
    said += margin_notes(variants, margins or [], margins_at)
    results = Results(title, variants, found, said, comparable=not not_compared)
    said += results.warnings.values()
    return results, not_compared


def write_report(folder: Path, out: Path | None = None, margins: list[str] | None = None) -> WrittenReport:
    """Write the report of all runs at or below `folder`.

    Args:
        folder: Folder with run folders.
        out: Folder of the report; None: `folder`.
        margins: Margins of equivalence as MEASURE=NUMBER, instead of those of the runs' configurations.

    Raises:
        UserError: There are no runs; a margin cannot be read; margins are given but the runs are not comparable.
    """
    from cosmos_exp.report.figures import draw_all
    from cosmos_exp.report.page import write_page
    from cosmos_exp.report.sheet import contact_sheet
    from cosmos_exp.report.study import load_study

    out = out or folder
    content = report_content(folder, out.absolute().name, margins or [])
    study = load_study(folder, out.absolute().name, margins or [])
    for name, text in content.texts.items():
        write_text(out / name, text)
    files = [out / name for name in content.texts]
    figures = draw_all(study, out / "figures")
    if contact_sheet(study, out / "sheet.png"):
        files.append(out / "sheet.png")
    with atomic_path(out / "page.html") as temporary:
        write_page(temporary, study, figures)
    page, unreadable, pictures = out / "page.html", content.unreadable, [f.png for f in figures]
    return WrittenReport(out, files, pictures, page, content.runs, content.not_compared, content.claims, unreadable)


def _compare(variants: list[Variant], margins: list[str]) -> tuple[list[Difference], str | None]:
    """The differences, or why there are none."""
    try:
        check_comparable(variants)
        return differences(variants, parse_margins(margins, variants)), None
    except UserError as error:
        if margins:
            raise
        return [], str(error)


def _markdown(results: Results, claims: ClaimsReport | None) -> str:
    parts = [f"# {results.title}\n", *([claims_markdown(claims), "## Table\n"] if claims else []), markdown(results)]
    if results.differences:
        if claims:
            parts += [f"## {EXPLORATORY}\n", _bullets(conclusions(results, claims.pairs))]
        else:
            parts += ["## Conclusions\n", f"{ALL_EXPLORATORY}\n", _bullets(conclusions(results))]
        parts += ["## All comparisons\n", differences_markdown(results)]
    if results.drifts:
        parts.append(drift_markdown(results))
    for tuning in tunings(results.variants):
        parts += ["## Tuning\n", f"{tuning.heading[0].upper()}{tuning.heading[1:]}.\n", tuning_markdown(tuning)]
    return "\n".join([*parts, "## Notes\n", _bullets(results.notes)])


def _bullets(sentences: list[str]) -> str:
    return "\n".join(f"- {s}" for s in sentences) + "\n"
