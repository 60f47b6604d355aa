"""Recorded hashes of a data folder: the only proof that a video is the one that was recorded (`strict.py` says why).

SHA256SUMS has the format of coreutils: `cd DIR && sha256sum -c SHA256SUMS` checks it too. Files in a hub cache need none:
their hash is their name.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path

from cosmos_exp.data.readers.records import IMAGE_SUFFIXES, VIDEO_SUFFIXES
from cosmos_exp.errors import RunError, UserError
from cosmos_exp.files import atomic_path, file_sha256, inside_by_name

HASHES = "SHA256SUMS"
_LINE = re.compile(r"([0-9a-f]{64}) [ *](.+)")
_TEXTS = (".txt", ".json", ".jsonl", ".csv", ".parquet")
_TEXT_FOLDERS = ("", "meta", "metas", "captions", "selection")  # data/*.parquet of LeRobot is never read


# A LeRobot v3 file holds many episodes: it is hashed once, not once per episode and camera.
@lru_cache(maxsize=32)
def _hash_once(path: Path, size: int, modified: int) -> str:
    return file_sha256(path)


def hash_of(path: Path) -> str:
    """SHA-256 of a file; computed once for an unchanged file."""
    stat = path.stat()
    return _hash_once(path, stat.st_size, stat.st_mtime_ns)


def read_hashes(folder: Path) -> dict[Path, str]:
    """Recorded hash by path; empty if the folder has no SHA256SUMS.

    Raises:
        UserError: a line is not `HASH  PATH`.
    """
    path = folder / HASHES
    if not path.is_file():
        return {}
    hashes = {}
    for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
        if not line.strip():
            continue
        match = _LINE.fullmatch(line)
        if not match:
            raise UserError(f"{path}, line {number}: expected HASH  PATH. Remove the file and write it again.")
        hashes[inside_by_name(folder, match[2])] = match[1]
    return hashes


def check_hash(path: Path, recorded: str | None) -> None:
    """Compare a file with its recorded hash, and with the name that a hub cache gave it.

    Raises:
        RunError: it is another file than the one that was recorded.
    """
    blob = path.resolve()
    if blob.parent.name == "blobs" and re.fullmatch(r"[0-9a-f]{64}", blob.name) and hash_of(path) != blob.name:
        raise RunError(f"{path}: is damaged, its SHA-256 is not the hub's. Delete {blob} and download it again.")
    if recorded is not None and hash_of(path) != recorded:
        raise RunError(
            f"{path}: is damaged or was changed, its SHA-256 is not the one in {HASHES}. Copy it again; if the change is "
            "wanted, remove its line."
        )


def other_problems(recorded: dict[Path, str]) -> list[str]:
    """What is wrong with listed files that are no videos (the inspection of a clip checks those), and missing files."""
    problems = []
    for path, value in recorded.items():
        if not path.is_file():
            problems.append(f"{path}: is missing, {HASHES} lists it. Copy it again or remove its line.")
        elif path.suffix.lower() not in VIDEO_SUFFIXES:
            try:
                check_hash(path, value)
            except RunError as error:
                problems.append(str(error))
    return problems


def hashed_files(folder: Path, videos: Iterable[Path]) -> list[Path]:
    """The files of a folder that a run reads: these videos, images, recordings and texts with captions or metadata."""
    files = {video for video in videos if video.is_relative_to(folder)}
    for path in folder.rglob("*"):
        relative = path.relative_to(folder)
        if not path.is_file() or path.name == HASHES or any(p.startswith(".") for p in relative.parts):
            continue
        top = relative.as_posix().rpartition("/")[0].partition("/")[0]
        if path.suffix.lower() in IMAGE_SUFFIXES or (path.suffix.lower() in _TEXTS and top in _TEXT_FOLDERS):
            files.add(path)
    return sorted(files)


def write_hashes(folder: Path, files: Iterable[Path]) -> Path:
    """Write SHA256SUMS, atomically. Returns its path."""
    lines = [f"{hash_of(path)}  {path.relative_to(folder).as_posix()}\n" for path in files]
    with atomic_path(folder / HASHES) as temporary:
        temporary.write_text("".join(lines), encoding="utf-8")
    return folder / HASHES
