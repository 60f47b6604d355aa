"""Test pairs of one scene: prompts of one first frame are one observation of the statistics, and may differ in one word."""

from __future__ import annotations

import hashlib
import itertools
import re
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path

from cosmos_exp.data.readers.records import TestPair
from cosmos_exp.data.video import read_image
from cosmos_exp.errors import RunError
from cosmos_exp.files import file_sha256

PROBE = "~"  # between the name of a test pair and the word that a probe has instead


def scene_names(pairs: Sequence[TestPair], recordings: str | None = None) -> dict[str, str]:
    """The scene of each test pair by its name: pairs with the same first frame have the same scene (12 hex digits).

    Two first frames are the same if their pixels are, whatever their files. The name of a scene is the hash of the first of
    its files. Held-out clips of one recording are one scene.

    Args:
        recordings: data.recordings.
    """
    first: dict[str, str] = {}  # the name of the scene of each picture
    names = {}
    for pair in pairs:
        if isinstance(pair.image, Path):
            stat = pair.image.stat()
            name, pixels = _picture(pair.image, stat.st_size, stat.st_mtime_ns)
            names[pair.name] = first.setdefault(pixels, name)
        elif recordings is None:
            names[pair.name] = f"{pair.image.sha256[:12]}@{pair.image.start}"
        else:
            names[pair.name] = f"recording {recording_of(pair.image.clip.name, recordings)}"
    return names


def recording_of(name: str, recordings: str | None) -> str:
    """The recording that a clip belongs to: what the pattern matches in its name, or its first group; else the name itself."""
    match = re.search(recordings or "", name)
    if match is None:
        return name
    return match.group(min(1, match.re.groups)) or name


@lru_cache(maxsize=4096)
def _picture(path: Path, size: int, modified: int) -> tuple[str, str]:
    """12 digits of the file's hash, and the hash of its pixels; that of the file again for no picture."""
    name = file_sha256(path)[:12]
    try:
        return name, hashlib.sha256(read_image(path).tobytes()).hexdigest()
    except RunError:  # the inspection of the data reports it
        return name, name


# --- prompts of one scene that differ in one word ---


def probes(pairs: Sequence[TestPair], word_pairs: Sequence[Sequence[str]]) -> list[TestPair]:
    """A test pair for each prompt that holds a word of `word_pairs` once, with the other word instead.

    Prompts that hold both words, or one of them several times, give no probe: the meaning of the other word is unclear there.

    Args:
        word_pairs: `data.swaps`.
    """
    probes = []
    for pair, (a, b) in itertools.product(pairs, word_pairs):
        for word, other in ((a, b), (b, a)):
            pattern = _pattern(word)
            occurrences = pattern.findall(pair.prompt)
            if len(occurrences) == 1 and not _pattern(other).search(pair.prompt):
                new = other
                if occurrences[0][0].isupper():
                    new = other.capitalize()
                prompt = pattern.sub(new, pair.prompt)
                probes.append(replace(pair, name=f"{pair.name}{PROBE}{other}", prompt=prompt, recording=None))
    return probes


def _pattern(word: str) -> re.Pattern[str]:
    return re.compile(rf"\b{re.escape(word)}\b", re.IGNORECASE)


def one_word_apart(pairs: Sequence[TestPair]) -> list[tuple[str, str, tuple[str, str]]]:
    """All pairs of test pairs with the same first frame whose prompts differ in exactly one word.

    Returns:
        Their names and the two words, in the same order.
    """
    names, apart = scene_names(pairs), []
    for a, b in itertools.combinations(pairs, 2):
        words = different_word(a.prompt, b.prompt)
        if words and names[a.name] == names[b.name]:
            apart.append((a.name, b.name, words))
    return apart


def different_word(a: str, b: str) -> tuple[str, str] | None:
    """The only word in which two prompts differ, of each; None if they differ in more words or in none."""
    words_a, words_b = re.findall(r"[\w'-]+", a.lower()), re.findall(r"[\w'-]+", b.lower())
    if len(words_a) != len(words_b):
        return None
    different = [(x, y) for x, y in zip(words_a, words_b, strict=True) if x != y]
    return different[0] if len(different) == 1 else None
