"""The report of a folder of runs: report.md, table.tex, scores.csv, figures/, sheet.png and page.html."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cosmos_exp.errors import UserError
from cosmos_exp.files import atomic_path, write_text
from cosmos_exp.report.conclusions import cautions, conclusions
from cosmos_exp.report.pairs import check_comparable, differences, margins_of, parse_margins
from cosmos_exp.report.results import Results
from cosmos_exp.report.sweep_tables import differences_markdown, latex, markdown
from cosmos_exp.report.tables import notes, run_row, scores_csv
from cosmos_exp.report.variants import Variant, find_runs, group_runs
from cosmos_exp.run_folder import RunFolder
from cosmos_exp.statistics.comparisons import Difference


@dataclass(frozen=True)
class WrittenReport:
    """A report on disk.

    Attributes:
        out: Its folder.
        files: The tables and the contact sheet.
        figures: The PNG files; a PDF is beside each.
        page: The HTML page.
        runs: The runs that it covers.
        not_compared: Why there are no differences; None if there may be some.
    """

    out: Path
    files: list[Path]
    figures: list[Path]
    page: Path
    runs: list[RunFolder]
    not_compared: str | None

    @property
    def any_failed(self) -> bool:
        """Whether a run has failed."""
        return any(run.status.get("state") == "failed" for run in self.runs)


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

    runs = find_runs(folder)
    out = out or folder
    variants = group_runs(runs)
    found, not_compared = _compare(variants, margins or [])
    said = notes([run_row(r) for r in runs])
    if not_compared:
        said.append(f"No differences are reported: {not_compared}")
    said += cautions(variants, found)
    results = Results(out.absolute().name, variants, found, said)
    said += results.warnings.values()
    texts = {"report.md": _markdown(results), "table.tex": latex(results), "scores.csv": scores_csv(runs)}
    for name, text in texts.items():
        write_text(out / name, text)
    files = [out / name for name in texts]
    figures = draw_all(results, out / "figures")
    done = [v for v in variants if v.done]
    if contact_sheet([v.done[0].folder for v in done], [v.name for v in done], out / "sheet.png"):
        files.append(out / "sheet.png")
    with atomic_path(out / "page.html") as temporary:
        write_page(temporary, results, figures)
    return WrittenReport(out, files, figures, out / "page.html", runs, not_compared)


def _compare(variants: list[Variant], margins: list[str]) -> tuple[list[Difference], str | None]:
    """The differences, or why there are none."""
    try:
        check_comparable(variants)
        return differences(variants, parse_margins(margins, margins_of(variants))), None
    except UserError as error:
        if margins:
            raise
        return [], str(error)


def _markdown(results: Results) -> str:
    parts = [f"# {results.title}\n", markdown(results)]
    if results.differences:
        parts += ["## Conclusions\n", _bullets(conclusions(results))]
        parts += ["## All comparisons\n", differences_markdown(results.differences)]
    return "\n".join([*parts, "## Notes\n", _bullets(results.notes)])


def _bullets(sentences: list[str]) -> str:
    return "\n".join(f"- {s}" for s in sentences) + "\n"
