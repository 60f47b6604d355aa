"""Readers: from a folder on disk to clips and test pairs. They list every problem they see and invent nothing."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cosmos_exp.data.readers.folder import _folder
from cosmos_exp.data.readers.gr1 import _gr1
from cosmos_exp.data.readers.lerobot import _lerobot
from cosmos_exp.data.readers.records import Episodes
from cosmos_exp.errors import UserError


def read_episodes(data: Any, folder: Path) -> Episodes:
    """List the clips of `folder` with the reader that `data.reader` names.

    Raises:
        UserError: the folder is not there or is not of that layout.
    """
    if not folder.is_dir():
        raise UserError(f"data.path={folder}: there is no such folder")
    return {"folder": _folder, "gr1_100": _gr1, "lerobot": _lerobot}[data.reader](data, folder)


def guess_reader(folder: Path) -> str:
    """Which reader fits a folder: lerobot, gr1_100, else folder."""
    if (folder / "meta" / "info.json").is_file():
        return "lerobot"
    return "gr1_100" if (folder / "metadata.csv").is_file() else "folder"
