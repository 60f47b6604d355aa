"""Test pairs of one scene: prompts of one first frame are one observation of the statistics, and may differ in one word."""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np

from cosmos_exp.data.pairs import HeldOut
from cosmos_exp.data.readers.records import TestPair
from cosmos_exp.data.video import read_image
from cosmos_exp.errors import RunError
from cosmos_exp.files import file_sha256

# Two pictures are the same if no mean grey of 32 x 32 fields differs by more than 8, and no mean colour of 8 x 8 fields by
# more than 6. JPEG from quality 75 on and another size stay within; two test scenes of one table differ by 80 and 45.
GREYS, SAME_GREY = 32, 8
COLOURS, SAME_COLOUR = 8, 6

PROBE = "~"  # between the name of a test pair and the word that a probe has instead


def scenes(pairs: Sequence[TestPair], held_out: HeldOut, recordings: str | None = None) -> dict[str, str]:
    """The scene of each test pair by its name: pairs with the same first frame have the same scene (12 hex digits).

    Two first frames are the same if their pixels are, whatever their files: a copy, another PNG, a JPEG, another size. The
    name of a scene is the hash of the first of its files. Held-out clips of one recording are one scene.

    Args:
        recordings: data.recordings.
    """
    pictures: list[tuple[bytes, str]] = []  # the small picture of each scene, and its name
    names = {}
    for pair in pairs:
        if isinstance(pair.image, Path):
            stat = pair.image.stat()
            digest, picture = _picture(pair.image, stat.st_size, stat.st_mtime_ns)
            names[pair.name] = _scene_of(digest, picture, pictures)
        elif recordings is None:
            clip = held_out[pair.image.name]
            names[pair.name] = f"{clip.sha256[:12]}@{clip.start}"
        else:
            names[pair.name] = f"recording {recording_of(pair.image.name, recordings)}"
    return names


def _scene_of(digest: str, picture: bytes, pictures: list[tuple[bytes, str]]) -> str:
    """The name of the first scene with the same picture, or a new one."""
    for other, name in pictures:
        if name == digest[:12] or _is_same(picture, other):
            break
    else:
        name = digest[:12]
    pictures.append((picture, name))
    return name


def recording_of(name: str, recordings: str | None) -> str:
    """The recording that a clip belongs to: what the pattern matches in its name, or its first group; else the name itself."""
    match = re.search(recordings or "", name)
    if match is None:
        return name
    return match.group(min(1, match.re.groups)) or name


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


# --- prompts of one scene that differ in one word ---


@dataclass(frozen=True)
class WordPair:
    """Two test pairs with one first frame. `words` are the words in which their prompts differ, in the same order."""

    a: TestPair
    b: TestPair
    words: tuple[str, str]


def probes(pairs: Sequence[TestPair], swaps: Sequence[Sequence[str]]) -> list[TestPair]:
    """A test pair for each prompt that holds a word of `swaps` once, with the other word instead.

    Prompts that hold both words, or one of them several times, give no probe: the meaning of a swap is unclear there.

    Args:
        swaps: pairs of words, `data.swaps`.
    """
    swapped = []
    for pair, (a, b) in itertools.product(pairs, swaps):
        for word, other in ((a, b), (b, a)):
            pattern = _pattern(word)
            occurrences = pattern.findall(pair.prompt)
            if len(occurrences) == 1 and not _pattern(other).search(pair.prompt):
                new = other
                if occurrences[0][0].isupper():
                    new = other.capitalize()
                prompt = pattern.sub(new, pair.prompt)
                swapped.append(replace(pair, name=f"{pair.name}{PROBE}{other}", prompt=prompt, recording=None))
    return swapped


def _pattern(word: str) -> re.Pattern[str]:
    return re.compile(rf"\b{re.escape(word)}\b", re.IGNORECASE)


def word_pairs(pairs: Sequence[TestPair], held_out: HeldOut) -> list[WordPair]:
    """All pairs of test pairs with the same first frame whose prompts differ in exactly one word."""
    names, by_scene, differing = scenes(pairs, held_out), defaultdict(list), []
    for pair in pairs:
        by_scene[names[pair.name]].append(pair)
    for same in by_scene.values():
        for a, b in itertools.combinations(same, 2):
            words = different_word(a.prompt, b.prompt)
            if words:
                differing.append(WordPair(a, b, words))
    return differing


def different_word(a: str, b: str) -> tuple[str, str] | None:
    """The only word in which two prompts differ, of each; None if they differ in more words or in none."""
    words_a, words_b = re.findall(r"[\w'-]+", a.lower()), re.findall(r"[\w'-]+", b.lower())
    if len(words_a) != len(words_b):
        return None
    different = [(x, y) for x, y in zip(words_a, words_b, strict=True) if x != y]
    return different[0] if len(different) == 1 else None
