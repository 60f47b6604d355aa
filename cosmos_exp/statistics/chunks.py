"""Scores of the chunks of a video.

A line of scores.jsonl of a video of several chunks holds in `detail.chunks` a list of {"value", "reason"}: the measure of each
chunk alone, None where it is undefined, and why. The line's own value is that of the whole video.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from cosmos_exp.files import JsonObject
from cosmos_exp.statistics.cells import Scenes
from cosmos_exp.statistics.intervals import Limits, summarize_frame
from cosmos_exp.statistics.scores import MeasureSummary, score_frame

CHUNKS = "chunks"  # the key in `detail`


def chunk_frame(scores: pd.DataFrame) -> pd.DataFrame:
    """One row per chunk of each row of a frame of scores: its value and reason, and its number from 1 in the column `chunk`."""
    entries = scores["detail"].map(_entries)
    found = scores.assign(entry=entries)[entries.map(len) > 0].explode("entry")
    found["chunk"] = found.groupby(level=0).cumcount() + 1
    entry = pd.DataFrame(found.pop("entry").tolist(), columns=["value", "reason"], index=found.index)
    return found.assign(value=entry["value"].astype(float), reason=entry["reason"].fillna(""))


def change_frame(chunks: pd.DataFrame) -> pd.DataFrame:
    """Last chunk minus first chunk of each row; NaN, with the reason, where one of them has no value.

    Args:
        chunks: Of `chunk_frame`.
    """
    by_row = chunks.groupby(level=0)
    first, last = by_row.head(1), by_row.tail(1)
    reason = last["reason"].where(last["value"].isna(), first["reason"].where(first["value"].isna(), ""))
    return last.assign(value=last["value"] - first["value"], reason=reason)


def summarize_chunks(
    rows: Sequence[Mapping[str, object]], scenes: Scenes | None = None, limits: Limits | None = None
) -> dict[str, list[MeasureSummary]]:
    """The summary of every measure in each chunk. Empty for videos of one chunk.

    Args:
        scenes, limits: As in `summarize`.
    """
    found: dict[str, list[MeasureSummary]] = {}
    for _, own in chunk_frame(score_frame(rows, scenes)).groupby("chunk"):
        for measure, summary in summarize_frame(own, limits).items():
            found.setdefault(measure, []).append(summary)
    return found


def _entries(detail: object) -> list[JsonObject]:
    """The chunks in a row's detail; empty if it has none, or something else under their key."""
    found = detail.get(CHUNKS) if isinstance(detail, dict) else None
    return found if isinstance(found, list) and all(map(_is_entry, found)) else []


def _is_entry(entry: object) -> bool:
    if not isinstance(entry, dict) or "value" not in entry:
        return False
    value = entry["value"]
    return value is None or (isinstance(value, (int, float)) and not isinstance(value, bool))
