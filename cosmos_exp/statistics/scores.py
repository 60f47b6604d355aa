"""The records of scores: the rows of scores.jsonl, and their summaries in metrics.json."""

from __future__ import annotations

from pathlib import Path
from typing import NotRequired, TypedDict, cast

from cosmos_exp.errors import UserError
from cosmos_exp.files import JsonObject, inside_by_name
from cosmos_exp.run_folder.records import damaged, read_rows
from cosmos_exp.text import can_hold_control, plain_json


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
    fewer than two scenes and without spread, the mean for no value; `reason` then says why. `doubtful` counts videos whose
    value comes with a reason to read it with caution, `caution` is the first of these reasons; both are left out for none.
    """

    mean: float | None
    ci_low: float | None
    ci_high: float | None
    n: int
    videos: int
    missing: int
    reason: NotRequired[str]
    doubtful: NotRequired[int]
    caution: NotRequired[str]


def read_scores(path: Path) -> list[ScoreRow]:
    """The rows of a scores.jsonl, without control characters in their text; empty if the file does not exist.

    Raises:
        DamagedError: a row cannot be read, lacks a key, or names a sample or a video outside of its folder.
    """
    rows = read_rows(path)
    clean = not rows or not can_hold_control(path.read_text(encoding="utf-8"))
    checked: set[str] = set()  # a file has one row per measure of a video
    for number, row in enumerate(rows, 1):
        try:
            for key in ("video", "sample"):
                if row[key] not in checked:
                    inside_by_name(path.parent, row[key])
                    checked.add(row[key])
        except UserError as error:
            raise damaged(path, f"row {number}, {key}: {error}") from error
        row.setdefault("detail", {})
        row.setdefault("prompt", None)
    return cast(list[ScoreRow], rows if clean else plain_json(rows))
