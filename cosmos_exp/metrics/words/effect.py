"""word_effect: how much more does one word of the prompt change the video than another start noise does?"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from cosmos_exp.config.tiling import Tiling
from cosmos_exp.files import append_json_line
from cosmos_exp.metrics.interface import ScoredVideo
from cosmos_exp.metrics.words.motion_map import motion_maps
from cosmos_exp.statistics.chunks import CHUNKS
from cosmos_exp.statistics.scores import read_scores

MEASURE = "word_effect"
_OTHER_FRAMES = (
    "it compares videos with one first frame, and the later chunks of two videos begin with different frames"
)
Maps = Mapping[tuple[str, int], list[np.ndarray]]  # motion maps of each camera by sample and seed

# Two samples with the same first frame, and the word in which their prompts differ.
Words = tuple[str, str, tuple[str, str]]


def map_distance(a: list[np.ndarray], b: list[np.ndarray]) -> float:
    """Mean absolute difference of the motion maps of two videos, over all cameras, grey levels."""
    return float(np.mean([np.abs(x - y).mean() for x, y in zip(a, b, strict=True)]))


def noise_effect(maps: Maps, samples: tuple[str, str]) -> float | None:
    """Mean distance of the videos of one prompt with two start noises, over both prompts; None with one seed."""
    distances = []
    for sample in samples:
        own = [m for (name, _), m in sorted(maps.items()) if name == sample]
        distances += [map_distance(a, b) for a, b in itertools.combinations(own, 2)]
    return float(np.mean(distances)) if distances else None


def word_effects(maps: Maps, samples: tuple[str, str]) -> dict[int, tuple[float | None, dict[str, object]]]:
    """The effect of the word at each seed that both prompts have, with its parts.

    word_effect = d(prompt a, prompt b; same noise) / mean d(one prompt; two noises), where d is `map_distance`. It is 0
    if the word is ignored, and 1 if the word changes the video as much as another noise does.
    """
    noise = noise_effect(maps, samples)
    seeds = sorted({s for n, s in maps if n == samples[0]} & {s for n, s in maps if n == samples[1]})
    found: dict[int, tuple[float | None, dict[str, object]]] = {}
    for seed in seeds:
        word = map_distance(maps[samples[0], seed], maps[samples[1], seed])
        detail: dict[str, object] = {"word_distance": word, "noise_distance": noise, "reason": None}
        if noise is None:
            detail["reason"] = "one start noise: set at least two in generation.seeds"
        elif noise == 0:
            detail["reason"] = "the start noise changes nothing"
        found[seed] = (word / noise if noise else None, detail)
    return found


def score_word_effect(words: Sequence[Words], videos: Sequence[ScoredVideo], scores: Path, tiling: Tiling) -> None:
    """Append word_effect to `scores`, once per pair of prompts and seed, under the name of the first prompt.

    Args:
        words: the pairs of samples.
        videos: the videos of all these samples.
        tiling: the cameras in a frame.

    Raises:
        RunError: a video cannot be read.
    """
    done = {(r["sample"], r["seed"], r["detail"].get("other")) for r in read_scores(scores) if r["measure"] == MEASURE}
    by_key = {(v.sample, v.seed): v for v in videos}

    @cache
    def motion(sample: str, seed: int) -> list[np.ndarray]:
        video = by_key[sample, seed]
        return motion_maps(video.frames(), video.conditioning, tiling)

    for a, b, pair in words:
        if all((a, s, b) in done for n, s in by_key if n == a):
            continue
        maps = {(n, s): motion(n, s) for n, s in by_key if n in (a, b)}
        for seed, (value, detail) in word_effects(maps, (a, b)).items():
            if (a, seed, b) in done:
                continue
            video = by_key[a, seed]
            row = {"sample": a, "seed": seed, "prompt": video.prompt, "video": video.path.name, "measure": MEASURE}
            if video.chunks:
                detail[CHUNKS] = [{"value": None, "reason": _OTHER_FRAMES}] * len(video.chunks)
            append_json_line(scores, row | {"value": value, "detail": {"other": b, "words": list(pair), **detail}})
