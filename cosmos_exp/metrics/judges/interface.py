"""The interface of a judge: what it is asked and shown, and how its answer is read.

An answer without a score has none; no default takes its place.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np

from cosmos_exp.config.schema import Judge as JudgeSettings
from cosmos_exp.data.video import probe, read_video, resize
from cosmos_exp.errors import RunError
from cosmos_exp.metrics.judges.rubric import Rubric

THINKING, THOUGHT = "<think>", "</think>"
_BARE = re.compile(r"^\W*([1-5])\W*$", re.MULTILINE)
_SCALE = r"(?:\s*[(\[]\s*(?:from\s+)?1\s*(?:-|–|to)\s*5\s*[)\]])?"  # "Score (1-5): 4" repeats the scale
_NAMED = re.compile(
    rf"\b(?:score|rating|answer)\b{_SCALE}\W{{0,4}}(?:is\W+)?([1-5])(?![\d.,/–-]*\d|\s*(?:-|–|to|or)\s*\d)",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Question:
    """A video to score under a rubric. `instruction` is the prompt that the video was generated from.

    span: the frames of the file to score, stop excluded; None: all. Only a judge with `chunk_fault` is asked about a span.
    """

    video: Path
    rubric: Rubric
    instruction: str | None
    span: tuple[int, int] | None = None


@dataclass(frozen=True)
class Answer:
    """The answer of a judge.

    score: 1 to 5; None if the text holds no score. It is never replaced by a default.
    expected: mean of 1 to 5 under the probabilities of the digits; None if they are not known.
    text: the raw answer.
    """

    score: float | None
    expected: float | None
    text: str


class BatchError(RunError):
    """Some questions of a batch have no answer. `answers` has the others, in order, and None for those."""

    def __init__(self, words: str, answers: Sequence[Answer | None]):
        super().__init__(words)
        self.answers = list(answers)


class Judge(Protocol):
    """Scores videos. `name` is recorded with each score; `batch` is the number of questions that it takes at once."""

    name: str
    batch: int

    def identity(self) -> dict[str, object] | None:
        """Everything besides question, temperature and seed that its answers depend on; None: answers are not cached."""
        ...

    def ask(self, questions: Sequence[Question], temperature: float, seed: int) -> list[Answer]:
        """One answer per question. Temperature 0 is greedy and gives the same answers every time.

        Raises:
            BatchError: some questions have no answer.
        """
        ...


def chunk_fault(judge: Judge, number: int) -> str | None:
    """Why a judge cannot score a chunk of a video by itself; None if it can.

    A judge that can has a method `chunk_fault(number)`, which returns None for such a chunk and else the reason, and heeds
    `Question.span`.

    Args:
        number: of the chunk, from 1.
    """
    method: Callable[[int], str | None] | None = getattr(judge, "chunk_fault", None)
    if method is None:
        return f"{judge.name} scores whole videos only (it has no `chunk_fault`)"
    return method(number)


def question_text(question: Question, settings: JudgeSettings) -> str:
    """The user's message: the rubric's prompt, and the request to reason first if `judge.reasoning` is set."""
    text = question.rubric.text(question.instruction)
    if settings.reasoning:
        text += f"\nThink before you answer: put your reasoning between {THINKING} and {THOUGHT}, then give the number."
    return text


def shown_settings(settings: JudgeSettings) -> dict[str, object]:
    """The settings of what a model is shown and of how long it answers, for `Judge.identity`."""
    return settings.model_dump(include={"fps", "max_frames", "max_total_pixels", "max_new_tokens", "reasoning"})


def shown_frames(question: Question, settings: JudgeSettings) -> tuple[np.ndarray, float]:
    """`sample_frames` of the frames that a question is about.

    Raises:
        RunError: the file cannot be read.
    """
    frames = read_video(question.video, question.span)
    return sample_frames(frames, probe(question.video).fps, settings)


def sample_frames(frames: np.ndarray, fps: float, settings: JudgeSettings) -> tuple[np.ndarray, float]:
    """Frames at `judge.fps`, at most `judge.max_frames`, shrunk to `judge.max_total_pixels` in total.

    As in qwen_vl_utils 0.0.14 (`vision_process.py`), which Cosmos-Reason2's own script uses, two frames count as one, since
    they share a temporal patch; sides are multiples of 32 pixels, one visual token.

    Args:
        frames: uint8 (T, H, W, 3).
        fps: their rate.

    Returns:
        uint8 (T', H', W', 3), and the rate of these frames.
    """
    step = max(fps / settings.fps, 1.0, len(frames) / settings.max_frames)
    picked = frames[(np.arange(np.ceil(len(frames) / step)) * step).astype(int)]
    height, width = picked.shape[1:3]
    most = settings.max_total_pixels / len(picked) * 2
    if height * width > most:
        scale = (most / (height * width)) ** 0.5
        height, width = int(height * scale) // 32 * 32, int(width * scale) // 32 * 32
        picked = resize(picked, max(32, height), max(32, width), "stretch")
    return picked, fps / step


def find_score(text: str) -> tuple[int, int] | None:
    """The score in an answer and the position of its digit; None if there is no score.

    Only the text after the reasoning counts. The first line that is a bare digit from 1 to 5 wins, else the first digit
    named as score, rating or answer. Anything that is not clearly an integer from 1 to 5 is not a score: 3.5, 10/5, 4/5,
    3-4, "score: five".
    """
    start = text.rfind(THOUGHT) + len(THOUGHT) if THOUGHT in text else 0
    if not start and THINKING in text:
        return None  # the answer ended before the reasoning did
    match = _BARE.search(text, start) or _NAMED.search(text, start)
    if not match:
        return None
    return int(match.group(1)), match.start(1)


def parse_score(text: str) -> int | None:
    """The score in an answer, without its position."""
    scored = find_score(text)
    return scored[0] if scored else None


def expected_score(digit_logits: np.ndarray) -> float:
    """sum_k k p_k over k = 1 to 5, where p is the softmax of the five logits (or log probabilities), (5,)."""
    weights = np.exp(digit_logits - digit_logits.max())
    return float((weights / weights.sum() * np.arange(1, 6)).sum())
