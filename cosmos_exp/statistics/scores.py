"""Scores: the rows of scores.jsonl, the frame that all statistics take, and the summaries in metrics.json."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NotRequired, TypedDict, cast

import pandas as pd

from cosmos_exp.errors import UserError
from cosmos_exp.files import JsonObject, inside_by_name
from cosmos_exp.run_folder.records import damaged, read_rows
from cosmos_exp.statistics.cells import Scenes
from cosmos_exp.text import can_hold_control, plain_json

# In scores.jsonl `sample` is the name of a prompt, `prompt` its text, and `seed` the generation seed.
COLUMNS = {"sample": "prompt", "prompt": "text", "seed": "noise", "run_seed": "seed"}


class ScoreRow(TypedDict):
    """One line of scores.jsonl: one measure of one video.

    `sample` is the name of the prompt, `seed` the generation seed, `value` None where the measure is undefined.
    """

    sample: str
    seed: int
    prompt: str | None
    video: str
    measure: str
    value: float | None
    detail: JsonObject


class MeasureSummary(TypedDict):
    """One measure over the videos of a run or an arm.

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
    if not clean:
        rows = plain_json(rows)
    return cast(list[ScoreRow], rows)


def score_frame(rows: Sequence[Mapping[str, object]], scenes: Scenes | None = None) -> pd.DataFrame:
    """The rows of scores.jsonl as a frame, one row per video and measure.

    Args:
        scenes: The scene of each prompt; a prompt that is not listed is a scene of its own.

    Returns:
        Columns prompt (its name), text, noise (generation seed), seed (of the training; 0 where rows have no `run_seed`),
        measure, value (NaN where the score is missing), video, detail, scene, and reason (why a score is missing or doubtful).
    """
    frame = pd.DataFrame(rows, columns=[*COLUMNS, "measure", "value", "video", "detail"]).rename(columns=COLUMNS)
    frame["value"] = frame["value"].astype(float)
    frame["seed"] = frame["seed"].fillna(0).astype(int)
    frame["scene"] = frame["prompt"].map(scenes or {}).fillna(frame["prompt"])
    frame["reason"] = frame["detail"].astype(object).str.get("reason").fillna("").astype(str)
    return frame
