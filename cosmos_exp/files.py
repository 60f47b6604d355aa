"""Files that are written whole or not at all, JSON lines, and hashes of file contents."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from cosmos_exp.errors import UserError
from cosmos_exp.text import one_line

JsonObject = dict[str, Any]  # Any: a JSON record holds values of every JSON type


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` to write to. It is renamed to `path` if the block succeeds, else removed."""
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


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: object) -> None:
    """Write JSON atomically."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False, default=str) + "\n")


def read_json_lines(path: Path) -> list[JsonObject]:
    """The complete lines of a JSON-lines file; a last line cut off by a crash is dropped. A missing file has no lines.

    Raises:
        UserError: a line before the last is not JSON.
    """
    if not path.is_file():
        return []
    rows: list[JsonObject] = []
    lines = path.read_text().split("\n")
    for number, line in enumerate(lines):
        try:
            rows += [json.loads(line)] if line.strip() else []
        except ValueError as error:
            if number < len(lines) - 2:
                raise UserError(f"{path}, line {number + 1}: not JSON ({error}). Fix or remove the line.") from error
    return rows


def append_json_line(path: Path, row: Mapping[str, object]) -> None:
    """Append one line in a single write, so that lines of several processes do not mix."""
    data = (json.dumps(row, allow_nan=False) + "\n").encode()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    try:
        os.write(descriptor, data)
    finally:
        os.close(descriptor)


def write_json_lines(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write all lines atomically."""
    write_text(path, "".join(json.dumps(row, allow_nan=False) + "\n" for row in rows))


def inside(folder: Path, name: object) -> Path:
    """The file `folder`/`name`. A name that a record, a data set or a configuration gives goes through here.

    Raises:
        UserError: the name leaves the folder (absolute, `..`, a link that leads out), is empty or holds control characters.
    """
    path = inside_by_name(folder, name)
    if not path.resolve().is_relative_to(folder.resolve()):
        raise UserError(
            f"{one_line(path)}: a link that leads out of {folder}. Replace the link by the file, or remove it."
        )
    return path


def inside_by_name(folder: Path, name: object) -> Path:
    """`inside` without a look at the disk: links are followed. For files that this process writes.

    Raises:
        UserError: as `inside`.
    """
    text = str(name)
    parts = PurePosixPath(text.replace("\\", "/")).parts
    absolute = text.startswith(("/", "\\", "~")) or PureWindowsPath(text).drive
    if not isinstance(name, str) or not parts or ".." in parts or absolute:
        raise UserError(
            f"'{one_line(text)}': leaves {folder}. Name a file inside the folder, without .. or a leading /."
        )
    if one_line(text) != text:
        raise UserError(f"'{one_line(text)}': holds control characters. Rename it to plain text.")
    return folder / text


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, 64 hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def json_sha256(content: object) -> str:
    """SHA-256 of a JSON value in canonical form (sorted keys, ASCII), 64 hex digits."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=True).encode()).hexdigest()
