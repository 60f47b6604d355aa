"""Do the report's statistics keep their word? Coverage of the interval, false positives, equivalence, power, by simulation.

python benchmarks/study_statistics.py [--trials 1000]          # about two minutes on one core; prints docs/statistics.md's tables
"""

from __future__ import annotations

import argparse

import numpy as np

from cosmos_exp.statistics.comparisons import equivalence_p, permutation_p
from cosmos_exp.statistics.intervals import bootstrap_means
from cosmos_exp.statistics.power import power, prompts_needed, variance_components


def draw(rng: np.random.Generator, prompts: int, seeds: int, kind: str, mean: float = 0.0) -> list[np.ndarray]:
    """Values with spread 1 between prompts and 0.5 between seeds; `scores`: whole numbers 1 to 5, half of them 5."""
    level = rng.normal(mean, 1, (prompts, 1)) + rng.normal(0, 0.5, (prompts, seeds))
    if kind == "scores":
        level = np.clip(np.rint(4.6 + level), 1, 5)
    return list(level)


def coverage(trials: int, prompts: int, seeds: int, kind: str) -> float:
    """Share of 95 % intervals that hold the true mean (of `scores`: found from two million draws)."""
    rng = np.random.default_rng(1)
    truth = float(np.mean(draw(rng, 2_000_000, 1, kind))) if kind == "scores" else 0.0
    hits = 0
    for trial in range(trials):
        low, high = np.percentile(bootstrap_means(draw(rng, prompts, seeds, kind), trial, 1000), [2.5, 97.5])
        hits += low <= truth <= high
    return hits / trials


def rates(trials: int, prompts: int, seeds: int) -> tuple[float, float, float]:
    """Shares of p < 0.05: superiority with no difference; equivalence at the margin, and with no difference (power)."""
    rng = np.random.default_rng(2)
    false = at_margin = equal = 0
    for trial in range(trials):
        means = np.array([g.mean() for g in draw(rng, prompts, seeds, "normal")])
        false += permutation_p(means, trial) < 0.05
        margin = 0.5
        at_margin += (equivalence_p(means + margin, margin) or 0) < 0.05
        equal += (equivalence_p(means, margin) or 0) < 0.05
    return false / trials, at_margin / trials, equal / trials


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000)
    trials = parser.parse_args().trials
    print(
        f"Coverage of the 95 % interval, {trials} simulated studies each (standard error {100 * (0.05 * 0.95 / trials) ** 0.5:.1f} points)\n"
    )
    print("| prompts | seeds | normal values | scores, half of them 5 |\n| ---: | ---: | ---: | ---: |")
    for prompts in (4, 8, 16, 50):
        for seeds in (1, 2, 5):
            figures = [f"{coverage(trials, prompts, seeds, kind):.1%}" for kind in ("normal", "scores")]
            print(f"| {prompts} | {seeds} | " + " | ".join(figures) + " |", flush=True)
    print("\nHow often p < 0.05, spread 1 between prompts, 0.5 between seeds, margin 0.5\n")
    print(
        "| prompts | seeds | superiority, no difference | equivalence, difference = margin | equivalence, no difference |\n| ---: | ---: | ---: | ---: | ---: |"
    )
    for prompts in (8, 16, 50):
        for seeds in (1, 5):
            print(
                f"| {prompts} | {seeds} | " + " | ".join(f"{r:.1%}" for r in rates(trials, prompts, seeds)) + " |",
                flush=True,
            )
    groups = draw(np.random.default_rng(3), 50, 5, "normal")
    between, within = variance_components(groups)
    print(
        f"\nPower from a measured study of 50 prompts x 5 seeds (found: variance {between:.2f} between prompts, {within:.2f} between seeds; true 1 and 0.25)\n"
    )
    print(
        "| true difference | seeds | power at 16 | at 50 prompts | prompts for 80 % |\n| ---: | ---: | ---: | ---: | ---: |"
    )
    for effect in (0.25, 0.5, 1.0):
        for seeds in (1, 5):
            shares = [f"{power(groups, effect, n, seeds):.0%}" for n in (16, 50)]
            print(f"| {effect} | {seeds} | " + " | ".join(shares) + f" | {prompts_needed(groups, effect, seeds)} |")


if __name__ == "__main__":
    main()
