"""Numbers as text."""

from __future__ import annotations

import math
from collections.abc import Sequence

from cosmos_exp.statistics.scores import MeasureSummary


def number(value: float | None) -> str:
    """Three significant digits; a dash for None and NaN."""
    return "-" if value is None or math.isnan(value) else f"{value:.3g}"


def interval(mean: float | None, low: float | None, high: float | None) -> str:
    """`0.42 [0.31, 0.55]`; the mean alone without an interval; a dash without a mean."""
    if number(low) == "-" or number(high) == "-":
        return number(mean)
    return f"{number(mean)} [{number(low)}, {number(high)}]"


def summary_text(summary: MeasureSummary | None) -> str:
    """Mean and interval of a summary; a dash for None."""
    return "-" if summary is None else interval(summary["mean"], summary.get("ci_low"), summary.get("ci_high"))


def undefined_text(summary: MeasureSummary) -> str:
    """`undefined (REASON)` of a summary without a mean."""
    reason = summary.get("reason")
    return f"undefined ({reason})" if reason else "undefined"


def minute(time: str) -> str:
    """A recorded time as text: 2026-11-24 14:03 UTC."""
    return f"{time[:10]} {time[11:16]} UTC"


def markdown_table(head: Sequence[str], rows: Sequence[Sequence[str]], left: int = 1) -> str:
    """A Markdown table; the first `left` columns are aligned left, the others right."""
    rule = "|" + " --- |" * left + " ---: |" * (len(head) - left)
    return "\n".join(["| " + " | ".join(head) + " |", rule, *("| " + " | ".join(row) + " |" for row in rows)]) + "\n"
