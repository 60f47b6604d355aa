"""Offline wandb runs in run folders: where their files are, and a run folder that was moved before `wandb sync`.

wandb stores the absolute path of each artifact's file in the .wandb file. The files themselves are in the run folder
(`STAGING`), so that a moved folder is complete; `relocate` gives the paths their new beginning.
"""

from __future__ import annotations

import os
import sys
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from subprocess import run as run_process

from cosmos_exp.errors import RunError, UserError

STAGING = "wandb/data"
"""Below the run folder: WANDB_DATA_DIR, in which wandb keeps copies of artifacts until they are sent."""
# The format of .wandb files: LevelDB's log (blocks, records in parts) behind seven bytes, with CRC-32 over type and data.
_HEADER, _BLOCK, _PART = 7, 32768, 7
_WHOLE, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4


def offline_runs(folders: Iterable[Path]) -> list[Path]:
    """The folders of offline runs in these run folders, oldest first."""
    return [file.parent for folder in folders for file in sorted(folder.glob("wandb/offline-run-*/run-*.wandb"))]


def sync(folders: list[Path]) -> int:
    """Send the offline runs in these run folders to wandb; needs a login.

    Returns:
        How many there are.

    Raises:
        UserError: a .wandb file is damaged.
        RunError: wandb could not send one.
    """
    runs = offline_runs(folders)
    for one in runs:
        relocate(one)
    code = run_process([sys.executable, "-m", "wandb", "sync", *map(str, runs)], check=False).returncode if runs else 0
    if code:
        raise RunError(f"wandb sync: ended with code {code}. Its output is above. Run the same command again.")
    return len(runs)


def relocate(offline_run: Path) -> int:
    """Give the paths in a .wandb file the beginning that they have now, if its run folder was moved.

    Returns:
        How many paths were changed.

    Raises:
        UserError: the file is damaged.
    """
    from wandb.proto.wandb_internal_pb2 import Record  # type: ignore[attr-defined]  # generated when it is imported

    file = next(iter(offline_run.glob("run-*.wandb")))
    folder = offline_run.absolute().parent.parent
    content = file.read_bytes()
    records, changed = [], 0
    for data in _records(content, file):
        record = Record()
        record.ParseFromString(data)
        for entry in record.artifact.manifest.contents:
            before, found, name = entry.local_path.partition(f"/{STAGING}/")
            if found and Path(before) != folder:
                entry.local_path = str(folder / STAGING / name)
                changed += 1
        records.append(record.SerializeToString() if changed else data)
    if changed:
        temporary = file.with_suffix(".new")
        temporary.write_bytes(content[:_HEADER] + _written(records))
        os.replace(temporary, file)
    return changed


def _records(content: bytes, file: Path) -> Iterator[bytes]:
    """The records of a .wandb file. One that a crash has cut off at the end is left out."""
    at, parts = _HEADER, b""
    if content[:4] != b":W&B":
        raise UserError(f"{file}: not a .wandb file. Remove {file.parent}; the run's results are in its own folder.")
    while at + _PART <= len(content):
        if _BLOCK - at % _BLOCK < _PART:  # padding
            at += _BLOCK - at % _BLOCK
            continue
        crc, size = int.from_bytes(content[at : at + 4], "little"), int.from_bytes(content[at + 4 : at + 6], "little")
        kind, data = content[at + 6], content[at + _PART : at + _PART + size]
        if len(data) < size:
            return
        if zlib.crc32(data, zlib.crc32(bytes([kind]))) != crc:
            raise UserError(f"{file}: damaged at byte {at}. Copy the run folder again.")
        parts += data
        at += _PART + size
        if kind in (_WHOLE, _LAST):
            yield parts
            parts = b""


def _written(records: Iterable[bytes]) -> bytes:
    """Records as LevelDB's log; the file's first seven bytes count as written already."""
    out = bytearray(_HEADER)
    for record in records:
        left, first = record, True
        while first or left:
            room = _BLOCK - len(out) % _BLOCK
            if room < _PART:
                out += bytes(room)
                continue
            data, left = left[: room - _PART], left[room - _PART :]
            kind = (_FIRST if left else _WHOLE) if first else (_MIDDLE if left else _LAST)
            crc = zlib.crc32(data, zlib.crc32(bytes([kind])))
            out += crc.to_bytes(4, "little") + len(data).to_bytes(2, "little") + bytes([kind]) + data
            first = False
    return bytes(out[_HEADER:])
