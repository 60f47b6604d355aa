"""Asking a judge: several draws, a second try, a cache, and nothing lost when it is cut short."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cosmos_exp.files import file_sha256, write_json
from cosmos_exp.metrics.judges.interface import Answer, Judge, Question

RETRY_TEMPERATURE = 0.7  # greedy would give the same answer again


@dataclass(frozen=True)
class Verdict:
    """A question's outcome over all its draws.

    score: mean of the integers that were read, None where no answer held one. expected: mean over the draws for which
    it could be had. answers: every raw text in the order asked, second tries behind the draw they followed.
    """

    score: float | None
    expected: float | None
    answers: tuple[str, ...]
    unread: int  # answers that held no score
    cached: bool = False


def judge_all(
    judge: Judge, questions: Sequence[Question], settings: Any, seed: int, cache: Path | None = None
) -> Iterator[tuple[Question, Verdict]]:
    """Each question with its verdict as soon as it is there; those in the cache first, then the rest batch by batch.

    Args:
        cache: folder of verdicts by video content, prompt, rubric, judge and settings; None: keep none. Only verdicts
            with a score are kept, so an unreadable answer is asked for again by the next run.
    """
    identity = judge.identity()
    keys = [_key(q, identity, settings, seed) if cache and identity is not None else None for q in questions]
    left = []
    for question, key in zip(questions, keys, strict=True):
        kept = _read(cache, key)
        if kept is None:
            left.append((question, key))
        else:
            yield question, kept
    for first in range(0, len(left), judge.batch):
        batch = left[first : first + judge.batch]
        verdicts = ask(judge, [q for q, _ in batch], settings, seed, again=identity is not None)
        for (question, key), verdict in zip(batch, verdicts, strict=True):
            if cache and key and verdict.score is not None:
                write_json(cache / f"{key}.json", asdict(verdict))
            yield question, verdict


def ask(judge: Judge, questions: Sequence[Question], settings: Any, seed: int, again: bool = True) -> list[Verdict]:
    """`judge.samples` draws of each question; an answer without a score is tried once more where `again` is set."""
    temperature = settings.temperature
    if temperature is None:
        temperature = 0.0 if settings.samples == 1 else RETRY_TEMPERATURE
    draws: list[list[Answer]] = [[] for _ in questions]
    for number in range(settings.samples):
        answers = judge.ask(questions, temperature, seed + number)
        silent = [i for i, a in enumerate(answers) if a.score is None] if again else []
        for i, answer in enumerate(answers):
            draws[i].append(answer)
        if silent:
            second = judge.ask([questions[i] for i in silent], temperature or RETRY_TEMPERATURE, seed + 1000 + number)
            for i, answer in zip(silent, second, strict=True):
                draws[i].append(answer)
    return [_verdict(d) for d in draws]


def _verdict(draws: list[Answer]) -> Verdict:
    scored = [a for a in draws if a.score is not None]
    expected = [a.expected for a in scored if a.expected is not None]
    return Verdict(
        float(np.mean([a.score for a in scored])) if scored else None,  # type: ignore[arg-type]
        float(np.mean(expected)) if expected else None,
        tuple(a.text for a in draws),
        len(draws) - len(scored),
    )


def _key(question: Question, identity: dict[str, Any], settings: Any, seed: int) -> str:
    content = {
        "video": file_sha256(question.video),
        "rubric": asdict(question.rubric),
        "instruction": question.instruction,
        "judge": identity,
        "samples": settings.samples,
        "temperature": settings.temperature,
        "seed": seed,
    }
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:32]


def _read(cache: Path | None, key: str | None) -> Verdict | None:
    if cache is None or key is None:
        return None
    try:
        kept = json.loads((cache / f"{key}.json").read_text(encoding="utf-8"))
        return Verdict(kept["score"], kept["expected"], tuple(kept["answers"]), kept["unread"], cached=True)
    except (OSError, ValueError, KeyError):  # not there, or cut short by a crash: ask
        return None
