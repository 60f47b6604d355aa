"""The records of scores: the rows of scores.jsonl, and their summaries in metrics.json."""

from __future__ import annotations

from pathlib import Path
from typing import NotRequired, TypedDict, cast

from cosmos_exp.files import JsonObject, read_json_lines


class ScoreRow(TypedDict):
    """One line of scores.jsonl: one measure of one video.

    `sample` is the name of the prompt, `seed` the generation seed, `value` None where the measure is undefined. Where rows of
    several training runs are together, `run_seed` is the seed of the run; the file does not contain it.
    """

    sample: str
    seed: int
    prompt: str | None
    video: str
    measure: str
    value: float | None
    detail: JsonObject
    run_seed: NotRequired[int]


class MeasureSummary(TypedDict):
    """One measure over the videos of a run or a variant.

    `n` counts scenes with a value, `videos` the scored videos, `missing` those without a value. The interval is None for
    fewer than two scenes and without spread, the mean for no value; `reason` then says why.
    """

    mean: float | None
    ci_low: float | None
    ci_high: float | None
    n: int
    videos: int
    missing: int
    reason: NotRequired[str]


def read_scores(path: Path) -> list[ScoreRow]:
    """The rows of a scores.jsonl; empty if the file does not exist."""
    return cast(list[ScoreRow], read_json_lines(path))
