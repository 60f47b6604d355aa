"""The keys of the measures and judges. Part of the schema (config/schema.py)."""

from __future__ import annotations

from dataclasses import dataclass

from cosmos_exp.config.key import key
from cosmos_exp.config.registry import JUDGES, MATCHERS


@dataclass
class Sampson:
    """Sampson error, temporal and across views."""

    enabled: bool = key(True, "measure it")
    layout: str | None = key(None, "tiles of a frame, ROWSxCOLUMNS; null: one row of the data's views, or one view")
    views: list[str] = key([], "names of the tiles, row by row; - skips a tile")
    pairs: str | None = key(None, "views to compare, A:B,A:C; null: all pairs")
    calibration: str | None = key(None, "file with each view's camera; null: unknown")
    gap: int = key(1, "distance in frames between the two frames of a pair", gt=0)
    estimator: str = key(
        "magsac",
        "estimator of the fundamental matrix of the robust measures",
        choices=("magsac", "ransac", "five_point"),
    )
    matcher: str = key("sift", "feature matcher", registry=MATCHERS)
    matcher_source: str = key("ETH-CVG/lightglue_superpoint", "its hub repository or folder")
    matcher_revision: str | None = key(None, "branch, tag or commit")
    batch_frames: int = key(8, "superpoint_lightglue: frames per batch", gt=0)
    max_keypoints: int = key(2048, "keypoints per frame", gt=0)
    ratio: float = key(0.8, "sift: Lowe's ratio test", gt=0, le=1)
    threshold: float = key(1.0, "robust measures: largest error of an inlier, pixels", gt=0)
    repeats: int = key(3, "estimates of each fundamental matrix; their spread is the repeatability of a value", ge=2)
    min_matches: int = key(15, "a frame pair with fewer matches is counted, not measured", ge=8)
    static_pixels: float = key(0.5, "a match that moves less than this is static, pixels", ge=0)


@dataclass
class Measures:
    """Measures beside the Sampson error and the judge. They need no weights."""

    references: bool = key(True, "also score the recorded continuation (real) and the held first frame (frozen)")
    recording: bool = key(True, "compare with the recording, where there is one: PSNR, SSIM, motion masks, motion")
    motion: bool = key(True, "flow warping error, and survival and smoothness of tracks")
    words: bool = key(True, "word_effect and word_side, for test prompts that differ in one word")


@dataclass
class Judge:
    """Scores from 1 to 5."""

    name: str = key("none", "which judge", registry=JUDGES)
    source: str | None = key(None, "hub repository or folder; server: the model's name, null: its only model")
    revision: str | None = key(None, "branch, tag or commit")
    url: str | None = key(
        None, "server: address of an OpenAI-compatible endpoint, up to /v1; its key is in OPENAI_API_KEY"
    )
    media: str = key("video", "server: send one video, or the frames as images", choices=("video", "frames"))
    timeout: float = key(600.0, "server: seconds until a request fails", gt=0)
    retries: int = key(6, "server: retries of a failed request, with growing pauses", ge=0)
    fps: float = key(16.0, "frames per second shown to the judge", gt=0)
    max_frames: int = key(256, "largest number of frames shown", gt=1)
    max_total_pixels: int = key(6_422_528, "largest number of pixels of all frames together; two frames count as one", gt=0)
    max_new_tokens: int = key(2048, "largest length of an answer", gt=0)
    reasoning: bool = key(False, "ask the judge to reason before it answers")
    samples: int = key(1, "answers per question; their mean is the score", gt=0)
    temperature: float | None = key(None, "0 is greedy; null: 0 for one sample, 0.7 for several", ge=0)
    batch: int = key(1, "questions per batch", gt=0)
    rubrics: list[str] = key(["physics", "instruction"], "physics, instruction, or paths of YAML files")
