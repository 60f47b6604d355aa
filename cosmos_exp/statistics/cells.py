"""Scores arranged for the statistics: scenes x training runs, prompts and noises averaged within them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from cosmos_exp.statistics.crossed import Values

VideoKey = tuple[str, tuple[int, int]]  # prompt, (generation seed, training seed)
Scores = Mapping[VideoKey, float | None]
Scenes = Mapping[str, str]  # scene of each prompt; a prompt that is not listed is a scene of its own


@dataclass(frozen=True)
class PairedCells:
    """The scores of two adapters on the prompts and noises for which all their training runs have one.

    Attributes:
        first, second: Mean score of each scene in each training run, (scenes, runs).
        prompts: Number of prompts.
        pairs: Number of prompts with their noises.
        left_out: Prompts with a noise for which only some of the runs have a score.
        noise: The part of the variance of the mean difference that comes from the noises within prompts; None with one noise.
    """

    first: Values
    second: Values
    prompts: int
    pairs: int
    left_out: int
    noise: float | None


def scene_of(prompt: str, scenes: Scenes) -> str:
    """The scene of a prompt. Names of scenes and of prompts cannot be mixed up."""
    return f"scene {scenes[prompt]}" if prompt in scenes else f"prompt {prompt}"


def paired_cells(first: Scores, second: Scores, scenes: Scenes) -> PairedCells:
    """The cells of two adapters. Missing scores are never imputed; the tables stay complete, so that runs are comparable."""
    tables, runs = [], []
    for scores in (first, second):
        table: dict[tuple[str, int], dict[int, float | None]] = defaultdict(dict)
        for (prompt, (noise, run)), value in scores.items():
            table[prompt, noise][run] = value
        tables.append(table)
        runs.append(sorted({run for _, run in _scored(scores)}))
    keys, left_out = [], 0
    for key in sorted(set(tables[0]) | set(tables[1])):
        values = [t.get(key, {}).get(run) for t, own in zip(tables, runs, strict=True) for run in own]
        if all(runs) and all(v is not None for v in values):
            keys.append(key)
        else:
            left_out += any(v is not None for v in values)
    a, b = (
        np.array([[t[key][run] for run in own] for key in keys], dtype=np.float64).reshape(len(keys), len(own))
        for t, own in zip(tables, runs, strict=True)
    )
    prompts = [prompt for prompt, _ in keys]
    return PairedCells(
        first=scene_means(prompts, a, scenes),
        second=scene_means(prompts, b, scenes),
        prompts=len(set(prompts)),
        pairs=len(keys),
        left_out=left_out,
        noise=_noise(prompts, b.mean(1) - a.mean(1), scenes) if keys else None,
    )


def _scored(scores: Scores) -> Iterable[tuple[int, int]]:
    return (video for (_, video), value in scores.items() if value is not None)


def scene_means(prompts: Sequence[str], values: Values, scenes: Scenes) -> Values:
    """Mean over the prompts of each scene of the mean over the videos of each prompt.

    Args:
        prompts: The prompt of each row of `values`.
        values: (videos, …); NaN where there is no value.

    Returns:
        (scenes, …), NaN where a scene has no value.
    """
    by_prompt: dict[str, list[int]] = defaultdict(list)
    for row, prompt in enumerate(prompts):
        by_prompt[prompt].append(row)
    by_scene: dict[str, list[Values]] = defaultdict(list)
    for prompt, rows in by_prompt.items():
        by_scene[scene_of(prompt, scenes)].append(nanmean(values[rows]))
    means = [nanmean(np.stack(own)) for _, own in sorted(by_scene.items())]
    return np.stack(means) if means else np.empty((0, *values.shape[1:]))


def nanmean(values: Values) -> Values:
    """Mean over the first axis without NaN; NaN where there is no value."""
    counts = (~np.isnan(values)).sum(axis=0)
    mean: Values = np.where(counts > 0, np.nansum(values, axis=0) / np.maximum(counts, 1), np.nan)
    return mean


def _noise(prompts: Sequence[str], values: Values, scenes: Scenes) -> float | None:
    """Variance that the noises within prompts (pooled) give to the mean over scenes of `values` (one per video)."""
    groups: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for prompt, value in zip(prompts, values, strict=True):
        groups[scene_of(prompt, scenes)][prompt].append(float(value))
    own = [np.array(g) for by_prompt in groups.values() for g in by_prompt.values()]
    freedom = sum(len(g) - 1 for g in own)
    if not freedom:
        return None
    pooled = sum(float(((g - g.mean()) ** 2).sum()) for g in own) / freedom
    each = [sum(1 / len(g) for g in by_prompt.values()) / len(by_prompt) ** 2 for by_prompt in groups.values()]
    return pooled * float(np.mean(each)) / len(groups)
