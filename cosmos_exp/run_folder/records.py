"""The records of a run folder, and the way out of a damaged one: which file to delete, what is made again.

A record is read as a whole, so that a damaged one is named and nothing is taken from half of it.
"""

from __future__ import annotations

from pathlib import Path

from cosmos_exp.errors import DamagedError, UserError
from cosmos_exp.files import JsonObject, read_json, read_json_lines
from cosmos_exp.text import one_line, plain_json

# What every line of a log must hold. `statistics.scores.ScoreRow` says what the keys of scores.jsonl mean.
TEXTS = {"scores.jsonl": ("sample", "video", "measure")}
NUMBERS = {
    "train_log.jsonl": ("step", "loss"),
    "validation_log.jsonl": ("step", "validation_loss"),
    "scores.jsonl": ("seed", "value"),
}

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
        DamagedError: it cannot be read, or is no JSON object.
    """
    if not path.exists():
        return {}
    try:
        content = read_json(path)
    except (ValueError, OSError) as error:
        raise damaged(path, error) from error
    if not isinstance(content, dict):
        raise damaged(path, "it is no JSON object")
    return dict(plain_json(content))


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
    for number, row in enumerate(rows, 1):
        for key in TEXTS.get(path.name, ()):
            if not isinstance(row.get(key), str):
                raise damaged(path, f"row {number}: {key} is no text")
        for key in NUMBERS[path.name]:
            missing = key == "value" and row.get(key, "") is None  # a score that could not be had is null
            if not missing and type(row.get(key)) not in (int, float):
                raise damaged(path, f"row {number}: {key} is no number")
    return rows
