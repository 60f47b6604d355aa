"""Scores of a run's videos into scores.jsonl, one line a video and measure. What is scored is not scored again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from cosmos_exp.data.video import probe, read_video
from cosmos_exp.metrics.judge import Judge, load_rubric
from cosmos_exp.metrics.sampson import temporal_sampson
from cosmos_exp.run_folder import append_json_line


@dataclass(frozen=True)
class ScoredVideo:
    """A finished video with what it shows."""

    sample: str
    seed: int
    prompt: str | None
    path: Path


def score_videos(
    videos: list[ScoredVideo], config: Any, judge: Judge | None, scores: Path, done: set[tuple], show: bool = True
) -> None:
    """Measure each video and append its lines to `scores`; `done` holds (sample, seed, measure) already there."""
    rubrics = [load_rubric(r) for r in config.judge.rubrics] if judge else []
    for video in tqdm(videos, desc="scoring", unit="video", disable=None if show else True):
        rows = []
        frames = None
        wanted = ["tse", "tse_moving", "static_share"] if config.sampson.enabled else []
        if any((video.sample, video.seed, m) not in done for m in wanted):
            frames = read_video(video.path)
            result = temporal_sampson(frames, config.sampson)
            rows += [(m, getattr(result, m), result.detail()) for m in wanted]
        for rubric in rubrics:
            if (video.sample, video.seed, rubric.measure) in done or (rubric.needs_instruction and not video.prompt):
                continue
            frames = read_video(video.path) if frames is None else frames
            answer = judge.answer(frames, probe(video.path).fps, rubric, video.prompt)  # type: ignore[union-attr]
            detail = {"judge": judge.name, "expected": answer.expected, "answer": answer.text}  # type: ignore[union-attr]
            rows.append((rubric.measure, answer.score, detail))
        for measure, value, detail in rows:
            if (video.sample, video.seed, measure) not in done:
                append_json_line(scores, {
                    "sample": video.sample, "seed": video.seed, "prompt": video.prompt, "video": video.path.name,
                    "measure": measure, "value": value, "detail": detail,
                })  # fmt: skip
