"""Does the word matter? Two measures of a word of the prompt, from where and how strongly a video moves (its motion map).

word_side: the share of motion on the side that the prompt names, left or right.
word_effect: how much more one word of the prompt changes the video than another start noise does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import combinations
from pathlib import Path

import cv2
import numpy as np

from cosmos_exp.config.schema import Config
from cosmos_exp.config.tiling import EMPTY, Tiling, tiling_of
from cosmos_exp.metrics.interface import Measured, ScoredVideo, append_score, tiles
from cosmos_exp.statistics.chunks import CHUNKS
from cosmos_exp.statistics.scores import read_scores

WIDTH = 160  # pixels; larger frames are reduced, so that the map costs the same at any size
GRAIN = 8.0  # grey levels; smaller differences are compression and noise
STEP, BORDER = 6, 4  # pixels: grid of the flow vectors from which the camera's motion is estimated

WORD_SIDE, WORD_EFFECT = "word_side", "word_effect"
_OTHER_FRAMES = (
    "it compares videos with one first frame, and the later chunks of two videos begin with different frames"
)
Maps = Mapping[tuple[str, int], list[np.ndarray]]  # motion maps of each camera by sample and seed


def motion_map(frames: np.ndarray, conditioning: int = 1) -> np.ndarray:
    """Mean absolute difference to the last conditioning frame, beyond GRAIN, after removal of the camera's motion.

    Args:
        frames: uint8 (T, H, W, 3).
        conditioning: number of conditioning frames; T must be larger.

    Returns:
        float32 (h, w) in grey levels, at most WIDTH pixels wide.
    """
    small = [small_grey(f) for f in frames[conditioning - 1 :]]
    first = cv2.GaussianBlur(small[0], (0, 0), 1.5).astype(np.float32)
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    total = np.zeros(first.shape, np.float32)
    for grey in small[1:]:
        aligned = aligned_to(small[0], grey, flow)
        difference = np.abs(cv2.GaussianBlur(aligned, (0, 0), 1.5).astype(np.float32) - first)
        total += np.maximum(difference - GRAIN, 0)
    motion: np.ndarray = total / (len(small) - 1)
    return motion


def motion_maps(frames: np.ndarray, conditioning: int, tiling: Tiling) -> list[np.ndarray]:
    """The motion map of each camera of a frame; a tile without a camera has none.

    Args:
        frames: uint8 (T, H, W, 3), divided into the tiles of `tiling`.
    """
    maps = []
    height, width = frames.shape[1:3]
    parts = tiles(height, width, tiling.rows, tiling.columns)
    for name, (rows, columns) in zip(tiling.names, parts, strict=True):
        if name != EMPTY:
            maps.append(motion_map(frames[:, rows, columns], conditioning))
    return maps


def small_grey(frame: np.ndarray) -> np.ndarray:
    """A frame, uint8 (H, W, 3), in grey and at most WIDTH pixels wide: uint8 (h, w)."""
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    height, width = grey.shape
    if width <= WIDTH:
        return grey
    return cv2.resize(grey, (WIDTH, round(height * WIDTH / width)), interpolation=cv2.INTER_AREA)


def aligned_to(first: np.ndarray, grey: np.ndarray, flow: cv2.DISOpticalFlow) -> np.ndarray:
    """A frame warped onto the first by the affine motion that most of the picture follows: the camera's."""
    height, width = first.shape
    grid = np.mgrid[BORDER : height - BORDER : STEP, BORDER : width - BORDER : STEP]
    rows, columns = grid.reshape(2, -1)
    start = np.stack([columns, rows], axis=1).astype(np.float32)
    moved = start + flow.calc(first, grey, None)[rows, columns]  # type: ignore[call-overload]  # None: no initial flow
    cv2.setRNGSeed(0)
    warp, _ = cv2.estimateAffine2D(start, moved, method=cv2.RANSAC, ransacReprojThreshold=1.0)
    if warp is None:
        return grey
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(grey, warp, (width, height), flags=how, borderMode=cv2.BORDER_REPLICATE)


def named_side(prompt: str | None) -> str | None:
    """left or right, if the prompt holds exactly one of the two words; else None."""
    sides = set(re.findall(r"\b(left|right)\b", (prompt or "").lower()))
    if len(sides) != 1:
        return None
    return sides.pop()


