"""Test pairs that share their first frame and whose prompts differ in one word, found or made by swapping a word."""

from __future__ import annotations

import itertools
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from cosmos_exp.data.pair_frames import HeldOut
from cosmos_exp.data.readers.records import TestPair
from cosmos_exp.data.scenes import scenes

PROBE = "~"  # between the name of a test pair and the word that a probe has instead


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
    found = []
    for pair, (a, b) in itertools.product(pairs, swaps):
        counts = {w: len(_occurrences(w, pair.prompt)) for w in (a, b)}
        if sorted(counts.values()) != [0, 1]:
            continue
        word, other = (a, b) if counts[a] else (b, a)
        old = _occurrences(word, pair.prompt)[0]
        prompt = _pattern(word).sub(_like(old, other), pair.prompt)
        found.append(replace(pair, name=f"{pair.name}{PROBE}{other}", prompt=prompt, recording=None))
    return found


def word_pairs(pairs: Sequence[TestPair], held_out: HeldOut) -> list[WordPair]:
    """All pairs of test pairs with the same first frame whose prompts differ in exactly one word."""
    by_scene: dict[str, list[TestPair]] = defaultdict(list)
    for name, scene in scenes(pairs, held_out).items():
        by_scene[scene].append(next(p for p in pairs if p.name == name))
    found = []
    for own in by_scene.values():
        for a, b in itertools.combinations(own, 2):
            words = different_word(a.prompt, b.prompt)
            if words:
                found.append(WordPair(a, b, words))
    return found


def different_word(a: str, b: str) -> tuple[str, str] | None:
    """The only word in which two prompts differ, of each; None if they differ in more words or in none."""
    own, other = (re.findall(r"[\w'-]+", text.lower()) for text in (a, b))
    if len(own) != len(other):
        return None
    different = [(x, y) for x, y in zip(own, other, strict=True) if x != y]
    return different[0] if len(different) == 1 else None


def _pattern(word: str) -> re.Pattern[str]:
    return re.compile(rf"\b{re.escape(word)}\b", re.IGNORECASE)


def _occurrences(word: str, prompt: str) -> list[str]:
    return _pattern(word).findall(prompt)


def _like(word: str, other: str) -> str:
    """`other` with a capital letter if `word` has one."""
    return other.capitalize() if word[:1].isupper() else other
