"""The judge's interface: questions in, answers out, scores read from the answers; never a default number."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from cosmos_exp.metrics.judges.answers import THINKING, THOUGHT
from cosmos_exp.metrics.judges.rubric import Rubric


@dataclass(frozen=True)
class Question:
    """One video under one rubric; `instruction` is what the video was to show."""

    video: Path
    rubric: Rubric
    instruction: str | None


@dataclass(frozen=True)
class Answer:
    """A judge's answer: `score` 1 to 5, None when the text holds none; `expected` over the digits' probabilities."""

    score: float | None
    expected: float | None
    text: str


class Judge(Protocol):
    """What every judge can do."""

    name: str
    batch: int  # questions it takes at once

    def identity(self) -> dict[str, Any] | None:
        """All that its answers depend on besides question, temperature and seed; None: answers are not to be kept."""
        ...

    def ask(self, questions: Sequence[Question], temperature: float, seed: int) -> list[Answer]:
        """One answer each; temperature 0 is greedy and the same every time."""
        ...


def asked_text(question: Question, settings: Any) -> str:
    """The user's side of the conversation, with the request to reason where that is on."""
    text = question.rubric.text(question.instruction)
    if settings.reasoning:
        text += f"\nThink before you answer: put your reasoning between {THINKING} and {THOUGHT}, then give the number."
    return text
