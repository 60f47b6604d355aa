"""Simulated sweeps without any true difference: coverage of intervals, false marks, equivalence. The tables of docs/statistics.md.

    python benchmarks/sweep_statistics.py [--trials 5000] [--sweeps 400] [--out DIR]

In about two minutes on one core. The report's own functions are called on run folders (`report`), and the functions below
them on arrays, which is faster (the other tables).
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from common import markdown, write
from simulated_sweeps import ADAPTERS, KINDS, Truth, Values, cells, compared, load_sweep, redraw, true_mean, write_sweep

from cosmos_exp.report.comparisons import mark_of
from cosmos_exp.report.tables import write_report
from cosmos_exp.statistics.cells import VIDEO
from cosmos_exp.statistics.comparisons import difference, holm
from cosmos_exp.statistics.crossed import LEVEL, estimate

SCENES, RUNS, VARIANCES = (4, 8, 16, 50), (3, 5), (0.0, 0.3, 0.5, 1.0)
MARGIN = 0.25
Row = dict[str, Any]


def designs(kind: str) -> list[Truth]:
    """One training run without run variance, and all others."""
    return [
        Truth(kind, scenes, runs, variance)
        for scenes in SCENES
        for runs in (1, *RUNS)
        for variance in (VARIANCES if runs > 1 else (0.0,))
    ]


def rejected(arms: list[Values], signs: tuple[float, ...], truth: float = 0.0, random_runs: bool = True) -> float:
    """Share of trials in which the test at 5 % rejects the true value: 1 - coverage of the 95 % interval.

    Without spread there is neither test nor interval, and nothing is rejected.
    """
    result = estimate(arms, signs, random_runs)
    spread = result.variance > 1e-20
    return float((spread & (np.where(spread, result.p(truth), 1.0) < LEVEL)).mean())


def null_rates(trials: int) -> list[Row]:
    """For each design: how often a test of no difference rejects, and how often the interval of a mean misses the mean."""
    rng, rows = np.random.default_rng(1), []
    for truth in (t for kind in KINDS for t in designs(kind)):
        two, base = cells(rng, trials, truth), cells(rng, trials, truth, base=True)
        row: Row = {**vars(truth), "two adapters": rejected(two, (-1.0, 1.0))}
        # A score at the end of the scale differs from the base where training runs shift it: no null hypothesis.
        if truth.kind != KINDS[2] or not truth.run_variance:
            row["base"] = rejected(base, (-1.0, 1.0))
        row["mean"] = 1 - rejected(two[:1], (1.0,), true_mean(truth))
        rows.append(row)
    return rows


def null_tables(rows: list[Row]) -> str:
    """The rates as tables: scenes and runs down, run variance across."""
    text = []
    titles = {
        "two adapters": "False positives of two adapters at the 5 % level",
        "base": "False positives of base against adapter at the 5 % level",
        "mean": "Coverage of the 95 % interval of a mean",
    }
    for name, title in titles.items():
        head = ["distribution", "scenes", "1 run", *(f"{r} runs, variance {v:g}" for r in RUNS for v in VARIANCES)]
        body = []
        for kind in KINDS:
            for scenes in SCENES:
                own = [r for r in rows if r["kind"] == kind and r["scenes"] == scenes]
                body.append([kind, scenes, *(f"{100 * r[name]:.1f}" if name in r else "-" for r in own)])
        text.append(f"## {title}, %\n\n{markdown(head, body)}")
    return "\n\n".join(text)


def ignored(trials: int) -> list[Row]:
    """What happens when training runs, shared scenes, or shared training seeds are ignored."""
    rng, rows = np.random.default_rng(2), []
    for runs in (1, 3):
        arms = cells(rng, trials, Truth("normal", 16, runs, 0.5))
        found = rejected(arms, (-1.0, 1.0), random_runs=False)
        rows.append({"case": f"training runs ignored: 16 scenes, {runs} runs, run variance 0.5", "rejected": found})
    arms = [np.repeat(y, 2, axis=1) for y in cells(rng, trials, Truth("normal", 8, 1))]
    twins = [y + 0.3 * rng.normal(size=y.shape) for y in arms]
    rows.append({"case": "8 scenes with 2 prompts as 16 prompts", "rejected": rejected(twins, (-1.0, 1.0))})
    as_scenes = [y.reshape(trials, 8, 2, 1).mean(2) for y in twins]
    rows.append({"case": "8 scenes with 2 prompts as 8 scenes", "rejected": rejected(as_scenes, (-1.0, 1.0))})
    arms = cells(rng, trials, Truth("normal", 16, 3, 0.5, shared_runs=0.5))
    rows.append(
        {"case": "training seeds shared by both adapters, correlation 0.5", "rejected": rejected(arms, (-1, 1))}
    )
    return rows


def scene_differences(rng: np.random.Generator, case: str, scenes: int) -> Values:
    """Differences of one sweep, (scenes,), at or within the margin of 0.25."""
    if case == "-2 points in 1 scene of 8 (at the margin)":
        return np.where(rng.random(scenes) < 1 / 8, -2.0, 0.0) + 0.01 * rng.normal(size=scenes)
    deviation = 0.2 if "0.2" in case else 0.4
    return rng.normal(MARGIN if "at the margin" in case else 0.0, deviation, scenes)


def equivalent(trials: int) -> list[Row]:
    """How often the report calls two adapters equivalent: a false statement at the margin, a true one at no difference."""
    cases = (
        "normal, deviation 0.4, at the margin",
        "-2 points in 1 scene of 8 (at the margin)",
        "normal, deviation 0.4, no difference",
        "normal, deviation 0.2, no difference",
    )
    rng, rows = np.random.default_rng(3), []
    for case in cases:
        for scenes in (8, 16, 24, 50):
            hits = 0
            for _ in range(trials):
                values = scene_differences(rng, case, scenes)
                index = pd.MultiIndex.from_arrays([range(scenes), range(scenes), [0] * scenes], names=VIDEO)
                first, second = pd.DataFrame(np.zeros(scenes), index), pd.DataFrame(values, index)
                hits += holm([difference("a", "b", "instruction", first, second, MARGIN)])[0].is_equivalent
            rows.append({"case": case, "scenes": scenes, "equivalent": hits / trials})
    return rows


def report(sweeps: int, scenes: int = 16) -> list[Row]:
    """False marks of whole reports: base and four adapters, no true difference between recipes, two prompts per scene."""
    rng, rows = np.random.default_rng(4), []
    for runs in (1, 3, 5):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name) / "sweep"
            write_sweep(folder, scenes, runs)
            write_report(folder, Path(name) / "report")  # the whole report can be written of such folders
            study = load_sweep(folder)
            for variance in (0.0, 0.3, 0.5):
                counts = {"recipe": 0, "adapter": 0}
                for _ in range(sweeps):
                    found = compared(study, redraw(rng, study, variance))
                    marks = list(filter(None, map(mark_of, found)))
                    counts["recipe"] += any("(" not in m for m in marks)
                    counts["adapter"] += any("(" in m for m in marks)
                rows.append({"runs": runs, "run_variance": variance, **{k: v / sweeps for k, v in counts.items()}})
    return rows


def percent(share: float) -> str:
    """A share in per cent."""
    return f"{100 * share:.1f}"


def main() -> None:
    """Simulate, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=5000, help="trials per cell of the tables on arrays")
    parser.add_argument("--sweeps", type=int, default=400, help="sweeps per row of the table of whole reports")
    parser.add_argument("--out", type=Path, default=None)
    args = parser.parse_args()
    began, small = time.process_time(), max(args.trials // 5, 1)
    found = {
        "null": null_rates(args.trials),
        "ignored": ignored(args.trials),
        "equivalent": equivalent(small),
        "report": report(args.sweeps),
    }
    seconds = time.process_time() - began
    error = {n: 100 * (0.05 * 0.95 / n) ** 0.5 for n in (args.trials, small, args.sweeps)}
    text = "\n\n".join(
        [
            f"No true difference anywhere. {args.trials} trials per cell: Monte Carlo standard error {error[args.trials]:.1f} points at "
            f"5 %. Scenes have standard deviation 1 (common to adapters) and 1 (each adapter), a video's noise 1, two noises; run variance "
            f"in units of the scenes'. {seconds:.0f} s of CPU time on {os.uname().machine}, numpy {np.__version__}.",
            null_tables(found["null"]),
            "## What goes wrong otherwise\n\n"
            + markdown(
                ["test of two adapters", "false positives, %"],
                [[r["case"], percent(r["rejected"])] for r in found["ignored"]],
            ),
            f"## Equivalence within {MARGIN}, % of {small} sweeps (standard error {error[small]:.1f} points at 5 %)\n\n"
            + markdown(
                ["differences of the scenes", "scenes", "called equivalent, %"],
                [[r["case"], r["scenes"], percent(r["equivalent"])] for r in found["equivalent"]],
            ),
            f"## Whole reports with at least one false mark, % of {args.sweeps} (standard error {error[args.sweeps]:.1f} points at 5 %)\n\n"
            f"Base and {len(ADAPTERS)} adapters, 8 comparisons with Holm's correction, 16 scenes with two prompts that ignore their word.\n\n"
            + markdown(
                ["training runs", "run variance", "about recipes", "in brackets, about these adapters"],
                [[r["runs"], r["run_variance"], percent(r["recipe"]), percent(r["adapter"])] for r in found["report"]],
            ),
        ]
    )
    settings = {"trials": args.trials, "equivalence_trials": small, "sweeps": args.sweeps, "cpu_seconds": seconds}
    write("sweep_statistics", "Statistics of simulated sweeps", text, {"settings": settings, **found}, args.out)


if __name__ == "__main__":
    main()
