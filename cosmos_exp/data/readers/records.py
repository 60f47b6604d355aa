"""What readers return (clips, test pairs, problems), and what they share: lists of videos, captions, tables of captions."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass, field
from pathlib import Path

from cosmos_exp.config.registry import READERS
from cosmos_exp.config.schema import Data
from cosmos_exp.errors import UserError

VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".avi", ".webm")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
LONGEST_CAPTION = 20_000  # characters; a longer text is a whole file that landed in a caption
FILE_NAME = "file_name"  # data.prompt: the file's name is the prompt
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")  # all but tab and the ends of lines


@dataclass(frozen=True)
class Footage:
    """What one camera recorded of an episode.

    seconds: start and end of the episode, for a file that holds several episodes; None: the whole file.
    """

    path: Path
    seconds: tuple[float, float] | None = None


@dataclass(frozen=True)
class Clip:
    """One training video.

    path: its file; with several cameras, that of the first.
    seconds: start and end of the episode, for a file that holds several episodes; None: the whole file.
    others: the further cameras, in the order of data.cameras; their pictures are tiled into the frame.
    length: number of frames that the metadata states; None: it states none.
    """

    name: str
    path: Path
    prompt: str
    seconds: tuple[float, float] | None = None
    others: tuple[Footage, ...] = ()
    length: int | None = None


@dataclass(frozen=True)
class TestPair:
    """A prompt and its conditioning frames.

    image: an image file, or a held-out clip whose first frames are used.
    recording: a video that begins with the image and shows what really happened; None: there is none, or it is the clip.
    """

    __test__ = False  # pytest: this is not a test class

    name: str
    prompt: str
    image: Path | Clip
    recording: Path | None = None


@dataclass
class Episodes:
    """The result of a reader.

    problems: one line for each bad file: what is wrong, where, how to fix it.
    notes: facts worth reporting that are no fault.
    """

    clips: list[Clip] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def read_episodes(data: Data, folder: Path) -> Episodes:
    """List the clips of `folder` with the reader that data.reader names.

    Raises:
        UserError: no such folder, no such reader, or a folder of another layout.
    """
    if not folder.is_dir():
        raise UserError(f"data.path={folder}: no such folder. Give one that exists.")
    episodes: Episodes = READERS.get(data.reader)(data, folder)
    return episodes


def guess_reader(folder: Path) -> str:
    """The name of the reader that fits a folder: lerobot, gr1_100, else folder."""
    if (folder / "meta" / "info.json").is_file():
        return "lerobot"
    return "gr1_100" if (folder / "metadata.csv").is_file() else "folder"


def list_videos(folder: Path, problems: list[str]) -> list[Path]:
    """The video files of a folder, sorted by name. Broken links and repeated names go to `problems`.

    Raises:
        UserError: there is no such folder.
    """
    if not folder.is_dir():
        raise UserError(
            f"{folder}: no such folder; expected videos/*.mp4 with metas/*.txt, captions/*.json or captions.csv"
        )
    paths: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in VIDEO_SUFFIXES:
            continue
        try:
            path.resolve(strict=True)
        except (OSError, RuntimeError):
            problems.append(f"{path}: a link that is broken or circular; remove or replace it")
            continue
        if path.stem in paths:
            problems.append(f"{path}: same name as {paths[path.stem].name}; rename one, a caption belongs to one video")
            continue
        paths[path.stem] = path
    return list(paths.values())


# --- captions ---


def caption_fault(text: str) -> str | None:
    r"""What is wrong with a caption, and the fix; None: nothing.

    JSON can hold a half of a surrogate pair (`\ud83d`), which no tokenizer takes.
    """
    if not text:
        return "the caption is empty; write one or remove the video"
    if len(text) > LONGEST_CAPTION:
        return f"the caption has {len(text):,} characters, at most {LONGEST_CAPTION:,}; shorten it"
    control = _CONTROL.search(text)
    if control:
        code, at = ord(control.group()), control.start()
        return f"the caption holds the control character \\x{code:02x} (at {at}); write it again as plain text"
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"the caption holds half a character (at {error.start}); write it again as UTF-8"
    return None


def read_caption(path: Path, problems: list[str]) -> str | None:
    """The text of a caption file. None if it is unusable; the reason goes to `problems`."""
    text = read_text_of(path, problems)
    if text is not None:
        text = usable_caption(path, text, problems)
    return text


def read_text_of(path: Path, problems: list[str]) -> str | None:
    """The text of a file without surrounding space. None if it cannot be read; the reason goes to `problems`."""
    try:
        return path.read_text(encoding="utf-8-sig").strip()  # without the byte order mark of Windows editors
    except UnicodeDecodeError as error:
        problems.append(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8")
    except OSError as error:
        problems.append(f"{path}: cannot be read ({error.strerror})")
    return None


def usable_caption(path: Path, text: str, problems: list[str]) -> str | None:
    """The text; None if it is empty or has a `caption_fault`, which goes to `problems`."""
    fault = caption_fault(text)
    if fault:
        problems.append(f"{path}: {fault}")
        return None
    return text


def default_prompt(data: Data, path: Path) -> str | None:
    """The prompt of a video without a caption: data.prompt, or the file's name if it says so. None: there is none.

    Raises:
        UserError: data.prompt is empty or no caption.
    """
    if data.prompt is None:
        return None
    if not data.prompt.strip():
        raise UserError(f"data.prompt: is empty. Give a text, {FILE_NAME}, or null.")
    fault = caption_fault(data.prompt)
    if fault:
        raise UserError(f"data.prompt: {fault}.")
    if data.prompt == FILE_NAME:
        return re.sub(r"[\s_-]+", " ", path.stem).strip()
    return data.prompt.strip()


def read_table(table: Path, problems: list[str]) -> dict[str, str]:
    """Caption by file name without folder and suffix, of a CSV file with a header. An unquoted caption may hold commas.

    What is wrong goes to `problems`: lines without a caption, and files with two lines, which then have none.

    Raises:
        UserError: the file is not a CSV table in UTF-8.
    """
    captions: dict[str, str] = {}
    unusable = set()
    for number, row in enumerate(_read_rows(table), 1):
        where = f"{table}, line {number}"
        if number == 1:
            if row and Path(row[0]).suffix.lower() in VIDEO_SUFFIXES:
                problems.append(f"{where}: names a video; put a header above it, e.g. file,caption")
            continue
        if not row:
            continue
        name, caption = Path(row[0].strip()).stem, ",".join(row[1:]).strip()
        fault = caption_fault(caption)
        if not name or not caption:
            problems.append(f"{where}: expected file name and caption; complete or remove the line")
            unusable.add(name)
        elif fault:
            problems.append(f"{where}: {fault}")
            unusable.add(name)
        elif name in captions:
            problems.append(f"{where}: {name} has two lines; remove one")
            unusable.add(name)
        captions.setdefault(name, caption)
    for name in unusable:
        captions.pop(name, None)
    return captions


def _read_rows(table: Path) -> list[list[str]]:
    rows: list[list[str]] = []
    try:
        with open(table, newline="", encoding="utf-8-sig") as file:
            for row in csv.reader(file, strict=True):
                rows.append(row)
    except UnicodeDecodeError as error:
        raise UserError(f"{table}: not UTF-8 text (byte {error.start}); save it as UTF-8") from error
    except csv.Error as error:
        raise UserError(
            f"{table}, line {len(rows) + 1}: not a CSV table ({error}). Close a quote that this line opens, or save the file "
            "again as CSV with the lines FILE,CAPTION."
        ) from error
    return rows
