"""Power of a comparison: how many scenes, and how many training runs, a sweep needs."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import special

from cosmos_exp.statistics.cells import PairedCells
from cosmos_exp.statistics.crossed import LEVEL, NO_SPREAD, Estimate, degrees_of_freedom

MOST_SCENES = 4096  # the searches go no further
MOST_RUNS = 64
WANTED = 0.8  # power


@dataclass(frozen=True)
class Design:
    """What decides the power of a comparison, as measured in a sweep.

    Attributes:
        scene: Variance of one scene's mean difference, with its noises.
        run: Variance that the training runs give to the mean difference, for one run per adapter; 0 if only these adapters
            are compared.
        run_df: Degrees of freedom per training run beyond the first.
    """

    scene: float
    run: float
    run_df: float


def measured_design(cells: PairedCells, result: Estimate) -> Design:
    """The design of a measured comparison. A noise within prompts larger than the spread of the scenes is the floor."""
    scenes = len(cells.first)
    runs = max(cells.first.shape[1], cells.second.shape[1])
    per_scene = max(float(result.scenes), cells.noise or 0.0) * scenes
    return Design(per_scene, float(result.runs) * runs, float(result.run_df) / max(runs - 1, 1))


def power(design: Design, effect: float, scenes: int, runs: int = 1) -> float:
    """Power of the two-sided test at the 5 % level, from the noncentral t distribution.

    Args:
        effect: True difference, in the measure's unit.
        scenes: Scenes of the planned sweep, at least 2.
        runs: Training runs per adapter; at least 2 if the design has a variance of runs.
    """
    variance = design.scene / scenes + design.run / runs
    if variance <= NO_SPREAD**2:
        return float(effect != 0)
    share = design.scene / scenes / variance
    df = float(degrees_of_freedom(share, scenes - 1, design.run_df * max(runs - 1, 1)))
    critical, shift = float(special.stdtrit(df, 1 - LEVEL / 2)), abs(effect) / math.sqrt(variance)
    above, below = 1 - special.nctdtr(df, shift, critical), special.nctdtr(df, shift, -critical)
    return float(np.nan_to_num(above, nan=1.0) + np.nan_to_num(below))  # NaN for a very large effect


def scenes_needed(design: Design, effect: float, runs: int = 1, most: int = MOST_SCENES) -> int | None:
    """The smallest number of scenes with a power of WANTED; None if `most` are too few."""
    return _smallest(lambda scenes: power(design, effect, scenes, runs), effect, most)


def runs_needed(design: Design, effect: float, scenes: int, most: int = MOST_RUNS) -> int | None:
    """The smallest number of training runs per adapter with a power of WANTED; None if `most` are too few."""
    return _smallest(lambda runs: power(design, effect, scenes, runs), effect, most)


def _smallest(power_of: Callable[[int], float], effect: float, most: int) -> int | None:
    """The smallest number from 2 to `most` at which the power reaches WANTED."""
    if effect == 0 or power_of(most) < WANTED:
        return None
    return 2 + bisect_left(range(2, most), WANTED, key=power_of)
