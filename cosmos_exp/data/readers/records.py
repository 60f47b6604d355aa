"""What readers return: clips, test pairs, and the problems found on the way; and the file checks that readers share."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path

from cosmos_exp.errors import UserError

VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".avi", ".webm")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")
LONGEST_CAPTION = 20_000  # characters; a longer text is a whole file that landed in a caption
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


def caption_fault(text: str) -> str | None:
    r"""What is wrong with a caption, and the fix; None: nothing.

    JSON can hold a half of a surrogate pair (`\ud83d`), which no tokenizer takes.
    """
    if len(text) > LONGEST_CAPTION:
        return f"the caption has {len(text):,} characters, at most {LONGEST_CAPTION:,}; shorten it"
    if found := _CONTROL.search(text):
        code, at = ord(found.group()), found.start()
        return f"the caption holds the control character \\x{code:02x} (at {at}); write it again as plain text"
    try:
        text.encode()
    except UnicodeEncodeError as error:
        return f"the caption holds half a character (at {error.start}); write it again as UTF-8"
    return None


def read_caption(path: Path, problems: list[str]) -> str | None:
    """`read_text_of` a file that is a caption as a whole, checked by `caption_fault`."""
    text = read_text_of(path, problems)
    return None if text is None else whole_text(path, text, problems)


def read_text_of(path: Path, problems: list[str]) -> str | None:
    """The text of a caption file without surrounding space. None if it is unusable; the reason goes to `problems`."""
    try:
        text = path.read_text(encoding="utf-8-sig").strip()  # without the byte order mark of Windows editors
    except UnicodeDecodeError as error:
        problems.append(f"{path}: not UTF-8 text (byte {error.start}); save it as UTF-8")
        return None
    except OSError as error:
        problems.append(f"{path}: cannot be read ({error.strerror})")
        return None
    if not text:
        problems.append(f"{path}: the caption is empty; write one or remove the video")
        return None
    return text


def whole_text(path: Path, text: str, problems: list[str]) -> str | None:
    """The text; None if it has a `caption_fault`, which goes to `problems`."""
    fault = caption_fault(text)
    if fault:
        problems.append(f"{path}: {fault}")
    return None if fault else text


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
