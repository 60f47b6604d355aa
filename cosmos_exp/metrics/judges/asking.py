"""Asking a judge: several samples per question, a second attempt for an answer without a score, and a cache."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from cosmos_exp.config.schema import Judge as JudgeSettings
from cosmos_exp.files import file_sha256, write_json
from cosmos_exp.metrics.judges.interface import Answer, BatchError, Judge, Question

SAMPLING_TEMPERATURE = 0.7  # for several samples, and for a second attempt: greedy would give the same answer again


@dataclass(frozen=True)
class Verdict:
    """The result of a question over all its samples.

    score: mean of the scores that were read; None if no answer holds one.
    expected: mean over the scored answers with known probabilities; None if there is none.
    answers: every raw text in order; a second attempt follows the answer that it replaces.
    unread: number of answers without a score.
    """

    score: float | None
    expected: float | None
    answers: tuple[str, ...]
    unread: int
    cached: bool = False


def judge_all(
    judge: Judge, questions: Sequence[Question], settings: JudgeSettings, seed: int, cache: Path | None = None
) -> Iterator[tuple[Question, Verdict]]:
    """Yield each question with its verdict: the cached ones first, then the others batch by batch.

    Args:
        seed: of the first sample.
        cache: folder of verdicts by video content, prompt, rubric, judge and settings; None: no cache. Only verdicts
            with a score are cached, so the next call asks again for a score that is missing.

    Raises:
        RunError: the judge fails. The verdicts of the same batch that have a score are yielded first.
    """
    identity = judge.identity()
    keys = [_key(q, identity, settings, seed) if cache and identity is not None else None for q in questions]
    open_questions = []
    for question, key in zip(questions, keys, strict=True):
        cached = _read(cache, key)
        if cached is None:
            open_questions.append((question, key))
        else:
            yield question, cached
    for first in range(0, len(open_questions), judge.batch):
        batch = open_questions[first : first + judge.batch]
        failure = None
        verdicts: list[Verdict | None]
        try:
            verdicts = [*ask_samples(judge, [q for q, _ in batch], settings, seed, retry=identity is not None)]
        except BatchError as error:
            failure, verdicts = error, _complete(error, settings)
        for (question, key), verdict in zip(batch, verdicts, strict=False):
            if verdict is None:
                continue
            if cache and key and verdict.score is not None:
                write_json(cache / f"{key}.json", asdict(verdict))
            yield question, verdict
        if failure:
            raise failure


def _complete(error: BatchError, settings: JudgeSettings) -> list[Verdict | None]:
    """The verdicts of a batch that failed in part: one answer with a score is a verdict where one is asked for."""
    if settings.samples > 1:
        return []
    return [None if a is None or a.score is None else _verdict([a]) for a in error.answers]


def ask_samples(
    judge: Judge, questions: Sequence[Question], settings: JudgeSettings, seed: int, retry: bool = True
) -> list[Verdict]:
    """Ask each question `judge.samples` times.

    Args:
        seed: of the first sample; the others follow.
        retry: ask once more, by sampling, for an answer that holds no score.
    """
    temperature = settings.temperature
    if temperature is None:
        temperature = 0.0 if settings.samples == 1 else SAMPLING_TEMPERATURE
    answers: list[list[Answer]] = [[] for _ in questions]
    for number in range(settings.samples):
        first = judge.ask(questions, temperature, seed + number)
        unread = [i for i, a in enumerate(first) if a.score is None] if retry else []
        for i, answer in enumerate(first):
            answers[i].append(answer)
        if unread:
            again = [questions[i] for i in unread]
            try:
                second = judge.ask(again, temperature or SAMPLING_TEMPERATURE, seed + 1000 + number)
            except BatchError as error:  # of fewer questions: those of the batch that have a score are complete
                raise BatchError(str(error), [a if a.score is not None else None for a in first]) from error
            for i, answer in zip(unread, second, strict=True):
                answers[i].append(answer)
    return [_verdict(a) for a in answers]


def _verdict(answers: list[Answer]) -> Verdict:
    scores = [a.score for a in answers if a.score is not None]
    expected = [a.expected for a in answers if a.score is not None and a.expected is not None]
    return Verdict(
        float(np.mean(scores)) if scores else None,
        float(np.mean(expected)) if expected else None,
        tuple(a.text for a in answers),
        len(answers) - len(scores),
    )


def _key(question: Question, identity: dict[str, object], settings: JudgeSettings, seed: int) -> str:
    content: dict[str, object] = {
        "video": file_sha256(question.video),
        "rubric": asdict(question.rubric),
        "instruction": question.instruction,
        "judge": identity,
        "samples": settings.samples,
        "temperature": settings.temperature,
        "seed": seed,
    }
    if question.span:
        content["span"] = question.span
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:32]


def _read(cache: Path | None, key: str | None) -> Verdict | None:
    if cache is None or key is None:
        return None
    try:
        kept = json.loads((cache / f"{key}.json").read_text(encoding="utf-8"))
        return Verdict(kept["score"], kept["expected"], tuple(kept["answers"]), kept["unread"], cached=True)
    except (OSError, ValueError, KeyError):  # no such file, or one cut short by a crash
        return None
