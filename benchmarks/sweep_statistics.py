"""Simulated sweeps with known truth: coverage of the interval, false positives, equivalence; power of a measured sweep.

    python benchmarks/sweep_statistics.py [--trials 1000]

Prints the tables of docs/statistics.md, in about two minutes on one core.
"""

from __future__ import annotations

import argparse

import numpy as np

from cosmos_exp.statistics.comparisons import equivalence_p, permutation_p
from cosmos_exp.statistics.intervals import Groups, bootstrap_means
from cosmos_exp.statistics.power import power, prompts_needed, variance_components

MARGIN = 0.5


def draw(rng: np.random.Generator, prompts: int, seeds: int, kind: str, mean: float = 0.0) -> Groups:
    """Values of one sweep with standard deviation 1 between prompts and 0.5 between seeds.

    `kind` is normal, or scores: whole numbers from 1 to 5, half of them 5.
    """
    level = rng.normal(mean, 1, (prompts, 1)) + rng.normal(0, 0.5, (prompts, seeds))
    if kind == "scores":
        level = np.clip(np.rint(4.6 + level), 1, 5)
    return list(level)


def coverage(trials: int, prompts: int, seeds: int, kind: str) -> float:
    """Fraction of 95 % intervals that contain the true mean (of scores: the mean of two million draws)."""
    rng = np.random.default_rng(1)
    truth = float(np.mean(draw(rng, 2_000_000, 1, kind))) if kind == "scores" else 0.0
    hits = 0
    for trial in range(trials):
        low, high = np.percentile(bootstrap_means(draw(rng, prompts, seeds, kind), trial, 1000), [2.5, 97.5])
        hits += low <= truth <= high
    return hits / trials


def rates(trials: int, prompts: int, seeds: int) -> tuple[float, float, float]:
    """Fractions of p < 0.05: superiority without a difference; equivalence at the margin, and without a difference."""
    rng = np.random.default_rng(2)
    false = at_margin = equal = 0
    for trial in range(trials):
        means = np.array([g.mean() for g in draw(rng, prompts, seeds, "normal")])
        false += permutation_p(means, trial) < 0.05
        at_margin += (equivalence_p(means + MARGIN, MARGIN) or 0) < 0.05
        equal += (equivalence_p(means, MARGIN) or 0) < 0.05
    return false / trials, at_margin / trials, equal / trials


def print_row(*cells: object) -> None:
    """Print one row of a Markdown table."""
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def print_head(*cells: str) -> None:
    """Print the header of a Markdown table with right-aligned columns."""
    print_row(*cells)
    print("|" + " ---: |" * len(cells))


def print_coverage(trials: int) -> None:
    """The table of coverage."""
    error = 100 * (0.05 * 0.95 / trials) ** 0.5
    print(f"Coverage of the 95 % interval, {trials} simulated sweeps each (standard error {error:.1f} points)\n")
    print_head("prompts", "seeds", "normal values", "scores, half of them 5")
    for prompts in (4, 8, 16, 50):
        for seeds in (1, 2, 5):
            print_row(prompts, seeds, *(f"{coverage(trials, prompts, seeds, k):.1%}" for k in ("normal", "scores")))


def print_rates(trials: int) -> None:
    """The table of false positives and of the power of the test of equivalence."""
    print(f"\nHow often p < 0.05, spread 1 between prompts, 0.5 between seeds, margin {MARGIN}\n")
    tests = ("superiority, no difference", "equivalence, difference = margin", "equivalence, no difference")
    print_head("prompts", "seeds", *tests)
    for prompts in (8, 16, 50):
        for seeds in (1, 5):
            print_row(prompts, seeds, *(f"{r:.1%}" for r in rates(trials, prompts, seeds)))


def print_power() -> None:
    """The table of power and sample size."""
    groups = draw(np.random.default_rng(3), 50, 5, "normal")
    between, within = variance_components(groups)
    found = f"variance {between:.2f} between prompts, {within:.2f} between seeds; true 1 and 0.25"
    print(f"\nPower from a measured sweep of 50 prompts x 5 seeds (found: {found})\n")
    print_head("true difference", "seeds", "power at 16", "at 50 prompts", "prompts for 80 %")
    for effect in (0.25, 0.5, 1.0):
        for seeds in (1, 5):
            found_power = [f"{power(groups, effect, n, seeds):.0%}" for n in (16, 50)]
            print_row(effect, seeds, *found_power, prompts_needed(groups, effect, seeds))


def main() -> None:
    """Print all tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=1000, help="simulated sweeps per row; 0: only the power")
    trials = parser.parse_args().trials
    if trials:
        print_coverage(trials)
        print_rates(trials)
    print_power()


if __name__ == "__main__":
    main()
