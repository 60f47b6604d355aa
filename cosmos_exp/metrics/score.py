"""Scores of a run's videos: one line per video and measure in scores.jsonl. A score that is there is not computed again."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cosmos_exp.config.measures import measures_of
from cosmos_exp.config.registry import MEASURE_FUNCTIONS
from cosmos_exp.config.schema import Config
from cosmos_exp.data.video import probe
from cosmos_exp.files import JsonObject, append_json_line
from cosmos_exp.metrics.interface import Measured, MeasureFunction, ScoredVideo
from cosmos_exp.metrics.judges.asking import Verdict, judge_all
from cosmos_exp.metrics.judges.interface import Judge, Question, chunk_fault
from cosmos_exp.metrics.judges.rubric import Rubric, load_rubrics
from cosmos_exp.statistics.chunks import CHUNKS
from cosmos_exp.tracking.progress import with_progress

CHUNK_FUNCTIONS = ("scene",)  # of MEASURE_FUNCTIONS, those for videos of several chunks only

ScoreKey = tuple[str, int, str]  # sample, seed, measure


def measure_videos(
    videos: Sequence[ScoredVideo],
    config: Config,
    scores: Path,
    done: set[ScoreKey],
    show: bool = True,
    workers: int = 0,
) -> None:
    """Append the values of `registry.MEASURE_FUNCTIONS` to `scores`, each video as soon as it is measured.

    Args:
        scores: scores.jsonl.
        done: the scores that it holds.
        show: show progress.
        workers: the most processes to start; 0: one per core.

    Raises:
        RunError: a video cannot be read.
    """
    for function in MEASURE_FUNCTIONS.names:
        if function in CHUNK_FUNCTIONS and config.generation.chunks == 1:
            continue
        names = measures_of(function)
        missing = [v for v in videos if any((v.sample, v.seed, name) not in done for name in names)]
        parts = [(v, [p for p in v.parts() if _fault(p) is None]) for v in missing]
        measure: MeasureFunction = MEASURE_FUNCTIONS.get(function)
        results = measure([each for v, own in parts for each in (v, *own)], config, workers)
        if results is None:
            continue
        grouped = _by_video(results, [1 + len(own) for _, own in parts])
        shown = with_progress(grouped, f"measuring {names[0]}", len(missing), "video", show)
        for (video, own), (whole, *of_parts) in zip(parts, shown, strict=True):
            by_part = dict(zip(own, of_parts, strict=True))
            for name, (value, reason) in whole.values.items():
                if (video.sample, video.seed, name) not in done:
                    detail = {"reason": reason, **whole.detail}
                    if name in whole.curves:
                        detail["curve"] = whole.curves[name]
                    if video.chunks:
                        detail[CHUNKS] = [_entry(p, by_part.get(p), name) for p in video.parts()]
                    _append(scores, video, name, value, detail)


def _by_video(results: Iterable[Measured], counts: Sequence[int]) -> Iterator[list[Measured]]:
    """The results of each video: its own, then those of its chunks. `counts` are their numbers."""
    stream = iter(results)
    for count in counts:
        yield list(itertools.islice(stream, count))
    if next(stream, None) is not None:  # asked for in any case, so that the processes behind it end
        raise ValueError("a measure gave more results than there are videos")


def _fault(part: ScoredVideo) -> str | None:
    """Why a chunk cannot be scored: its file, a recording, ends before it does; None if it can."""
    frames, (start, stop) = probe(part.path).num_frames, part.span or (0, 0)
    return (
        None
        if frames >= stop
        else f"the recording has {max(0, frames - start)} of the {stop - start} frames of this chunk"
    )


def _entry(part: ScoredVideo, found: Measured | None, name: str) -> JsonObject:
    """A chunk's entry in `detail.chunks`."""
    value, reason = found.values.get(name, (None, "not measured")) if found else (None, _fault(part))
    return {"value": value, "reason": reason}


def judge_videos(
    videos: Sequence[ScoredVideo],
    config: Config,
    judge: Judge,
    scores: Path,
    done: set[ScoreKey],
    cache: Path | None,
    show: bool = True,
) -> None:
    """Append the judge's scores to `scores`, each as soon as it is known.

    Args:
        scores, done, show: as in `measure_videos`.
        cache: folder of verdicts, see `judge_all`.

    Raises:
        RunError: the judge fails. Scores that were appended before are kept.
    """
    asked: dict[Question, _OpenScore] = {}
    rubrics = load_rubrics(config.judge.rubrics)
    for video in videos:
        for rubric in rubrics:
            is_done = (video.sample, video.seed, rubric.measure) in done
            if not is_done and (video.prompt or not rubric.needs_instruction):
                score = _OpenScore(video, Question(video.path, rubric, video.prompt), _of_chunks(judge, rubric, video))
                asked |= dict.fromkeys(score.questions, score)
    verdicts = judge_all(judge, list(asked), config.judge, config.seed, cache)
    for question, verdict in with_progress(verdicts, "judging", len(asked), "score", show):
        score = asked[question]
        score.verdicts[question] = verdict
        if score.is_complete:
            whole = score.verdicts[score.question]
            _append(scores, score.video, question.rubric.measure, whole.score, score.detail(judge.name))


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
        return [self.question, *(q for q in self.of_chunks if isinstance(q, Question))]

    @property
    def is_complete(self) -> bool:
        return len(self.verdicts) == len(self.questions)

    def detail(self, judge: str) -> JsonObject:
        verdict = self.verdicts[self.question]
        found: JsonObject = {
            "judge": judge,
            "expected": verdict.expected,
            "answer": verdict.answers[-1],
            "answers": list(verdict.answers),
            "unread": verdict.unread,
            "cached": verdict.cached,
        }
        if self.of_chunks:
            found[CHUNKS] = [self._entry(q) for q in self.of_chunks]
        return found

    def _entry(self, chunk: Question | str) -> JsonObject:
        if isinstance(chunk, str):
            return {"value": None, "reason": chunk}
        verdict = self.verdicts[chunk]
        answer, score = verdict.answers[-1], verdict.score
        return {"value": score, "reason": answer if score is None else None, "answer": answer}


def _of_chunks(judge: Judge, rubric: Rubric, video: ScoredVideo) -> list[Question | str]:
    """A question about each chunk of a video, or why the judge is not asked."""
    parts = enumerate(video.parts(), 1)
    return [
        _fault(p) or chunk_fault(judge, number) or Question(p.path, rubric, p.prompt, p.span) for number, p in parts
    ]


def _append(scores: Path, video: ScoredVideo, measure: str, value: float | None, detail: Mapping[str, object]) -> None:
    append_json_line(
        scores,
        {
            "sample": video.sample,
            "seed": video.seed,
            "prompt": video.prompt,
            "video": video.path.name,
            "measure": measure,
            "value": value,
            "detail": dict(detail),
        },
    )
