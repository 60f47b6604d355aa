"""Simulated sweeps without any true difference: coverage of intervals, false positives, equivalence, failing runs.

    python benchmarks/sweep_statistics.py [--trials 5000]

In about a minute on one core. The functions of cosmos_exp.statistics that the report calls are called on arrays of scores with known
truth; the tables of docs/statistics.md come from here.
"""

from __future__ import annotations

import itertools
from dataclasses import asdict, dataclass

import numpy as np
from common import command_line, device_name, table, write

from cosmos_exp.files import JsonObject
from cosmos_exp.statistics.comparisons import MIN_SCENES, equivalence_p
from cosmos_exp.statistics.crossed import LEVEL, Values, estimate

KINDS = ("normal", "skewed", "scores 1 to 5")
SCENES, RUNS, VARIANCES, FAILING = (4, 8, 16, 50), (1, 3, 5), (0.0, 0.3, 0.5, 1.0), (0.5, 0.3, 0.1)
NOISES = 2  # start noises per prompt
MARGIN = 0.25


@dataclass(frozen=True)
class Truth:
    """A simulated world. Standard deviations are in units of that of the scenes' difference from their mean, which is 1.

    kind: of KINDS, how the effects of scenes are distributed; scores are whole numbers, about half of them 5. run_variance: of the
    training runs, in units of that of the scenes. shared: part of it that two adapters of one training seed share. failing: share of
    training runs that fail, all by the same amount; 0: runs are normally distributed.
    """

    kind: str = "normal"
    scenes: int = 16
    runs: int = 1
    run_variance: float = 0.0
    shared: float = 0.0
    failing: float = 0.0


def cells(rng: np.random.Generator, trials: int, truth: Truth, base: bool = False) -> list[Values]:
    """Mean scores of two adapters, (trials, scenes, runs), without any true difference between them.

    Scenes have an effect on both adapters (standard deviation 1) and one on each adapter (1); a video has noise (1).

    Args:
        base: the first one is the base: one run without run variance.
    """
    common = _scene_effects(rng, trials, truth)
    shared = _run_effects(rng, trials, truth) * truth.shared**0.5
    out = []
    for is_base in (base, False):
        runs = 1 if is_base else truth.runs
        run = (shared + _run_effects(rng, trials, truth) * (1 - truth.shared) ** 0.5) * truth.run_variance**0.5
        level = common + _scene_effects(rng, trials, truth) + (0.0 if is_base else run)
        videos = level[..., None] + rng.normal(size=(trials, truth.scenes, runs, NOISES))
        if truth.kind == "scores 1 to 5":
            videos = np.clip(np.rint(4.6 + 0.6 * videos), 1, 5)
        out.append(videos.mean(-1))
    return out


def _scene_effects(rng: np.random.Generator, trials: int, truth: Truth) -> Values:
    """Effects with mean 0 and variance 1, (trials, scenes, 1)."""
    shape = (trials, truth.scenes, 1)
    return rng.exponential(size=shape) - 1 if truth.kind == "skewed" else rng.normal(size=shape)


def _run_effects(rng: np.random.Generator, trials: int, truth: Truth) -> Values:
    """Effects with mean 0 and variance 1, (trials, 1, runs): normal, or one of two values."""
    shape = (trials, 1, truth.runs)
    if not truth.failing:
        return rng.normal(size=shape)
    odds = (truth.failing / (1 - truth.failing)) ** 0.5
    return np.where(rng.random(shape) < truth.failing, -1 / odds, odds)


def rejected(arms: list[Values], signs: tuple[float, ...] = (-1.0, 1.0), random_runs: bool = True) -> float:
    """Percentage of trials in which the test at 5 % rejects the true value 0: 100 - coverage of the 95 % interval.

    Without spread there is neither test nor interval, and nothing is rejected.
    """
    result = estimate(arms, signs, random_runs)
    spread = result.variance > 1e-20
    return 100 * float((spread & (np.where(spread, result.p(0.0), 1.0) < LEVEL)).mean())


