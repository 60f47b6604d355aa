"""Read the clips of a folder with the reader that data.reader names (`config.registry.READERS`)."""

from __future__ import annotations

from pathlib import Path

from cosmos_exp.config.registry import READERS
from cosmos_exp.config.schema import Data
from cosmos_exp.data.readers.records import Episodes
from cosmos_exp.errors import UserError


def read_episodes(data: Data, folder: Path) -> Episodes:
    """List the clips of `folder` with the reader that data.reader names.

    Raises:
        UserError: no such folder, no such reader, or a folder of another layout.
    """
    if not folder.is_dir():
        raise UserError(f"data.path={folder}: no such folder. Give one that exists.")
    found: Episodes = READERS.get(data.reader)(data, folder)
    return found


def guess_reader(folder: Path) -> str:
    """The name of the reader that fits a folder: lerobot, gr1_100, else folder."""
    if (folder / "meta" / "info.json").is_file():
        return "lerobot"
    return "gr1_100" if (folder / "metadata.csv").is_file() else "folder"
