"""All readers by the name that data.reader selects. A new reader is one file and one entry here."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from cosmos_exp.config.schema import Data
from cosmos_exp.data.readers.folder import read_folder
from cosmos_exp.data.readers.gr1 import read_gr1
from cosmos_exp.data.readers.lerobot import read_lerobot
from cosmos_exp.data.readers.records import Episodes
from cosmos_exp.errors import UserError

Reader = Callable[[Data, Path], Episodes]

READERS: dict[str, Reader] = {"folder": read_folder, "gr1_100": read_gr1, "lerobot": read_lerobot}


def read_episodes(data: Data, folder: Path) -> Episodes:
    """List the clips of `folder` with the reader that data.reader names.

    Raises:
        UserError: no such folder, no such reader, or a folder of another layout.
    """
    if not folder.is_dir():
        raise UserError(f"data.path={folder}: no such folder. Give one that exists.")
    if data.reader not in READERS:
        raise UserError(f"data.reader={data.reader}: choose one of {', '.join(READERS)}")
    return READERS[data.reader](data, folder)


def guess_reader(folder: Path) -> str:
    """The name of the reader that fits a folder: lerobot, gr1_100, else folder."""
    if (folder / "meta" / "info.json").is_file():
        return "lerobot"
    return "gr1_100" if (folder / "metadata.csv").is_file() else "folder"
