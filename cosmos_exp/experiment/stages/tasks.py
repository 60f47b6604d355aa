"""The videos of a run: one per test pair and seed, and one per probe, which has another word in its prompt."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from cosmos_exp.config.rollout import chunk_prompts
from cosmos_exp.config.schema import Config
from cosmos_exp.data.pair_frames import HeldOut, pair_frames
from cosmos_exp.data.readers.records import TestPair
from cosmos_exp.data.swaps import probes
from cosmos_exp.generation.videos import VideoTask, num_conditioning_frames


def tested_pairs(config: Config, pairs: list[TestPair]) -> list[TestPair]:
    """The test pairs that the run generates and scores: the first generation.max_prompts."""
    return pairs[: config.generation.max_prompts]


def probe_pairs(config: Config, pairs: list[TestPair]) -> list[TestPair]:
    """The test pairs with a swapped word (data.swaps), which are generated but scored by word_effect only."""
    return probes(tested_pairs(config, pairs), config.data.swaps) if config.measures.words else []


def video_tasks(
    config: Config, pairs: list[TestPair], held_out: HeldOut, path: Callable[[str, int], Path]
) -> list[VideoTask]:
    """One task per test pair and seed; `path(sample, seed)` is the video's file.

    Raises:
        UserError: a prompt has no line for each chunk (generation.chunk_prompts=lines).
    """
    count = num_conditioning_frames(config.generation.mode)
    return [
        VideoTask(
            p.name,
            seed,
            p.prompt,
            path(p.name, seed),
            partial(pair_frames, p, held_out, config.data, count),
            tuple(chunk_prompts(config, p.prompt, p.name)),
        )
        for p in pairs
        for seed in config.generation.seeds
    ]
