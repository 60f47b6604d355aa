"""Scores of simulated sweeps with known truth: arrays for the tables, run folders for the report's own entry point."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray

from cosmos_exp.files import write_json, write_json_lines
from cosmos_exp.report.comparisons import differences, pairs_of
from cosmos_exp.report.study import Study, load_study
from cosmos_exp.run_folder import RunFolder
from cosmos_exp.statistics.comparisons import Difference

KINDS = ("normal", "skewed", "scores 1 to 5")
NOISES = 2  # start noises per prompt
ADAPTERS = {"lora-r8": ("lora", 8), "lora-r32": ("lora", 32), "dora-r8": ("dora", 8), "dora-r32": ("dora", 32)}

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Truth:
    """A simulated world. Standard deviations are in units of that of the scenes' difference from their mean, which is 1.

    Attributes:
        kind: Of KINDS: how the effects of scenes are distributed. Scores are whole numbers, about half of them 5.
        scenes: Number of scenes.
        runs: Training runs per adapter.
        run_variance: Variance of the training runs, in units of that of the scenes.
        shared_runs: Part of the run variance that two adapters of one training seed share.
    """

    kind: str
    scenes: int
    runs: int
    run_variance: float = 0.0
    shared_runs: float = 0.0


def cells(rng: np.random.Generator, trials: int, truth: Truth, adapters: int = 2, base: bool = False) -> list[Values]:
    """Mean scores of each adapter, (trials, scenes, runs), without any true difference between them.

    Scenes have an effect on all adapters (standard deviation 1) and one on each adapter (1); a video has noise (1).

    Args:
        base: The first one is the base: one run without run variance.
    """
    common = _effects(rng, (trials, truth.scenes, 1), truth.kind)
    shared = rng.normal(size=(trials, 1, truth.runs)) * truth.shared_runs**0.5
    found = []
    for k in range(adapters):
        runs = 1 if base and k == 0 else truth.runs
        own = shared + rng.normal(size=(trials, 1, truth.runs)) * (1 - truth.shared_runs) ** 0.5
        run = 0.0 if base and k == 0 else own * truth.run_variance**0.5
        level = common + _effects(rng, (trials, truth.scenes, 1), truth.kind) + run
        noise = rng.normal(size=(trials, truth.scenes, runs, NOISES))
        found.append(_observed(level[..., None] + noise, truth.kind).mean(-1))
    return found


def true_mean(truth: Truth) -> float:
    """The mean that `cells` draws around; of scores, the mean of two million draws with a new scene and run each."""
    return _mean_of_scores(truth.run_variance) if truth.kind == KINDS[2] else 0.0


@cache
def _mean_of_scores(run_variance: float) -> float:
    one = Truth(KINDS[2], 1, 1, run_variance)
    return float(cells(np.random.default_rng(5), 2_000_000, one, adapters=1)[0].mean())


def _effects(rng: np.random.Generator, shape: tuple[int, ...], kind: str) -> Values:
    """Effects with mean 0 and variance 1."""
    return rng.exponential(size=shape) - 1 if kind == "skewed" else rng.normal(size=shape)


def _observed(level: Values, kind: str) -> Values:
    """What a measure reads: the level itself, or a whole number from 1 to 5."""
    return np.clip(np.rint(4.6 + 0.6 * level), 1, 5) if kind == KINDS[2] else level


def write_sweep(folder: Path, scenes: int, runs: int) -> None:
    """Folders of finished runs: the base, and four adapters with `runs` training seeds; two prompts for each scene."""
    names = [f"{scene:02d}_{hand}" for scene in range(scenes) for hand in ("left", "right")]
    for name, (kind, rank) in {"base": ("none", 32), **ADAPTERS}.items():
        for seed in range(1 if kind == "none" else runs):
            run = RunFolder(folder / (f"{name}-seed{seed}" if seed else name))
            run.path.mkdir(parents=True)
            adapter = {"kind": kind, "rank": rank, "alpha": float(rank), "scaling": "standard"}
            config = {"name": "simulated", "seed": seed, "adapter": adapter, "generation": {"seeds": [0, 1]}}
            run.config.write_text(yaml.safe_dump(config))
            run.set_status("done", "record")
            run.update_manifest(data={"test": names, "scenes": {n: n[:2] for n in names}}, labels={"adapter": name})
            write_json(run.metrics, {})
            row = {"prompt": None, "measure": "instruction", "value": 3.0, "detail": {}}
            rows = [{"sample": n, "seed": s, "video": f"{n}__seed{s}.mp4", **row} for n in names for s in range(NOISES)]
            write_json_lines(run.scores, rows)


def load_sweep(folder: Path) -> Study:
    """The study of a written sweep, as the report reads it."""
    return load_study(folder)


def redraw(rng: np.random.Generator, study: Study, run_variance: float, failing: float = 0.0) -> pd.DataFrame:
    """New scores of all runs, without any difference between recipes. The two prompts of a scene ignore their word.

    Scenes have an effect on all adapters (standard deviation 0.5) and one on each adapter (0.5), shared by the prompts of
    the scene but for a tenth of its variance; a video has noise (0.3).

    Args:
        failing: Share of training runs that fail, all by the same amount; 0: runs are normally distributed.

    Returns:
        As `Study.scores`.
    """
    scores = study.scores.copy()
    names = sorted(scores["prompt"].unique())
    scenes = {n: n[:2] for n in names}
    common = {s: rng.normal(3, 0.5) for s in set(scenes.values())}
    for arm in study.arms.index:
        own = {s: rng.normal(0, 0.5) for s in sorted(set(scenes.values()))}
        prompt = {n: 0.95 * own[scenes[n]] + rng.normal(0, 0.16) for n in names}
        for run in study.shown_runs.index[study.shown_runs["arm"] == arm]:
            shift = 0.0 if arm == study.base else 0.5 * run_variance**0.5 * _run_effect(rng, failing)
            rows = scores["run"] == run
            levels = scores.loc[rows, "prompt"].map({n: common[scenes[n]] + prompt[n] + shift for n in names})
            scores.loc[rows, "value"] = levels + rng.normal(0, 0.3, int(rows.sum()))
    return scores


def compared(study: Study, scores: pd.DataFrame) -> list[Difference]:
    """The differences that the report finds in these scores."""
    first_runs = {arm: study.runs_of(arm)[0] for arm in study.arms.index}
    return differences(scores, pairs_of(study.arms, first_runs), {}, [study.base])


def _run_effect(rng: np.random.Generator, failing: float) -> float:
    """The effect of a training run, with mean 0 and variance 1: normal, or one of two values."""
    if not failing:
        return float(rng.normal())
    odds = (failing / (1 - failing)) ** 0.5
    return -1 / odds if rng.random() < failing else odds
