"""The interface of a judge: questions and answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from cosmos_exp.config.schema import Judge as JudgeSettings
from cosmos_exp.errors import RunError
from cosmos_exp.metrics.judges.answers import THINKING, THOUGHT
from cosmos_exp.metrics.judges.rubric import Rubric


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
    own: Callable[[int], str | None] | None = getattr(judge, "chunk_fault", None)
    return own(number) if own else f"{judge.name} scores whole videos only (it has no `chunk_fault`)"


def question_text(question: Question, settings: JudgeSettings) -> str:
    """The user's message: the rubric's prompt, and the request to reason first if `judge.reasoning` is set."""
    text = question.rubric.text(question.instruction)
    if settings.reasoning:
        text += f"\nThink before you answer: put your reasoning between {THINKING} and {THOUGHT}, then give the number."
    return text
