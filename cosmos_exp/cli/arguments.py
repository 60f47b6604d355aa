"""Arguments that several commands share."""

from __future__ import annotations

import errno
import os
import tempfile
from pathlib import Path

from cosmos_exp.errors import UserError
from cosmos_exp.files import LONGEST_NAME, TEMPORARY


def existing_files(names: list[str]) -> list[Path]:
    """The files with these names.

    Raises:
        UserError: some do not exist; it lists them.
    """
    paths = [Path(n).expanduser() for n in names]
    missing = [str(p) for p in paths if not p.is_file()]
    if missing:
        raise UserError(f"{', '.join(missing)}: no such file. Check the path.")
    return paths


def writable_folder(name: str, option: str = "--out") -> Path:
    """The folder of results with this name. It need not exist, and is not made: a folder can be made where it goes.

    Raises:
        UserError: it is a file or below one, or no folder can be made there.
    """
    path = Path(name).expanduser()
    place = path
    while not os.path.exists(place) and place != place.parent:  # Path.exists raises on a name that is too long
        place = place.parent
    if not place.is_dir():
        raise UserError(f"{option} {path}: {place} is a file. Choose a folder.")
    try:
        tempfile.TemporaryDirectory(dir=place, prefix=TEMPORARY).cleanup()
        longest = max((len(os.fsencode(part)) for part in path.parts), default=0)
        if longest > LONGEST_NAME:
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
    except OSError as error:
        raise UserError(f"{option} {path}: cannot be written ({error.strerror}). Choose another folder.") from error
    return path
