"""Readers: from a folder on disk to clips and test pairs. They list every problem they see and invent nothing."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from cosmos_exp.errors import UserError

VIDEO_ENDS = (".mp4", ".mov", ".mkv", ".avi", ".webm")

IMAGE_ENDS = (".png", ".jpg", ".jpeg")


@dataclass(frozen=True)
class Clip:
    """One training video. `seconds` is the (start, end) of the episode in a file that holds several."""

    name: str
    path: Path
    prompt: str
    seconds: tuple[float, float] | None = None


@dataclass(frozen=True)
class TestPair:
    """A first frame and a prompt. `image` is a picture file, or a clip of which the first frames are taken."""

    __test__ = False  # not a test class

    name: str
    prompt: str
    image: Path | Clip


@dataclass
class Episodes:
    """What a reader found. `problems` name the file and the mend; `notes` are worth saying but no fault."""

    clips: list[Clip] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


def _text(path: Path, found: Episodes) -> str | None:
    try:
        text = path.read_text(encoding="utf-8").strip()
    except UnicodeDecodeError as error:
        found.problems.append(f"{path}: is not UTF-8 text (byte {error.start}); save it as UTF-8")
        return None
    except OSError as error:
        found.problems.append(f"{path}: cannot be read ({error.strerror})")
        return None
    if not text:
        found.problems.append(f"{path}: the caption is empty; write one or remove the video")
        return None
    return text


def _videos(folder: Path, found: Episodes) -> list[Path]:
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder; expected videos/*.mp4 with metas/*.txt or captions/*.json")
    paths: list[Path] = []
    stems: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() not in VIDEO_ENDS:
            continue
        try:
            path.resolve(strict=True)
        except (OSError, RuntimeError):
            found.problems.append(f"{path}: a link that leads nowhere or in a circle; remove or mend it")
            continue
        if path.stem in stems:
            found.problems.append(f"{path}: same name as {stems[path.stem].name}; one caption cannot serve both")
            continue
        stems[path.stem] = path
        paths.append(path)
    return paths
