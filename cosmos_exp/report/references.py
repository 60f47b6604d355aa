"""The reference rows of a report: what the recordings (real) and the held first frame (frozen) score."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cosmos_exp.config.measures import LIMITS, MEASURES, measure_info
from cosmos_exp.report.formatting import number
from cosmos_exp.report.variants import Variant, scenes_of
from cosmos_exp.run_folder import REFERENCES
from cosmos_exp.statistics.intervals import prompt_groups, summarize
from cosmos_exp.statistics.scores import MeasureSummary, ScoreRow

MEANINGS = {"real": "the recorded continuation", "frozen": "the first frame, held"}
MARK = "†"  # at the name of a measure that cannot be read


@dataclass(frozen=True)
class Reference:
    """One reference. `rows` are its scores, one video per prompt."""

    name: str
    rows: list[ScoreRow]
    table: dict[str, MeasureSummary]


def find_references(variants: Sequence[Variant]) -> list[Reference]:
    """The references that the finished runs have scored: real, then frozen.

    They do not depend on the adapter, so the first score found for a prompt and measure counts.
    """
    found = []
    for kind in REFERENCES:
        rows: dict[tuple[str, str], ScoreRow] = {}
        for run in (run for v in variants for run in v.done):
            for row in run.references(kind):
                rows.setdefault((row["sample"], row["measure"]), row)
        if rows:
            own = list(rows.values())
            found.append(Reference(kind, own, summarize(own, scenes_of(list(variants)), LIMITS)))
    return found


Cell = tuple[str, str]  # reference, measure
NOT_MEASURED = "not measured (it compares with the recording, or with other videos of the run)"


def footnotes(rows: Mapping[str, Sequence[ScoreRow]], shown: Sequence[str] = ()) -> dict[Cell, str]:
    """What belongs to a cell of a reference row whose videos have no value, or one to be read with caution.

    Args:
        rows: reference -> its scores.
        shown: the measures of the table.

    Returns:
        In the order of the measures in tables: the number of videos, the reason, and for a Sampson error the number of frame
        pairs behind it. Cells without such videos are left out.
    """
    found: dict[Cell, str] = {}
    for kind, own in rows.items():
        present = {r["measure"] for r in own}
        names = present | (set(shown) if own else set())
        for measure in [m for m in MEASURES if m in names] + sorted(names - set(MEASURES)):
            of = [r for r in own if r["measure"] == measure]
            if not of:
                found[kind, measure] = NOT_MEASURED
            for said, some in (
                ("undefined", [r for r in of if r["value"] is None]),
                ("to be read with caution", [r for r in of if r["value"] is not None and r["detail"].get("reason")]),
            ):
                if some:
                    why = some[0]["detail"].get("reason") or "the answer has no score"
                    text = f"{said} for {len(some)} of {len(of)} videos: {why}{_pairs(some, measure)}"
                    found[kind, measure] = "; ".join(filter(None, [found.get((kind, measure)), text]))
    return found


def _pairs(rows: Sequence[ScoreRow], measure: str) -> str:
    """The frame pairs behind a measure in brackets; empty for a measure without."""
    counts = [r["detail"].get("pairs", {}).get(measure) for r in rows]
    known = [c for c in counts if c is not None]
    total = sum(v["pairs"] for r in rows for v in r["detail"].get("views", []))
    return f" ({sum(known)} of {total} frame pairs measured)" if known and not measure.startswith("cse") else ""


def footnote_marks(notes: Mapping[Cell, str]) -> dict[Cell, str]:
    """The mark at each cell with a footnote: ` [1]`, ` [2]`, …; cells with the same text share it."""
    numbers = {text: number for number, text in enumerate(dict.fromkeys(notes.values()), 1)}
    return {cell: f" [{numbers[text]}]" for cell, text in notes.items()}


def footnote_lines(notes: Mapping[Cell, str]) -> list[str]:
    """One line per footnote, with the cells that it belongs to: `[1] frozen: tse, tse_moving: undefined for …`."""
    lines = []
    for k, text in enumerate(dict.fromkeys(notes.values()), 1):
        cells = [cell for cell, other in notes.items() if other == text]
        names = [
            f"{kind}: {', '.join(m for k, m in cells if k == kind)}" for kind in dict.fromkeys(k for k, _ in cells)
        ]
        lines.append(f"[{k}] {'; '.join(names)}: {text}.")
    return lines


def warnings(references: Sequence[Reference], variants: Sequence[Variant], measures: Sequence[str]) -> dict[str, str]:
    """For each measure that cannot be read as quality on these prompts: why.

    A measure is unreadable where the frozen videos score as well as the recordings or better. Where the recording is
    part of the measure (PSNR), real has no value, and the frozen videos are compared with the variants instead.
    """
    by_name = {r.name: r for r in references}
    if "frozen" not in by_name:
        return {}
    frozen = by_name["frozen"]
    found = {}
    for measure in measures:
        better = measure_info(measure).better
        held = prompt_groups(frozen.rows, measure)
        if not better or not held:
            continue
        real = prompt_groups(by_name["real"].rows, measure) if "real" in by_name else {}
        common = sorted(set(real) & set(held))
        if common:
            a, b = (float(np.mean([g[s].mean() for s in common])) for g in (real, held))
            if better * (b - a) >= 0:
                found[measure] = (
                    f"{measure}: the frozen videos score {number(b)} and the recordings {number(a)} "
                    f"({len(common)} prompts). A still picture wins here: read it only beside a measure on which it loses."
                )
        elif why := _beats_all(measure, better, held, variants):
            found[measure] = why
    return found


def _beats_all(measure: str, better: int, held: dict[str, np.ndarray], variants: Sequence[Variant]) -> str | None:
    """Why a measure against the recording is unreadable: no variant scores better than the frozen videos."""
    means = {}
    for v in variants:
        own = prompt_groups(v.rows(), measure)
        common = sorted(set(own) & set(held))
        if common:
            means[v.name] = better * float(np.mean([own[s].mean() - held[s].mean() for s in common]))
    if not means or max(means.values()) > 0:
        return None
    frozen = number(float(np.mean([g.mean() for g in held.values()])))
    return (
        f"{measure}: the frozen videos ({frozen}) score at least as well as every adapter. A still picture wins here."
    )
