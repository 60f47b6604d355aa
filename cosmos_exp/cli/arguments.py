"""Arguments that several commands share."""

from __future__ import annotations

from pathlib import Path

from cosmos_exp.errors import UserError


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
