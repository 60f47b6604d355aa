"""Scores arranged for the statistics: scenes x training runs, with prompts and noises averaged within them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import pandas as pd

from cosmos_exp.statistics.crossed import Values

Scenes = Mapping[str, str]  # scene of each prompt; a prompt that is not listed is a scene of its own
VIDEO = ["scene", "prompt", "noise"]  # the index of a table of videos


@dataclass(frozen=True)
class PairedCells:
    """The scores of two adapters on the prompts and noises for which all their training runs have one.

    Attributes:
        first, second: Mean score of each scene in each training run, (scenes, runs).
        prompts: Number of prompts.
        pairs: Number of prompts with their noises.
        left_out: Prompts with a noise for which only some of the runs have a score.
        dropped: The names of these prompts.
        noise: The part of the variance of the mean difference that comes from the noises within prompts; None with one noise.
    """

    first: Values
    second: Values
    prompts: int
    pairs: int
    left_out: int
    dropped: tuple[str, ...]
    noise: float | None


def video_table(scores: pd.DataFrame) -> pd.DataFrame:
    """The scores of one measure and adapter: a row per (scene, prompt, noise), a column per training seed.

    NaN where a run has no score. Rows and columns without any score are left out.

    Args:
        scores: Columns scene, prompt, noise, seed and value.
    """
    return scores.dropna(subset="value").groupby([*VIDEO, "seed"])["value"].mean().unstack("seed")


def scene_table(table: pd.DataFrame) -> pd.DataFrame:
    """The mean of each scene in each column of a table of videos: over the prompts the mean over their noises.

    Missing scores are left out, never filled in; NaN where a scene has none.
    """
    return table.groupby(level=["scene", "prompt"]).mean().groupby(level="scene").mean()


def paired_cells(first: pd.DataFrame, second: pd.DataFrame) -> PairedCells:
    """The cells of two adapters, from their `video_table`. They stay complete, so that runs are comparable."""
    both = pd.concat([first, second], axis="columns", keys=["first", "second"]).sort_index()
    complete = both.dropna()
    if first.empty or second.empty:
        complete = both.iloc[:0]
    dropped = both.index.difference(complete.index).get_level_values("prompt").unique()
    a, b = (complete.reindex(columns=[name], level=0) for name in ("first", "second"))
    return PairedCells(
        first=scene_table(a).to_numpy(),
        second=scene_table(b).to_numpy(),
        prompts=complete.index.get_level_values("prompt").nunique(),
        pairs=len(complete),
        left_out=len(both) - len(complete),
        dropped=tuple(map(str, dropped)),
        noise=_noise(b.mean(axis="columns") - a.mean(axis="columns")),
    )


def _noise(values: pd.Series[float]) -> float | None:
    """Variance that the noises within prompts (pooled) give to the mean over scenes of `values` (one per video)."""
    prompts = values.groupby(level=["scene", "prompt"])
    count = prompts.size()
    freedom = int((count - 1).sum())
    if not freedom:
        return None
    pooled = float(((values - prompts.transform("mean")) ** 2).sum()) / freedom
    by_scene = (1 / count).groupby(level="scene")
    return float(pooled * (by_scene.sum() / by_scene.size() ** 2).mean() / by_scene.ngroups)
