"""Scores of a run's videos into scores.jsonl, one line a video and measure. What is scored is not scored again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from cosmos_exp.errors import RunError
from cosmos_exp.files import append_json_line
from cosmos_exp.metrics.geometry.files import Source, from_data, measure_all
from cosmos_exp.metrics.judges.asking import judge_all
from cosmos_exp.metrics.judges.interface import Judge, Question
from cosmos_exp.metrics.judges.rubric import load_rubric


@dataclass(frozen=True)
class ScoredVideo:
    """A finished video with what it shows."""

    sample: str
    seed: int
    prompt: str | None
    path: Path


def measure_geometry(
    videos: list[ScoredVideo], config: Any, scores: Path, done: set[tuple], show: bool = True, workers: int = 0
) -> None:
    """Append each video's Sampson errors to `scores`; `done` holds (sample, seed, measure) already there.

    Raises:
        RunError: a video that cannot be read.
    """
    if not config.sampson.enabled:
        return
    settings = from_data(config.sampson, config.data.views)
    wanted = ["tse", "tse_moving", "static_share"]
    left = [v for v in videos if any((v.sample, v.seed, m) not in done for m in wanted)]
    results = measure_all([Source(str(v.path), (v.path,)) for v in left], settings, workers)
    bar = tqdm(results, "measuring", len(left), unit="video", disable=None if show else True)
    for video, result in zip(left, bar, strict=True):
        if isinstance(result, str):
            raise RunError(result)
        detail = result.detail()
        for measure, (value, reason) in result.measures().items():
            if (video.sample, video.seed, measure) not in done:
                _append(scores, video, measure, value, {"reason": reason if value is None else None, **detail})


def judge_videos(
    videos: list[ScoredVideo],
    config: Any,
    judge: Judge,
    scores: Path,
    done: set[tuple],
    cache: Path | None,
    show: bool = True,
) -> None:
    """Append the judge's scores, each as soon as it is there.

    Raises:
        RunError: the judge cannot go on; what was scored before stays.
    """
    asked: dict[Question, ScoredVideo] = {}
    for video in videos:
        for rubric in map(load_rubric, config.judge.rubrics):
            if (video.sample, video.seed, rubric.measure) not in done and (
                video.prompt or not rubric.needs_instruction
            ):
                asked[Question(video.path, rubric, video.prompt)] = video
    verdicts = judge_all(judge, list(asked), config.judge, config.seed, cache)
    for question, verdict in tqdm(verdicts, "judging", len(asked), unit="score", disable=None if show else True):
        detail = {
            "judge": judge.name,
            "expected": verdict.expected,
            "answer": verdict.answers[-1],
            "answers": list(verdict.answers),
            "unread": verdict.unread,
            "cached": verdict.cached,
        }
        _append(scores, asked[question], question.rubric.measure, verdict.score, detail)


def _append(scores: Path, video: ScoredVideo, measure: str, value: float | None, detail: dict[str, Any]) -> None:
    append_json_line(
        scores,
        {
            "sample": video.sample,
            "seed": video.seed,
            "prompt": video.prompt,
            "video": video.path.name,
            "measure": measure,
            "value": value,
            "detail": detail,
        },
    )