def null_rates(rng: np.random.Generator, trials: int) -> list[JsonObject]:
    """For each design: how often a test of no difference rejects, and how often the interval of a mean misses the mean."""
    rows = []
    for kind, scenes, runs, variance in itertools.product(KINDS, SCENES, RUNS, VARIANCES):
        if runs == 1 and variance:
            continue
        truth = Truth(kind, scenes, runs, variance)
        two = cells(rng, trials, truth)
        row = {"kind": kind, "scenes": scenes, "runs": runs, "run variance": variance, "two adapters": rejected(two)}
        if kind != "scores 1 to 5":
            row["mean"] = rejected(two[:1], (1.0,))
        # A score at the end of the scale differs from the base where training runs shift it: no null hypothesis.
        if kind != "scores 1 to 5" or not variance:
            row["base against adapter"] = rejected(cells(rng, trials, truth, base=True))
        rows.append(row)
    return rows


def ignored(rng: np.random.Generator, trials: int) -> list[JsonObject]:
    """What happens when training runs, shared scenes, or shared training seeds are ignored."""
    rows = []
    for runs in (1, 3):
        arms = cells(rng, trials, Truth(runs=runs, run_variance=0.5))
        rows.append({"case": f"training runs ignored, {runs} of them", "rejected": rejected(arms, random_runs=False)})
    as_prompts, as_scenes = [], []
    for values in cells(rng, trials, Truth(scenes=8)):
        prompts = np.repeat(values, 2, axis=1) + 0.3 * rng.normal(size=(trials, 16, 1))
        as_prompts.append(prompts)
        as_scenes.append(prompts.reshape(trials, 8, 2, 1).mean(2))
    rows.append({"case": "8 scenes with 2 prompts as 16 prompts", "rejected": rejected(as_prompts)})
    rows.append({"case": "8 scenes with 2 prompts as 8 scenes", "rejected": rejected(as_scenes)})
    shared = cells(rng, trials, Truth(runs=3, run_variance=0.5, shared=0.5))
    rows.append({"case": "training seeds shared by both adapters, correlation 0.5", "rejected": rejected(shared)})
    return rows


def equivalent(rng: np.random.Generator, trials: int) -> list[JsonObject]:
    """How often two adapters are called equivalent: a false statement at the margin, a true one at no difference."""
    rows = []
    for case, (scenes, deviation, mean) in itertools.product(
        ("normal", "-2 points in 1 scene of 8"), itertools.product((8, 16, 24, 50), (0.2, 0.4), (MARGIN, 0.0))
    ):
        values = rng.normal(mean, deviation, (trials, scenes, 1))
        if case != "normal":  # its mean is at the margin
            values = np.where(rng.random(values.shape) < 1 / 8, -2.0, 0.0) + 0.01 * rng.normal(size=values.shape)
        p = np.array([equivalence_p(estimate([difference]), MARGIN) for difference in values])
        called = 100 * int((p < LEVEL).sum()) / trials if scenes >= MIN_SCENES else 0.0
        rows.append({"case": case, "scenes": scenes, "deviation": deviation, "mean": mean, "called": called})
    return rows


def failing(rng: np.random.Generator, trials: int) -> list[JsonObject]:
    """Training runs that either learn or fail: false positives of base against adapter."""
    rows = []
    for runs, share, variance in itertools.product((3, 5), FAILING, (1.0, 4.0)):
        truth = Truth(runs=runs, run_variance=variance, failing=share)
        rows.append({**asdict(truth), "rejected": rejected(cells(rng, trials, truth, base=True))})
    return rows


def main() -> None:
    """Simulate, print, write."""
    parser = command_line(__doc__)
    parser.add_argument("--trials", type=int, default=5000, help="trials per cell")
    args = parser.parse_args()
    rng = np.random.default_rng(1)
    results = {
        "Rejected at 5 %, %": null_rates(rng, args.trials),
        "What goes wrong otherwise, % rejected": ignored(rng, args.trials),
        f"Called equivalent within {MARGIN}, %": equivalent(rng, max(args.trials // 25, 1)),
        "Training runs that learn or fail, % rejected": failing(rng, args.trials),
    }
    error = 100 * (0.05 * 0.95 / args.trials) ** 0.5
    parts = [f"No true difference anywhere. Monte Carlo standard error {error:.1f} points at 5 %. {device_name()}."]
    for title, rows in results.items():
        parts.append(f"## {title}\n\n{table(rows, '.1f')}")
    write("sweep_statistics", "Statistics of simulated sweeps", "\n\n".join(parts), results)


if __name__ == "__main__":
    main()
