"""Captions of videos: a text file, a JSON file, a table, or data.prompt for all. An unusable one is an error, never replaced."""

from __future__ import annotations

import csv
import json
import re
import unicodedata
from collections.abc import Collection
from pathlib import Path, PurePath

from cosmos_exp.config.schema import Data
from cosmos_exp.data.readers.records import VIDEO_SUFFIXES
from cosmos_exp.errors import RunError, UserError
from cosmos_exp.files import LFS_FIX, LFS_POINTER
from cosmos_exp.text import CONTROL, one_line

LONGEST_CAPTION = 20_000  # characters; a longer text is a whole file that landed in a caption
FILE_COLUMNS = ("file", "file_name", "filename", "path", "video", "video_path", "name")  # headers of caption tables
CAPTION_COLUMNS = ("caption", "text", "prompt", "instruction", "description")
FILE_NAME = "file_name"  # data.prompt: the file's name is the prompt


def caption_fault(text: str) -> str | None:
    """What is wrong with a caption, and the fix; None: nothing."""
    if not text:
        return "the caption is empty; write one or remove the video"
    if text.startswith(LFS_POINTER):
        return LFS_FIX
    if len(text) > LONGEST_CAPTION:
        return f"the caption has {len(text):,} characters, at most {LONGEST_CAPTION:,}; shorten it"
    control = CONTROL.search(text.replace("\r\n", "\n"))
    if control:
        code, at = one_line(control.group()), control.start()
        return f"the caption holds the control character {code} (at {at}); write it again as plain text"
    return None


def read_caption(path: Path) -> str:
    """The caption in a text file, without surrounding space and without the byte order mark of Windows editors.

    Raises:
        RunError: it is no UTF-8 text, or has a `caption_fault`.
    """
    try:
        text = path.read_text(encoding="utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise RunError(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    return _usable(path, text)


def read_json_caption(path: Path, data: Data) -> str:
    """The caption that data.caption_model and data.caption_length choose from {model: {length: caption}}.

    Raises:
        RunError: the file has none, or it has a `caption_fault`.
    """
    try:
        captions = json.loads(path.read_text(encoding="utf-8-sig"))
        lengths = captions[data.caption_model or next(iter(captions))]
        length = data.caption_length or next(iter(lengths))
        text = lengths[length].strip()
    except (ValueError, LookupError, TypeError, AttributeError, StopIteration, RecursionError) as error:
        raise RunError(
            f"{path}: no caption of model {data.caption_model or '(first)'}, length {data.caption_length or '(first)'}"
            f" ({type(error).__name__}: {error}); set data.caption_model and data.caption_length to ones in the file"
        ) from error
    return _usable(path, text)


def _usable(path: Path, text: str) -> str:
    fault = caption_fault(text)
    if fault:
        raise RunError(f"{path}: {fault}")
    return text


def read_table(table: Path, problems: list[str], videos: Collection[str] = ()) -> dict[str, str]:
    """Caption by the video's name, without folder and suffix, of a table with a header; see `FILE_COLUMNS`, `CAPTION_COLUMNS`.

    Columns are separated by commas, semicolons or tabs; other columns are ignored. Without quotes a caption may hold the
    separator where it is the last of two columns. What is wrong with a line goes to `problems`; its video has no caption then.

    Args:
        videos: names of the videos; a first line that begins with one of them is no header.

    Raises:
        UserError: the file is no such table in UTF-8.
    """
    captions: dict[str, str] = {}
    unusable, number = set[str](), 1
    try:
        with open(table, newline="", encoding="utf-8-sig") as file:
            header = file.readline()
            if header.startswith("sep="):  # Excel's line that names the separator
                header = file.readline()
            separator = max(",;\t", key=header.count)
            names = next(csv.reader([header], delimiter=separator, strict=True), [])
            file_column, caption_column = _columns(table, names, videos)
            for number, row in enumerate(csv.reader(file, delimiter=separator, strict=True), 2):
                if not row:
                    continue
                if len(names) == 2 and caption_column == 1:
                    row = [row[0], separator.join(row[1:])]
                if len(row) != len(names):
                    problems.append(
                        f"{table}, line {number}: has {len(row)} values, the header {len(names)}; put the caption in quotes"
                    )
                    continue
                name, caption = video_name(row[file_column]), row[caption_column].strip()
                fault = caption_fault(caption)
                if name in captions:
                    fault = f"{name} has two lines; remove one"
                if fault:
                    problems.append(f"{table}, line {number}: {fault}")
                    unusable.add(name)
                captions[name] = caption
    except UnicodeDecodeError as error:
        raise UserError(f"{table}: not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    except csv.Error as error:
        raise UserError(
            f"{table}, line {number + 1}: not a CSV table ({error}). Close a quote that this line opens, or save the file "
            "again as CSV with the lines FILE,CAPTION."
        ) from error
    for name in unusable:
        del captions[name]
    return captions


def _columns(table: Path, header: list[str], videos: Collection[str]) -> tuple[int, int]:
    """The columns of file and caption.

    Raises:
        UserError: the first line names no such columns.
    """
    names = [name.strip().lower() for name in header]
    files = [k for k, name in enumerate(names) if name in FILE_COLUMNS]
    captions = [k for k, name in enumerate(names) if name in CAPTION_COLUMNS]
    if len(files) == 1 and len(captions) == 1:
        return files[0], captions[0]
    if len(header) == 2 and not files + captions:  # as GR1-100's script reads it
        name = video_name(header[0])
        if name == header[0] and name not in videos:
            return 0, 1
    raise UserError(
        f"{table}, line 1: expected a header with one column of files ({', '.join(FILE_COLUMNS)}) and one of captions "
        f"({', '.join(CAPTION_COLUMNS)}), e.g. file,caption; found {one_line(header)[:80]}"
    )


def video_name(path: str) -> str:
    """The name of a video without folder and suffix. `take.1` has no suffix."""
    name = unicodedata.normalize(
        "NFC", PurePath(path.strip().replace("\\", "/")).name
    )  # macOS writes é as e and an accent
    suffix = PurePath(name).suffix
    return name.removesuffix(suffix) if suffix.lower() in VIDEO_SUFFIXES else name


def default_prompt(data: Data, name: str) -> str | None:
    """The prompt of a video without a caption: data.prompt, or the video's name if it says so. None: there is none.

    Raises:
        UserError: data.prompt is empty or no caption.
    """
    if data.prompt is None:
        return None
    prompt = data.prompt.strip()
    fault = caption_fault(prompt)
    if fault:
        raise UserError(f"data.prompt: {fault}.")
    return re.sub(r"[\s_-]+", " ", name).strip() if prompt == FILE_NAME else prompt
