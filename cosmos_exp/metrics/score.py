"""Scores of a run's videos: one line per video and measure in scores.jsonl. A score that is there is not computed again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cosmos_exp.config.measures import measures_of
from cosmos_exp.config.registry import MEASURE_FUNCTIONS
from cosmos_exp.config.schema import Config
from cosmos_exp.data.video import probe
from cosmos_exp.files import JsonObject
from cosmos_exp.metrics.interface import Measured, MeasureFunction, ScoredVideo, append_score
from cosmos_exp.metrics.judges.asking import Verdict, judge_all
from cosmos_exp.metrics.judges.interface import Judge, Question, chunk_fault
from cosmos_exp.metrics.judges.rubric import Rubric, load_rubrics
from cosmos_exp.statistics.chunks import CHUNKS
from cosmos_exp.tracking.progress import with_progress

CHUNK_FUNCTIONS = ("scene",)  # of MEASURE_FUNCTIONS, those for videos of several chunks only

ScoreKey = tuple[str, int, str]  # sample, seed, measure


def measure_videos(
    videos: Sequence[ScoredVideo], config: Config, scores: Path, done: set[ScoreKey], workers: int = 0
) -> None:
    """Append the values of `registry.MEASURE_FUNCTIONS` to `scores`, each video as soon as it is measured.

    Args:
        scores: scores.jsonl.
        done: the scores that it holds.
        workers: the most processes to start; 0: one per core.

    Raises:
        RunError: a video cannot be read.
    """
    for function in MEASURE_FUNCTIONS.names:
        if function in CHUNK_FUNCTIONS and config.generation.chunks == 1:
            continue
        names, missing, parts = measures_of(function), [], []
        for video in videos:
            if not all((video.sample, video.seed, name) in done for name in names):
                missing.append(video)
                parts += [video, *(p for p in video.parts() if _missing_frames(p) is None)]
        measure: MeasureFunction = MEASURE_FUNCTIONS.get(function)
        results = measure(parts, config, workers)
        if results is None:
            continue
        stream = zip(parts, results, strict=True)  # of each video itself, then of its chunks
        for video in with_progress(missing, f"measuring {names[0]}", len(missing), "video"):
            _, whole = next(stream)
            chunks: list[Measured | str] = []
            for part in video.parts():
                chunks.append(_missing_frames(part) or next(stream)[1])
            _append_measured(scores, video, whole, chunks, done)
        next(stream, None)  # also a function's end is reached, so that the processes behind it end


def _append_measured(
    scores: Path, video: ScoredVideo, whole: Measured, chunks: Sequence[Measured | str], done: set[ScoreKey]
) -> None:
    """Append the measures of a video that are not done; `chunks` are those of its chunks, or why there are none."""
    for name, (value, reason) in whole.values.items():
        if (video.sample, video.seed, name) in done:
            continue
        detail = {"reason": reason, **whole.detail}
        if name == next(iter(whole.values)):
            detail |= whole.once
        if name in whole.curves:
            detail["curve"] = whole.curves[name]
        if video.chunks:
            entries: list[JsonObject] = []
            for chunk in chunks:
                if isinstance(chunk, str):
                    entries.append({"value": None, "reason": chunk})
                else:
                    of_chunk, why = chunk.values.get(name, (None, "not measured"))
                    entries.append({"value": of_chunk, "reason": why})
            detail[CHUNKS] = entries
        append_score(scores, video, name, value, detail)


def _missing_frames(part: ScoredVideo) -> str | None:
    """Why a chunk cannot be scored: its file, a recording, ends before it does; None if it can."""
    frames, (start, stop) = probe(part.path).num_frames, part.span or (0, 0)
    if frames >= stop:
        return None
    return f"the recording has {max(0, frames - start)} of the {stop - start} frames of this chunk"


def judge_videos(
    videos: Sequence[ScoredVideo], config: Config, judge: Judge, scores: Path, done: set[ScoreKey], cache: Path | None
) -> None:
    """Append the judge's scores to `scores`, each as soon as it is known.

    Args:
        scores, done: as in `measure_videos`.
        cache: folder of verdicts, see `judge_all`.

    Raises:
        RunError: the judge fails. Scores that were appended before are kept.
    """
    open_scores: dict[Question, _OpenScore] = {}
    rubrics = load_rubrics(config.judge.rubrics)
    for video in videos:
        for rubric in rubrics:
            is_done = (video.sample, video.seed, rubric.measure) in done
            if not is_done and (video.prompt or not rubric.needs_instruction):
                score = _OpenScore(video, Question(video.path, rubric, video.prompt), _of_chunks(judge, rubric, video))
                open_scores |= dict.fromkeys(score.questions, score)
    verdicts = judge_all(judge, list(open_scores), config.judge, config.seed, cache)
    for question, verdict in with_progress(verdicts, "judging", len(open_scores), "score"):
        score = open_scores[question]
        score.verdicts[question] = verdict
        if len(score.verdicts) == len(score.questions):
            whole = score.verdicts[score.question]
            append_score(scores, score.video, question.rubric.measure, whole.score, score.detail(judge.name))


@dataclass
class _OpenScore:
    """A judge's score of a video, until all its questions are answered.

    question: about the whole video.
    of_chunks: a question about each chunk, or why the judge is not asked.
    """

    video: ScoredVideo
    question: Question
    of_chunks: list[Question | str]
    verdicts: dict[Question, Verdict] = field(default_factory=dict)

    @property
    def questions(self) -> list[Question]:
        return [self.question, *(chunk for chunk in self.of_chunks if isinstance(chunk, Question))]

    def detail(self, judge: str) -> JsonObject:
        verdict = self.verdicts[self.question]
        detail: JsonObject = {
            "judge": judge,
            "expected": verdict.expected,
            "answer": verdict.answers[-1],
            "answers": list(verdict.answers),
            "unparsed": verdict.unparsed,
            "cached": verdict.cached,
        }
        for chunk in self.of_chunks:
            entry: JsonObject = {"value": None, "reason": chunk}
            if isinstance(chunk, Question):
                score, answer = self.verdicts[chunk].score, self.verdicts[chunk].answers[-1]
                entry = {"value": score, "reason": answer if score is None else None, "answer": answer}
            detail.setdefault(CHUNKS, []).append(entry)
        return detail


def _of_chunks(judge: Judge, rubric: Rubric, video: ScoredVideo) -> list[Question | str]:
    """A question about each chunk of a video, or why the judge is not asked."""
    chunks: list[Question | str] = []
    for number, part in enumerate(video.parts(), 1):
        fault = _missing_frames(part) or chunk_fault(judge, number)
        chunks.append(fault or Question(part.path, rubric, part.prompt, part.span))
    return chunks
