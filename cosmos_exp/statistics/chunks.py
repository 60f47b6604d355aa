"""Scores of the chunks of a video: `detail.chunks` of its lines in scores.jsonl, one entry per chunk.

A line of a video of several chunks holds in `detail.chunks` a list of {"value", "reason"}: the measure of each chunk alone,
None where it is undefined, and why. The line's own value is that of the whole video, as for a video of one chunk.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from cosmos_exp.files import JsonObject
from cosmos_exp.statistics.cells import Scenes
from cosmos_exp.statistics.intervals import Limits, summarize
from cosmos_exp.statistics.scores import MeasureSummary, ScoreRow

CHUNKS = "chunks"  # the key in `detail`


def num_chunks(rows: Iterable[ScoreRow]) -> int:
    """The largest number of chunks of a line; 0 if the videos have one chunk."""
    return max((len(_entries(row)) for row in rows), default=0)


def chunk_rows(rows: Iterable[ScoreRow], number: int) -> list[ScoreRow]:
    """The lines of chunk `number` (from 0): its value and reason in place of the video's. Lines without it are left out."""
    return [_with(row, _entries(row)[number]) for row in rows if len(_entries(row)) > number]


def change_rows(rows: Iterable[ScoreRow]) -> list[ScoreRow]:
    """Last chunk minus first chunk of each line with chunks; None, with the reason, where one of them has no value."""
    found = []
    for row in rows:
        entries = _entries(row)
        if entries:
            first, last = entries[0], entries[-1]
            missing = next((e for e in (last, first) if e.get("value") is None), None)
            value = None if missing else float(last["value"]) - float(first["value"])
            found.append(_with(row, {"value": value, "reason": missing and missing.get("reason")}))
    return found


def summarize_chunks(
    rows: Sequence[ScoreRow], scenes: Scenes | None = None, limits: Limits | None = None
) -> dict[str, list[MeasureSummary]]:
    """The summary of every measure in each chunk. Empty for videos of one chunk.

    Args:
        scenes, limits: as in `summarize`.
    """
    parts = [summarize(chunk_rows(rows, k), scenes, limits) for k in range(num_chunks(rows))]
    return {m: [p[m] for p in parts if m in p] for m in (parts[0] if parts else {})}


def summarize_change(rows: Sequence[ScoreRow], scenes: Scenes | None = None) -> dict[str, MeasureSummary]:
    """The summary of last chunk minus first chunk of every measure: paired within each video."""
    return summarize(change_rows(rows), scenes)


def _entries(row: ScoreRow) -> list[JsonObject]:
    """The entries of a line; empty if it has none, or something else under their key."""
    found = (row.get("detail") or {}).get(CHUNKS)
    return found if isinstance(found, list) and all(map(_is_entry, found)) else []


def _is_entry(entry: object) -> bool:
    if not isinstance(entry, dict) or "value" not in entry:
        return False
    value = entry["value"]
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))


def _with(row: ScoreRow, entry: JsonObject) -> ScoreRow:
    found: ScoreRow = {**row, "value": entry.get("value"), "detail": {"reason": entry.get("reason")}}
    return found
