"""Offline wandb runs in run folders: where their files are, and a run folder that was moved before `wandb sync`.

wandb stores the absolute path of each artifact's file in the .wandb file. The files themselves are in the run folder
(`STAGING`), so that a moved folder is complete; `relocate` gives the paths their new beginning.
"""

from __future__ import annotations

import struct
import sys
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from subprocess import run as run_process

from cosmos_exp.errors import RunError, UserError
from cosmos_exp.files import atomic_path

STAGING = "wandb/data"
"""Below the run folder: WANDB_DATA_DIR, in which wandb keeps copies of artifacts until they are sent."""
# The format of .wandb files: LevelDB's log (blocks, records in parts) behind seven bytes, with CRC-32 over type and data.
_HEADER, _BLOCK = 7, 32768
_PART = struct.Struct("<IHB")  # CRC, size, kind
_WHOLE, _FIRST, _MIDDLE, _LAST = 1, 2, 3, 4
_KINDS = {
    (True, True): _WHOLE,
    (True, False): _FIRST,
    (False, False): _MIDDLE,
    (False, True): _LAST,
}  # first, last part


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
    for run in runs:
        relocate(run)
    if runs:
        code = run_process([sys.executable, "-m", "wandb", "sync", *map(str, runs)], check=False).returncode
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
            before, separator, name = entry.local_path.partition(f"/{STAGING}/")
            if separator and Path(before) != folder:
                entry.local_path = str(folder / STAGING / name)
                changed += 1
        records.append(record.SerializeToString() if changed else data)
    if changed:
        with atomic_path(file) as temporary:
            temporary.write_bytes(content[:_HEADER] + _written(records))
    return changed


def _records(content: bytes, file: Path) -> Iterator[bytes]:
    """The records of a .wandb file. One that a crash has cut off at the end is left out."""
    at, parts = _HEADER, b""
    if content[:4] != b":W&B":
        raise UserError(f"{file}: not a .wandb file. Remove {file.parent}; the run's results are in its own folder.")
    while at + _PART.size <= len(content):
        if _BLOCK - at % _BLOCK < _PART.size:  # padding
            at += _BLOCK - at % _BLOCK
            continue
        crc, size, kind = _PART.unpack_from(content, at)
        at += _PART.size
        data = content[at : at + size]
        if len(data) < size:
            return
        if zlib.crc32(bytes([kind]) + data) != crc:
            raise UserError(f"{file}: damaged before byte {at + size}. Copy the run folder again.")
        parts += data
        at += size
        if kind in (_WHOLE, _LAST):
            yield parts
            parts = b""


def _written(records: Iterable[bytes]) -> bytes:
    """Records as LevelDB's log; the file's first seven bytes count as written already."""
    out = bytearray(_HEADER)
    for record in records:
        at = 0
        while at < len(record) or not at:
            room = _BLOCK - len(out) % _BLOCK - _PART.size
            if room < 0:
                out += bytes(room + _PART.size)
                continue
            data = record[at : at + room]
            kind = _KINDS[at == 0, at + len(data) == len(record)]
            out += _PART.pack(zlib.crc32(bytes([kind]) + data), len(data), kind) + data
            at += len(data)
    return bytes(out[_HEADER:])