def side_share(maps: Sequence[np.ndarray], side: str) -> float | None:
    """The share of motion on the left or right half of the cameras' maps, (h, w) each; None if nothing moves."""
    total = on_side = 0.0
    for motion in maps:
        columns, middle = np.arange(motion.shape[1]) + 0.5, motion.shape[1] / 2
        half = columns < middle if side == "left" else columns > middle
        total += float(motion.sum())
        on_side += float(motion[:, half].sum())
    if total <= 0:
        return None
    return on_side / total


def measure_side(videos: Sequence[ScoredVideo], config: Config, workers: int) -> Iterator[Measured] | None:
    """word_side of videos whose prompt names a side (see `metrics.interface.MeasureFunction`)."""
    if not config.measures.words or not any(named_side(v.prompt) for v in videos):
        return None
    return map(partial(_side_of, tiling=tiling_of(config.data)), videos)


def _side_of(video: ScoredVideo, tiling: Tiling) -> Measured:
    side = named_side(video.prompt)
    if side is None:
        return Measured({WORD_SIDE: (None, "the prompt does not name one side, left or right")})
    frames = video.frames()
    if len(frames) <= video.conditioning:
        return Measured({WORD_SIDE: (None, "the video has no frame after the conditioning frames")})
    share = side_share(motion_maps(frames, video.conditioning, tiling), side)
    return Measured({WORD_SIDE: (share, "nothing moves" if share is None else None)})


def map_distance(a: list[np.ndarray], b: list[np.ndarray]) -> float:
    """Mean absolute difference of the motion maps of two videos, over all cameras, grey levels."""
    return float(np.mean([np.abs(x - y).mean() for x, y in zip(a, b, strict=True)]))


def word_effects(maps: Maps, samples: tuple[str, str]) -> dict[int, tuple[float | None, dict[str, object]]]:
    """The effect of the word at each seed that both prompts have, with its parts.

    word_effect = d(prompt a, prompt b; same noise) / mean d(one prompt; two noises), where d is `map_distance`. It is 0
    if the word is ignored, and 1 if the word changes the video as much as another noise does.
    """
    distances = []  # of the videos of one prompt with two start noises
    for sample in samples:
        for a, b in combinations(sorted(key for key in maps if key[0] == sample), 2):
            distances.append(map_distance(maps[a], maps[b]))
    noise = float(np.mean(distances)) if distances else None
    reason = None
    if noise is None:
        reason = "one start noise: set at least two in generation.seeds"
    elif noise == 0:
        reason = "the start noise changes nothing"
    effects: dict[int, tuple[float | None, dict[str, object]]] = {}
    for sample, seed in sorted(maps):
        if sample == samples[0] and (samples[1], seed) in maps:
            word = map_distance(maps[samples[0], seed], maps[samples[1], seed])
            detail: dict[str, object] = {"word_distance": word, "noise_distance": noise, "reason": reason}
            effects[seed] = word / noise if noise else None, detail
    return effects


def score_word_effect(
    pairs: Sequence[tuple[str, str, tuple[str, str]]], videos: Sequence[ScoredVideo], scores: Path, tiling: Tiling
) -> None:
    """Append word_effect to `scores`, once per pair of prompts and seed, under the name of the first prompt.

    Args:
        pairs: two samples with the same first frame, and the words in which their prompts differ.
        videos: the videos of all these samples.
        tiling: the cameras in a frame.

    Raises:
        RunError: a video cannot be read.
    """
    done = set()
    for row in read_scores(scores):
        if row["measure"] == WORD_EFFECT:
            done.add((row["sample"], row["seed"], row["detail"].get("other")))
    maps: dict[tuple[str, int], list[np.ndarray]] = {}
    for a, b, words in pairs:
        of_pair = {}
        for video in videos:
            if video.sample in (a, b):
                of_pair[video.sample, video.seed] = video
        if all((a, seed, b) in done for sample, seed in of_pair if sample == a):
            continue
        for key, video in of_pair.items():
            if key not in maps:
                maps[key] = motion_maps(video.frames(), video.conditioning, tiling)
        for seed, (value, detail) in word_effects({key: maps[key] for key in of_pair}, (a, b)).items():
            if (a, seed, b) in done:
                continue
            video = of_pair[a, seed]
            if video.chunks:
                detail[CHUNKS] = [{"value": None, "reason": _OTHER_FRAMES}] * len(video.chunks)
            append_score(scores, video, WORD_EFFECT, value, {"other": b, "words": list(words), **detail})
