"""Scores of the chunks of a video.

A line of scores.jsonl of a video of several chunks holds in `detail.chunks` a list of {"value", "reason"}: the measure of each
chunk alone, None where it is undefined, and why. The line's own value is that of the whole video.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd

from cosmos_exp.statistics.cells import Scenes
from cosmos_exp.statistics.intervals import Limits, summarize_frame
from cosmos_exp.statistics.scores import MeasureSummary, score_frame

CHUNKS = "chunks"  # the key in `detail`


def chunk_frame(scores: pd.DataFrame) -> pd.DataFrame:
    """One row per chunk of each row of a frame of scores: its value and reason, and its number from 1 in the column `chunk`."""
    entries = scores["detail"].astype(object).str.get(CHUNKS)
    chunks = scores.assign(entry=entries)[entries.map(_are_chunks).astype(bool)].explode("entry")
    chunks["chunk"] = chunks.groupby(level=0).cumcount() + 1
    entry = chunks.pop("entry").astype(object)
    value = pd.to_numeric(entry.str.get("value"), errors="coerce").astype(float)
    return chunks.assign(value=value, reason=entry.str.get("reason").fillna(""))


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
    summaries: dict[str, list[MeasureSummary]] = {}
    for _, rows_of_chunk in chunk_frame(score_frame(rows, scenes)).groupby("chunk"):
        for measure, summary in summarize_frame(rows_of_chunk, limits).items():
            summaries.setdefault(measure, []).append(summary)
    return summaries


def _are_chunks(entries: object) -> bool:
    """Whether these are chunks: a measure of a user may have something else under their key."""
    if not isinstance(entries, list) or not entries:
        return False
    return all(isinstance(entry, dict) and "value" in entry for entry in entries)
