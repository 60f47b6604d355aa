"""Tables of captions: CSV files with a header, a file name and a text in each line; and the prompt of videos without one."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path

from cosmos_exp.config.schema import Data
from cosmos_exp.data.readers.records import VIDEO_SUFFIXES, caption_fault
from cosmos_exp.errors import UserError

FILE_NAME = "file_name"  # data.prompt: the file's name is the prompt


def read_table(table: Path, problems: list[str]) -> dict[str, str]:
    """Caption by file name without folder and suffix. Commas in an unquoted caption belong to it.

    What is wrong goes to `problems`: lines without a caption, and files with two lines, which then have none.

    Raises:
        UserError: the file is not a CSV table in UTF-8.
    """
    try:
        with open(table, newline="", encoding="utf-8-sig") as file:
            lines = csv.reader(file, strict=True)
            rows = _numbered(lines, table)
    except UnicodeDecodeError as error:
        raise UserError(f"{table}: not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    found: dict[str, str] = {}
    twice = set()
    if rows and rows[0][1] and Path(rows[0][1][0]).suffix.lower() in VIDEO_SUFFIXES:
        problems.append(f"{table}, line 1: names a video; put a header above it, e.g. file,caption")
    for number, row in rows[1:]:
        if not row:
            continue
        name, caption = Path(row[0].strip()).stem, ",".join(row[1:]).strip()
        if not name or not caption:
            problems.append(f"{table}, line {number}: expected file name and caption; complete or remove the line")
        elif fault := caption_fault(caption):
            problems.append(f"{table}, line {number}: {fault}")
            caption = ""
        elif name in found:
            twice.add(name)
            problems.append(f"{table}, line {number}: {name} has two lines; remove one")
        found.setdefault(name, caption)
    return {n: c for n, c in found.items() if c and n not in twice}


def _numbered(lines: Iterator[list[str]], table: Path) -> list[tuple[int, list[str]]]:
    rows: list[tuple[int, list[str]]] = []
    while True:
        number = len(rows) + 1
        try:
            rows.append((number, next(lines)))
        except StopIteration:
            return rows
        except csv.Error as error:
            raise UserError(
                f"{table}, line {number}: not a CSV table ({error}). Close a quote that this line opens, or save the file "
                "again as CSV with the lines FILE,CAPTION."
            ) from error


def default_prompt(data: Data, path: Path) -> str | None:
    """The prompt of a video without a caption: data.prompt, or the file's name if it says so. None: there is none.

    Raises:
        UserError: data.prompt is empty or no caption.
    """
    if data.prompt is None:
        return None
    if not data.prompt.strip():
        raise UserError(f"data.prompt: is empty. Give a text, {FILE_NAME}, or null.")
    if fault := caption_fault(data.prompt):
        raise UserError(f"data.prompt: {fault}.")
    return re.sub(r"[\s_-]+", " ", path.stem).strip() if data.prompt == FILE_NAME else data.prompt.strip()
