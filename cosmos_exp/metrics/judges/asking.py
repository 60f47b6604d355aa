"""Asking a judge: several samples per question, a second attempt for an answer without a score, and a cache."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import httpx
import numpy as np

from cosmos_exp.config.schema import Judge as JudgeSettings
from cosmos_exp.files import file_sha256, json_sha256, write_json
from cosmos_exp.metrics.judges.interface import Answer, BatchError, Judge, Question
from cosmos_exp.text import one_line, redact

SAMPLING_TEMPERATURE = 0.7  # for several samples, and for a second attempt: greedy would give the same answer again


@dataclass(frozen=True)
class Verdict:
    """The result of a question over all its samples.

    score: mean of the scores that were read; None if no answer holds one.
    expected: mean over the scored answers with known probabilities; None if there is none.
    answers: every raw text in order; a second attempt follows the answer that it replaces.
    unparsed: number of answers without a score.
    """

    score: float | None
    expected: float | None
    answers: tuple[str, ...]
    unparsed: int
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
    pending: list[tuple[Question, Path | None]] = []
    for question in questions:
        file = None
        if cache and identity is not None:
            file = cache / f"{_key(question, identity, settings, seed)}.json"
        cached = _read(file)
        if cached is None:
            pending.append((question, file))
        else:
            yield question, cached
    for first in range(0, len(pending), judge.batch):
        batch = pending[first : first + judge.batch]
        failure = None
        verdicts: list[Verdict | None] = []
        try:
            verdicts += ask_samples(judge, [q for q, _ in batch], settings, seed, retry=identity is not None)
        except BatchError as error:
            failure = error
            for answer in error.answers:  # one with a score is a verdict where one sample is asked for
                verdict = None
                if settings.samples == 1 and answer is not None and answer.score is not None:
                    verdict = _verdict([answer])
                verdicts.append(verdict)
        for (question, file), verdict in zip(batch, verdicts, strict=False):
            if verdict is None:
                continue
            if file and verdict.score is not None:
                write_json(file, asdict(verdict))
            yield question, verdict
        if failure:
            raise failure


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
        unparsed = []
        for i, answer in enumerate(first):
            answers[i].append(answer)
            if answer.score is None and retry:
                unparsed.append(i)
        if not unparsed:
            continue
        try:
            second = judge.ask(
                [questions[i] for i in unparsed], temperature or SAMPLING_TEMPERATURE, seed + 1000 + number
            )
        except BatchError as error:  # of fewer questions: those of the batch that have a score are complete
            raise BatchError(str(error), first) from error
        for i, answer in zip(unparsed, second, strict=True):
            answers[i].append(answer)
    return [_verdict(a) for a in answers]


def _verdict(answers: list[Answer]) -> Verdict:
    scores, expected, texts = [], [], []
    for answer in answers:
        texts.append(answer.text)
        if answer.score is not None:
            scores.append(answer.score)
            if answer.expected is not None:
                expected.append(answer.expected)
    return Verdict(_mean(scores), _mean(expected), tuple(texts), len(answers) - len(scores))


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


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
    return json_sha256(content)[:32]


def _read(file: Path | None) -> Verdict | None:
    if file is None:
        return None
    try:
        kept = json.loads(file.read_text(encoding="utf-8"))
        return Verdict(kept["score"], kept["expected"], tuple(kept["answers"]), kept["unparsed"], cached=True)
    except (OSError, ValueError, KeyError):  # no such file, or one cut short by a crash
        return None


def server_warning(judge: JudgeSettings) -> str | None:
    """What to say of a judge's server that does not answer; None if it does, or if no server judges.

    It is asked before training, which may take hours; no key and no video is sent. It is a warning and no error: a server may be
    started while the run trains.
    """
    if judge.name != "server" or not judge.url:
        return None
    try:
        code = httpx.get(f"{judge.url.rstrip('/')}/models", timeout=5, follow_redirects=True).status_code
        reason = f"it answers {code}"
    except (httpx.HTTPError, httpx.InvalidURL, OSError, ValueError) as error:
        code, reason = 500, f"{type(error).__name__}: {one_line(error)[:120]}"
    if code < 500:  # also 401: it is there, and wants the key
        return None
    return redact(
        f"judge.url={one_line(judge.url)}: no answer ({reason}). Scoring will fail unless the server is up when the videos are "
        "made. Start it, e.g. with `vllm serve MODEL`; after a failure `cosmos-exp run run_dir=…` scores what is there."
    )
