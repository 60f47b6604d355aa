"""What the records of a run folder must hold, and the way out of a damaged one: which file to delete, what is made again.

A record is checked as a whole whenever it is read, so that a damaged one is named and nothing is taken from half of it.
Keys that are not listed here are free. A run that was stopped early lacks some keys, so few are required.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import (  # pydantic reads typing.TypedDict from Python 3.12 on
    TYPE_CHECKING,
    Annotated,
    Literal,
    NotRequired,
    Required,
)

from annotated_types import Interval
from typing_extensions import TypedDict

from cosmos_exp.errors import DamagedError, UserError
from cosmos_exp.files import JsonObject, read_json, read_json_lines
from cosmos_exp.text import one_line, plain_json

LARGEST_SCORE = 1e12  # no measure is near it, and its square still is a number

if TYPE_CHECKING:
    from pydantic import TypeAdapter


class _Adapter(TypedDict, total=False):
    kind: str
    rank: int
    alpha: float
    truncate_from: str | None


class ConfigRecord(TypedDict, total=False):
    """What a report reads of config.yaml."""

    name: str
    seed: int
    adapter: _Adapter
    data: JsonObject
    model: JsonObject
    training: JsonObject
    generation: JsonObject
    approximate: JsonObject
    judge: JsonObject
    sampson: JsonObject | None
    margins: dict[str, float]


class Status(TypedDict):
    """status.json"""

    state: Literal["running", "done", "failed", "interrupted"]
    stage: NotRequired[str]
    error: NotRequired[str | None]


class _Stage(TypedDict, total=False):
    seconds: float
    peak_memory_gib: float
    config_hash: str


class _Labels(TypedDict, total=False):
    adapter: str
    random_weights: bool


class _DataRecord(TypedDict, total=False):
    train: list[str]
    test: list[str]
    scenes: dict[str, str] | None


class _Evaluated(TypedDict, total=False):
    videos: dict[str, str]
    scores: dict[str, str]


class _ModelRecord(TypedDict, total=False):
    fingerprints: dict[str, str]


class Manifest(TypedDict, total=False):
    """manifest.json"""

    name: str
    config_hash: str
    data_fingerprint: str
    stages: dict[str, _Stage]
    labels: _Labels
    data: _DataRecord
    model: _ModelRecord
    evaluated: _Evaluated
    start: str
    starts: list[str]
    end: str
    packages: JsonObject
    hardware: JsonObject


class _Summary(TypedDict, total=False):
    mean: Required[float | None]
    ci_low: float | None
    ci_high: float | None
    n: Required[int]
    videos: int
    missing: int
    reason: str


class _Training(TypedDict, total=False):
    train_loss: float
    validation_loss: float
    train_seconds: float
    samples_per_second: float
    adapter_mib: float
    trainable_parameters: int


class Metrics(TypedDict, total=False):
    """metrics.json"""

    measures: dict[str, _Summary]
    references: dict[str, dict[str, _Summary]]
    training: _Training


class TrainRow(TypedDict):
    """A line of train_log.jsonl."""

    step: int
    loss: float
    samples: NotRequired[int]
    lr: NotRequired[float]
    grad_norm: NotRequired[float]
    seconds: NotRequired[float]
    samples_per_second: NotRequired[float]


class ValidationRow(TypedDict):
    """A line of validation_log.jsonl."""

    step: int
    validation_loss: float


class Score(TypedDict):
    """A line of scores.jsonl; `statistics.scores.ScoreRow` says what the keys mean."""

    sample: str
    seed: int
    video: str
    measure: str
    value: Annotated[float, Interval(ge=-LARGEST_SCORE, le=LARGEST_SCORE)] | None
    prompt: NotRequired[str | None]
    detail: NotRequired[JsonObject]


SHAPES: dict[str, type] = {
    "config.yaml": ConfigRecord,
    "status.json": Status,
    "manifest.json": Manifest,
    "metrics.json": Metrics,
}
ROWS: dict[str, type] = {"train_log.jsonl": TrainRow, "validation_log.jsonl": ValidationRow, "scores.jsonl": Score}

_RESUME = "Delete this file and resume the run:"
WAYS_OUT = {
    "config.yaml": "Put a copy of it here. Without one, delete it and start the run again with its own overrides and this "
    "run_dir: finished work of the same configuration is kept.",
    "status.json": f"{_RESUME} it is written again.",
    "manifest.json": f"{_RESUME} finished work is kept and the manifest is written again, without the hashes of scored videos.",
    "metrics.json": f"{_RESUME} it is made again from the newest checkpoint and the scores.",
    "train_log.jsonl": f"{_RESUME} the log begins at the newest checkpoint. Delete checkpoints/ and adapter/, too, to train again.",
    "validation_log.jsonl": f"{_RESUME} the log begins at the newest checkpoint.",
    "scores.jsonl": f"{_RESUME} the scores are made again.",
    "pytorch_lora_weights.safetensors": f"{_RESUME} it is written again from the newest checkpoint.",
    "state.pt": "Delete its folder and resume the run: training resumes from the checkpoint before it, or starts again.",
}


def damaged(path: Path, reason: object) -> DamagedError:
    """The error of a file of a run folder that cannot be used: what is wrong, and the way out."""
    return DamagedError(
        f"{one_line(path)}: {str(reason).rstrip('.')}. {WAYS_OUT.get(path.name, _RESUME + ' it is made again.')}"
    )


def read_record(path: Path) -> JsonObject:
    """A JSON record without control characters in its text; empty if the file does not exist.

    Raises:
        DamagedError: it cannot be read, or does not hold what its name says.
    """
    if not path.exists():
        return {}
    try:
        content = read_json(path)
    except (ValueError, OSError) as error:
        raise damaged(path, error) from error
    if not isinstance(content, dict):
        raise damaged(path, "it is no JSON object")
    check_record(path, content)
    return dict(plain_json(content))


def check_record(path: Path, content: JsonObject) -> None:
    """Check the content of a record against what its name says. Other names are free.

    Raises:
        DamagedError: none of its keys is there, or one has another type.
    """
    shape = SHAPES.get(path.name)
    if shape is None:
        return
    if content and not set(shape.__annotations__) & set(content):
        raise damaged(path, f"it has none of the keys {', '.join(list(shape.__annotations__)[:4])} …")
    _check(path, content, shape)


def read_rows(path: Path) -> list[JsonObject]:
    """The complete lines of a log or of scores.jsonl; empty if the file does not exist.

    Raises:
        DamagedError: a line cannot be read, or lacks a key.
    """
    try:
        rows = read_json_lines(path)
    except UserError as error:
        raise damaged(path, str(error).removeprefix(f"{path}, ").removesuffix(" Fix or remove the line.")) from error
    except OSError as error:
        raise damaged(path, error) from error
    _check(path, rows, ROWS[path.name], rows=True)
    return rows


@cache
def _adapter(shape: type, rows: bool) -> TypeAdapter[object]:
    from pydantic import TypeAdapter

    return TypeAdapter(list[shape] if rows else shape)  # type: ignore[valid-type]  # known at run time only


def _check(path: Path, content: object, shape: type, rows: bool = False) -> None:
    """Raise DamagedError, which names the first key that is wrong."""
    from pydantic import ValidationError

    try:
        _adapter(shape, rows).validate_python(content, strict=True)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = [*map(str, first["loc"])]
        row = f"row {int(where.pop(0)) + 1}: " if rows else ""
        said = "is missing" if first["type"] == "missing" else first["msg"][:1].lower() + first["msg"][1:]
        raise damaged(path, f"{row}{'.'.join(where)}: {one_line(said)}") from error
