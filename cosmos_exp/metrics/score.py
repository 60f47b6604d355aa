"""Scores of a run's videos: one line per video and measure in scores.jsonl. A score that is there is not computed again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from cosmos_exp.config.builders import import_function
from cosmos_exp.config.schema import Config
from cosmos_exp.files import append_json_line
from cosmos_exp.metrics.interface import MeasureFunction, ScoredVideo
from cosmos_exp.metrics.judges.asking import judge_all
from cosmos_exp.metrics.judges.interface import Judge, Question
from cosmos_exp.metrics.judges.rubric import load_rubrics
from cosmos_exp.tracking.progress import with_progress

# Import path of a `metrics.interface.MeasureFunction` -> the measures that it gives for every video. To add a measure, add
# a line here, and one to `config.measures.MEASURES` for its place and direction in tables.
MEASURE_FUNCTIONS: dict[str, tuple[str, ...]] = {
    "cosmos_exp.metrics.geometry.files:measure_sampson": ("tse", "tse_robust", "tse_moving", "static_share"),
    "cosmos_exp.metrics.words.side:measure_side": ("word_side",),
    "cosmos_exp.metrics.recording.files:measure_recording": (
        "psnr",
        "ssim",
        "psnr_moving",
        "mask_iou_space",
        "mask_iou_spacetime",
        "mask_iou_weighted",
        "motion_ratio",
    ),
    "cosmos_exp.metrics.recording.files:measure_motion": (
        "flow_error",
        "flow_inconsistency",
        "track_survival",
        "track_roughness",
    ),
}

ScoreKey = tuple[str, int, str]  # sample, seed, measure


def measure_videos(
    videos: Sequence[ScoredVideo],
    config: Config,
    scores: Path,
    done: set[ScoreKey],
    show: bool = True,
    workers: int = 0,
) -> None:
    """Append the values of all MEASURE_FUNCTIONS to `scores`, each video as soon as it is measured.

    Args:
        scores: scores.jsonl.
        done: the scores that it holds.
        show: show progress.
        workers: the most processes to start; 0: one per core.

    Raises:
        RunError: a video cannot be read.
    """
    for path, names in MEASURE_FUNCTIONS.items():
        missing = [v for v in videos if any((v.sample, v.seed, name) not in done for name in names)]
        measure: MeasureFunction = import_function("metrics.score.MEASURE_FUNCTIONS", path)
        results = measure(missing, config, workers)
        if results is None:
            continue
        shown = with_progress(results, f"measuring {names[0]}", len(missing), "video", show)
        for video, result in zip(missing, shown, strict=True):
            for name, (value, reason) in result.values.items():
                if (video.sample, video.seed, name) not in done:
                    detail = {"reason": reason, **result.detail}
                    if name in result.curves:
                        detail["curve"] = result.curves[name]
                    _append(scores, video, name, value, detail)


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
    asked: dict[Question, ScoredVideo] = {}
    rubrics = load_rubrics(config.judge.rubrics)
    for video in videos:
        for rubric in rubrics:
            is_done = (video.sample, video.seed, rubric.measure) in done
            if not is_done and (video.prompt or not rubric.needs_instruction):
                asked[Question(video.path, rubric, video.prompt)] = video
    verdicts = judge_all(judge, list(asked), config.judge, config.seed, cache)
    for question, verdict in with_progress(verdicts, "judging", len(asked), "score", show):
        detail = {
            "judge": judge.name,
            "expected": verdict.expected,
            "answer": verdict.answers[-1],
            "answers": list(verdict.answers),
            "unread": verdict.unread,
            "cached": verdict.cached,
        }
        _append(scores, asked[question], question.rubric.measure, verdict.score, detail)


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
