"""Files that are written whole or not at all, JSON lines, and hashes of file contents."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from cosmos_exp.errors import DiskError, UserError
from cosmos_exp.text import one_line

LONGEST_NAME = 255  # bytes of a file's name on the usual file systems
JsonObject = dict[str, Any]  # Any: a JSON record holds values of every JSON type
LFS_POINTER = "version https://git-lfs"  # begins what git leaves in the place of a large file that it did not fetch
LFS_FIX = "it is a pointer of git-lfs, not the file itself; run `git lfs pull` in its folder"
TEMPORARY = ".tmp-"  # begins the name of a file or folder that is being written; a killed process leaves it behind
_FIXES = {
    errno.ENOSPC: "Free some space on this disk",
    errno.EDQUOT: "Free some of your quota on this disk",
    errno.EFBIG: "Raise the limit of file sizes (ulimit -f)",
    errno.EROFS: "Make the file system writable, or choose another folder",
    errno.EACCES: "Make the folder writable for you, or choose another",
    errno.EPERM: "Make the folder writable for you, or choose another",
    errno.EEXIST: "Remove the file, or choose another folder",
    errno.ENOTDIR: "Choose a folder that is not below a file",
    errno.ENAMETOOLONG: "Choose a shorter name",
}


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Name `path` in an error of the disk that the block raises, whichever library reports it.

    Raises:
        DiskError: the disk is full, or `path` cannot be written.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        disk_error = as_disk_error(error, path)
        if disk_error is None:
            raise
        raise disk_error from error


def as_disk_error(error: BaseException, path: Path | None = None) -> DiskError | None:
    """The disk's error that led to an error, in words; None if none did.

    Args:
        path: what could not be written; None: the file that the error names.
    """
    step: BaseException | None = error
    while step is not None:
        number = None
        if isinstance(step, OSError):
            number = step.errno
        elif text := re.search(r"\(os error (\d+)\)", str(step)):  # a library in Rust
            number = int(text[1])
        if number in _FIXES:
            name, verb = str(path or getattr(step, "filename", None) or "a file"), "written"
            if number == errno.ENAMETOOLONG:  # of a file to read, too
                name, verb = f"{name[:60]}…{name[-20:]}", "used"
            return DiskError(f"{name}: cannot be {verb} ({os.strerror(number)}). {_FIXES[number]}, then start again.")
        step = step.__cause__ or step.__context__
    return None


def remove_leftovers(folder: Path) -> int:
    """Remove what killed processes left half-written anywhere below a folder. Returns the number of files and folders.

    The caller holds the folder's lock, so that no process is writing there.
    """
    leftovers = list(folder.rglob(f"{TEMPORARY}*"))
    for path in leftovers:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)
    return len(leftovers)


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """A temporary file beside `path` to write to. It is renamed to `path` if the block succeeds, else removed.

    Raises:
        DiskError: the disk is full, or the folder cannot be written.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=TEMPORARY, suffix=path.suffix)
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


@contextlib.contextmanager
def atomic_folder(out: Path) -> Iterator[Path]:
    """A temporary folder beside `out` to write to. It is renamed to `out`, which may be empty, if the block succeeds.

    Raises:
        DiskError: the disk is full, or the folder cannot be written.
    """
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        work = Path(tempfile.mkdtemp(dir=out.parent, prefix=TEMPORARY))
        try:
            yield work
            os.chmod(work, 0o755)
            if out.exists():
                out.rmdir()
            os.replace(work, out)
        finally:
            shutil.rmtree(work, ignore_errors=True)


def write_text(path: Path, text: str) -> None:
    """Write a UTF-8 text file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: Path, content: object) -> None:
    """Write JSON atomically."""
    write_text(path, json.dumps(content, indent=2, allow_nan=False, default=str) + "\n")


def read_json(path: Path) -> Any:  # Any: JSON of any type
    """The content of a JSON file. NaN and infinity, which are no JSON, are refused.

    Raises:
        ValueError: it is empty, no UTF-8 text or no JSON. The message says which.
    """
    return parse_json(path.read_bytes())


def parse_json(content: bytes) -> Any:
    """`read_json` of bytes."""

    def refuse(name: str) -> object:
        raise ValueError(f"it holds {name}")

    if not content.strip():
        raise ValueError("it is empty")
    try:
        return json.loads(content.decode("utf-8"), parse_constant=refuse)
    except UnicodeDecodeError as error:
        raise ValueError("it is not text") from error
    except json.JSONDecodeError as error:
        raise ValueError(f"it is not JSON: {one_line(error)}") from error


def read_json_lines(path: Path) -> list[JsonObject]:
    """The complete lines of a JSON-lines file; a last line cut off by a crash is dropped. A missing file has no lines.

    Raises:
        UserError: another line is no JSON object.
    """
    if not path.is_file():
        return []
    rows: list[JsonObject] = []
    lines = path.read_bytes().split(b"\n")
    for number, line in enumerate(lines):
        if not line.strip():
            continue
        try:
            row = parse_json(line)
            if not isinstance(row, dict):
                raise ValueError("it is no JSON object")
            rows.append(row)
        except ValueError as error:
            if number < len(lines) - 1:  # the last one has no line feed
                raise UserError(f"{path}, line {number + 1}: {error}. Fix or remove the line.") from error
    return rows


def cut_half_line(path: Path) -> None:
    """Remove a last line that a crash or a full disk cut off, so that the next line does not continue it."""
    if not path.is_file():
        return
    content = path.read_bytes()
    if content and not content.endswith(b"\n"):
        with writing(path):
            os.truncate(path, content.rfind(b"\n") + 1)


def append_json_line(path: Path, row: Mapping[str, object]) -> None:
    """Append one line in a single write, so that lines of several processes do not mix.

    Raises:
        DiskError: the disk is full, or the file cannot be written.
    """
    data = (json.dumps(row, allow_nan=False) + "\n").encode()
    with writing(path):
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
        try:
            while data:  # a disk that has just become full takes a part, and refuses the rest
                data = data[os.write(descriptor, data) :]
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
    if max(len(part.encode()) for part in parts) > LONGEST_NAME:
        raise UserError(
            f"'{text[:60]}…': has a name of more than {LONGEST_NAME} bytes, which no disk takes. Shorten it."
        )
    return folder / text


def damage_fix(path: Path) -> str:
    """What to do about a file that cannot be read."""
    is_pointer = False
    if path.is_file():
        with open(path, "rb") as file:
            is_pointer = file.read(len(LFS_POINTER)) == LFS_POINTER.encode()
    return LFS_FIX if is_pointer else "copy it again, or remove it"


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, 64 hex digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def json_sha256(content: object) -> str:
    """SHA-256 of a JSON value in canonical form (sorted keys, ASCII), 64 hex digits. What JSON lacks counts by its `str`."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()
