"""The run folder: the one thing that the stages of a run share. Paths, atomic writes, status, manifest, scores."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cosmos_exp.errors import UserError


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary neighbour of `path` to write to; it takes the name when the block ends well, else it is removed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".tmp-", suffix=path.suffix)
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_json(path: Path, content: Any) -> None:
    """Write JSON whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(json.dumps(content, indent=2, allow_nan=False, default=str) + "\n")


def read_json_lines(path: Path) -> list[dict]:
    """The complete lines of a JSON-lines file; a last line cut by a crash is left out. Missing file: none."""
    if not path.is_file():
        return []
    rows = []
    lines = path.read_text().split("\n")
    for number, line in enumerate(lines):
        try:
            rows += [json.loads(line)] if line.strip() else []
        except ValueError as error:
            if number < len(lines) - 2:
                raise UserError(f"{path}, line {number + 1}: not JSON ({error}); mend or remove the line") from error
    return rows


def append_json_line(path: Path, row: dict) -> None:
    """Append one line in a single write, so that lines of several processes do not mix."""
    data = (json.dumps(row, allow_nan=False) + "\n").encode()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(descriptor, data)
    finally:
        os.close(descriptor)


def write_json_lines(path: Path, rows: list[dict]) -> None:
    """Write all lines, whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text("".join(json.dumps(row, allow_nan=False) + "\n" for row in rows))


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, 64 hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def save_text(path: Path, text: str) -> None:
    """Write a text file whole or not at all."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
