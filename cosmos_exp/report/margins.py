"""Margins of equivalence in a report: those of the runs, of the command line, and whether they were chosen after the scores."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence

from cosmos_exp.config.measures import MARGINS, MEASURES, measure_info
from cosmos_exp.errors import UserError
from cosmos_exp.report.formatting import minute, number
from cosmos_exp.report.variants import Run, Variant, measures_of


def margins_of(variants: list[Variant]) -> dict[str, float]:
    """The margins in the runs' configurations, the strictest where they differ; the defaults for older runs."""
    found: dict[str, float] = {}
    for run in (r for v in variants for r in v.runs):
        for measure, margin in (run.config.get("margins") or MARGINS).items():
            found[measure] = min(margin, found.get(measure, margin))
    return found


def parse_margins(words: list[str], variants: list[Variant]) -> dict[str, float]:
    """The configured margins, replaced by those of the command line (`instruction=0.25`).

    Raises:
        UserError: A word is not MEASURE=NUMBER with a positive number, or no report tests that measure.
    """
    margins = margins_of(variants)
    tested = dict.fromkeys(m for m in [*MEASURES, *margins, *measures_of(variants)] if measure_info(m).better)
    for word in words:
        name, sign, value = word.partition("=")
        try:
            margins[name] = float(value)
        except ValueError:
            sign = ""
        if not sign or not margins[name] > 0:
            raise UserError(f"--margin {word}: write MEASURE=NUMBER with a positive number, e.g. instruction=0.25")
        if name not in tested:
            near = difflib.get_close_matches(name, tested, n=1)
            hint = f"Did you mean {near[0]}? " if near else ""
            raise UserError(f"--margin {word}: no such measure is tested. {hint}The tested ones: {', '.join(tested)}")
    return margins


def margin_notes(variants: Sequence[Variant], margins: list[str], margins_at: str | None) -> list[str]:
    """What a reader must know of margins that came after the scores, with the date.

    Args:
        margins: Of the command line, MEASURE=NUMBER.
        margins_at: When they were given, UTC.
    """
    configured = margins_of(list(variants))
    found = [
        f"The margin {word} was given on {minute(str(margins_at))}, after the scores; the runs have {number(configured.get(name))}."
        for word, name in ((w, w.partition("=")[0]) for w in margins)
    ]
    said: dict[str, list[str]] = {}
    for run in (r for v in variants for r in v.runs):
        for words in margins_changed(run):
            said.setdefault(words, []).append(run.folder.path.name)
    return [*found, *(f"{', '.join(names)}: {words}." for words, names in said.items())]


def margins_changed(run: Run) -> Iterator[str]:
    """Margins of a run's configuration that are not those at its first score; nothing for older runs."""
    first = run.manifest.get("evaluated", {}).get("margins")
    now = run.config.get("margins") or {}
    for measure, margin in (first["values"] if first else {}).items():
        if now.get(measure, margin) != margin:
            yield f"the margin of {measure} was {number(margin)} at the first score ({minute(first['time'])}) and is {number(now[measure])} now"
