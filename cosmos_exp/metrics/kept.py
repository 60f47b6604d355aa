"""What an adapter changed where it should not have: on prompts of the base's own domain, against the base's videos.

kept: 1 - how far a video is from the base's of the same start noise, in units of what another start noise moves the base's.
kept_physics: the judge's physics of the video minus that of the base's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np

from cosmos_exp.config.measures import OF_KEPT
from cosmos_exp.metrics.interface import ScoredVideo, append_score
from cosmos_exp.statistics.scores import read_scores

KEPT, KEPT_PHYSICS = OF_KEPT
PHYSICS = "physics"
BASE = "~base"  # after the name of a prompt: the sample of the base's videos
JUDGED = "kept"  # the folder in references/ with the judge's scores of both

Frames = Mapping[int, np.ndarray]  # by the seed of the start noise


def video_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Mean absolute difference of two videos, each uint8 (T, H, W, 3), grey levels."""
    return float(np.mean([cv2.absdiff(x, y).mean() for x, y in zip(a, b, strict=True)]))


def kept_shares(videos: Frames, base: Frames) -> dict[int, tuple[float | None, dict[str, object]]]:
    """kept of each start noise, with its parts: 1: nothing changed, 0: as much as another start noise changes."""
    distances = [video_distance(base[a], base[b]) for a, b in combinations(sorted(base), 2)]
    noise = float(np.mean(distances)) if distances else 0.0
    shares: dict[int, tuple[float | None, dict[str, object]]] = {}
    for seed, frames in videos.items():
        moved = video_distance(frames, base[seed])
        detail: dict[str, object] = {"distance": moved, "noise_distance": noise, "reason": None}
        if not noise:
            detail["reason"] = "another start noise changes nothing: set at least two in generation.seeds"
        shares[seed] = 1 - moved / noise if noise else None, detail
    return shares


def score_kept(videos: Sequence[ScoredVideo], judged: Path, scores: Path) -> None:
    """Append kept and, where the judge scored both videos, kept_physics to `scores`, once per prompt and start noise.

    Args:
        videos: the adapter's and the base's.
        judged: the judge's scores of both.

    Raises:
        RunError: a video cannot be read.
    """
    done = {(row["sample"], row["seed"]) for row in read_scores(scores) if row["measure"] == KEPT}
    physics = {(row["sample"], row["seed"]): row["value"] for row in read_scores(judged) if row["measure"] == PHYSICS}
    by_key = {(video.sample, video.seed): video for video in videos}
    for sample in dict.fromkeys(video.sample for video in videos if not video.sample.endswith(BASE)):
        seeds = [seed for name, seed in by_key if name == sample]
        if all((sample, seed) in done for seed in seeds):
            continue
        frames: dict[str, dict[int, np.ndarray]] = {}
        for name in (sample, sample + BASE):
            frames[name] = {seed: by_key[name, seed].frames()[by_key[name, seed].conditioning :] for seed in seeds}
        for seed, (value, detail) in kept_shares(frames[sample], frames[sample + BASE]).items():
            video, values = by_key[sample, seed], {KEPT: (value, detail)}
            own, of_base = physics.get((sample, seed)), physics.get((sample + BASE, seed))
            if own is not None and of_base is not None:
                values[KEPT_PHYSICS] = own - of_base, {"reason": None}
            for measure, (number, parts) in values.items():
                if (sample, seed) not in done:
                    append_score(scores, video, measure, number, {"other": sample + BASE, **parts})
