"""Reading a score from a judge's answer. An answer without a score has none; no default takes its place."""

from __future__ import annotations

import re

import numpy as np

THINKING, THOUGHT = "<think>", "</think>"
_BARE = re.compile(r"^\W*([1-5])\W*$", re.MULTILINE)
_NAMED = re.compile(r"\b(?:score|rating|answer)\b\W{0,4}(?:is\W+)?([1-5])(?![\d.,/]*\d)", re.IGNORECASE)


def find_score(text: str) -> tuple[int, int] | None:
    """The score in an answer and the position of its digit; None if there is no score.

    Only the text after the reasoning counts. The first line that is a bare digit from 1 to 5 wins, else the first digit
    named as score, rating or answer. Anything that is not clearly an integer from 1 to 5 is not a score: 3.5, 10/5, 4/5,
    "score: five".
    """
    start = text.rfind(THOUGHT) + len(THOUGHT) if THOUGHT in text else 0
    if not start and THINKING in text:
        return None  # the answer ended before the reasoning did
    found = _BARE.search(text, start) or _NAMED.search(text, start)
    return (int(found.group(1)), found.start(1)) if found else None


def parse_score(text: str) -> int | None:
    """The score in an answer, without its position."""
    found = find_score(text)
    return found[0] if found else None


def expected_score(digit_logits: np.ndarray) -> float:
    """sum_k k p_k over k = 1 to 5, where p is the softmax of the five logits (or log probabilities), (5,)."""
    weights = np.exp(digit_logits - digit_logits.max())
    return float((weights / weights.sum() * np.arange(1, 6)).sum())
