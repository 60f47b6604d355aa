"""What readers return: clips, test pairs, problems."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from cosmos_exp.config.registry import READERS
from cosmos_exp.config.schema import Data

if TYPE_CHECKING:
    from cosmos_exp.data.clips import CheckedClip

VIDEO_SUFFIXES = (".mp4", ".mov", ".mkv", ".avi", ".webm")
IMAGE_SUFFIXES = (".png", ".jpg", ".jpeg")


@dataclass(frozen=True)
class Footage:
    """What one camera recorded of an episode.

    seconds: start and end of the episode, for a file that holds several episodes; None: the whole file.
    counted: its first frame and the one after its last, if the episodes before it have the stated lengths, and the sum of
        all lengths in the file. They count where the file has as many frames.
    """

    path: Path
    seconds: tuple[float, float] | None = None
    counted: tuple[int, int, int] | None = None


@dataclass(frozen=True)
class Clip:
    """One training video.

    path: its file; with several cameras, that of the first.
    cameras: what each recorded, in the order of data.cameras; their pictures are tiled into the frame. Empty: the whole file.
    length: number of frames that the metadata states; None: it states none. A longer video is cut to it.
    fps: frames per second that the data states; None: those of the video's header.
    """

    name: str
    path: Path
    prompt: str
    cameras: tuple[Footage, ...] = ()
    length: int | None = None
    fps: float | None = None

    @property
    def footage(self) -> tuple[Footage, ...]:
        """Of all cameras."""
        return self.cameras or (Footage(self.path),)


@dataclass(frozen=True)
class TestPair:
    """A prompt and its conditioning frames.

    image: an image file, or a clip held out of the training data, whose first frames are used.
    recording: a video that begins with the image and shows what really happened; None: there is none, or it is the clip.
    """

    __test__ = False  # pytest: this is not a test class

    name: str
    prompt: str
    image: Path | CheckedClip
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
        UserError: no such reader, or a folder of another layout.
    """
    episodes: Episodes = READERS.get(data.reader)(data, folder)
    return episodes


def guess_reader(folder: Path) -> str:
    """The name of the reader that fits a folder: lerobot, gr1_100, else folder."""
    if (folder / "meta" / "info.json").is_file():
        return "lerobot"
    return "gr1_100" if (folder / "metadata.csv").is_file() else "folder"
