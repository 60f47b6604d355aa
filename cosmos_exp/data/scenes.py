"""Which test pairs show the same scene: prompts of one scene are one observation of the statistics, not several."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from cosmos_exp.data.pair_frames import HeldOut
from cosmos_exp.data.readers.records import TestPair
from cosmos_exp.data.video import read_image
from cosmos_exp.errors import RunError
from cosmos_exp.files import file_sha256

# Two pictures are the same if no mean grey of 32 x 32 fields differs by more than 8, and no mean colour of 8 x 8 fields by
# more than 6. JPEG from quality 75 on and another size stay within; test scenes of the tabletop differ by 80 and 45.
GREYS, SAME_GREY = 32, 8
COLOURS, SAME_COLOUR = 8, 6


def scenes(pairs: Sequence[TestPair], held_out: HeldOut, recordings: str | None = None) -> dict[str, str]:
    """The scene of each test pair by its name: pairs with the same first frame have the same scene (12 hex digits).

    Two first frames are the same if their pixels are, whatever their files: a copy, another PNG, a JPEG, another size. The
    name of a scene is the hash of the first of its files. Held-out clips of one recording are one scene.

    Args:
        recordings: data.recordings.
    """
    names: dict[tuple[str, bytes], str] = {}  # scene of each file and its small picture
    found = {}
    for pair in pairs:
        if not isinstance(pair.image, Path):
            clip = held_out[pair.image.name]
            own = f"{clip.sha256[:12]}@{clip.start}"
            found[pair.name] = own if recordings is None else f"recording {recording_of(clip.clip.name, recordings)}"
            continue
        stat = pair.image.stat()
        file, small = _picture(pair.image, stat.st_size, stat.st_mtime_ns)
        if (file, small) not in names:
            names[file, small] = next((s for (_, other), s in names.items() if _is_same(small, other)), file[:12])
        found[pair.name] = names[file, small]
    return found


def recording_of(name: str, recordings: str | None) -> str:
    """The recording that a clip belongs to: what the pattern matches in its name, or its first group; else the name itself."""
    match = re.search(recordings, name) if recordings else None
    return name if match is None else match.group(1 if match.re.groups else 0) or name


@lru_cache(maxsize=4096)
def _picture(path: Path, size: int, modified: int) -> tuple[str, bytes]:
    """The file's hash, and the means of the picture's fields; empty for a file that is no picture."""
    digest = file_sha256(path)
    try:
        image = read_image(path)
    except RunError:  # the inspection of the data reports it
        return digest, b""
    return digest, _fields(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), GREYS) + _fields(image, COLOURS)


def _fields(image: np.ndarray, count: int) -> bytes:
    return cv2.resize(image, (count, count), interpolation=cv2.INTER_AREA).tobytes()


def _is_same(a: bytes, b: bytes) -> bool:
    if not a or not b:
        return False
    difference = np.abs(np.frombuffer(a, np.uint8).astype(np.int16) - np.frombuffer(b, np.uint8))
    grey, colour = difference[: GREYS**2], difference[GREYS**2 :]
    return int(grey.max()) <= SAME_GREY and int(colour.max()) <= SAME_COLOUR
