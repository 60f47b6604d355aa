"""Training runs that either learn or fail: how often does a report claim a difference of a recipe from the base that is none?

    python benchmarks/failing_runs.py [--sweeps 300] [--seed 11] [--out DIR]

The report's own functions on run folders of a base and four adapters, 16 scenes with two prompts. The recipes' mean is that of
the base: what the runs that learn gain, the others lose. Half a minute on one core.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from common import markdown, write
from simulated_sweeps import compared, load_sweep, redraw, write_sweep

from cosmos_exp.statistics.crossed import LEVEL

SCENES = 16
CASES = [(runs, failing, size) for runs in (3, 5) for failing in (0.0, 0.5, 0.3, 0.1) for size in (1.0, 4.0)]


def rates(sweeps: int, seed: int) -> list[dict[str, Any]]:
    """For each case the share of comparisons with the base that are significant, and that are so without condition."""
    rng, rows = np.random.default_rng(seed), []
    for runs in sorted({case[0] for case in CASES}):
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name) / "sweep"
            write_sweep(folder, SCENES, runs)
            study = load_sweep(folder)
            for _, failing, size in (case for case in CASES if case[0] == runs):
                found = []
                for _ in range(sweeps):
                    scores = redraw(rng, study, size, failing)
                    own = [d for d in compared(study, scores) if d.a == "base" and d.recipe]
                    found += [(d.p is not None and d.p < LEVEL, d.few_runs is None) for d in own]
                row = {"runs": runs, "failing": failing, "run_variance": size, "comparisons": len(found)}
                row["significant"] = float(np.mean([p for p, _ in found]))
                rows.append(row | {"unconditional": float(np.mean([p and sure for p, sure in found]))})
    return rows


def main() -> None:
    """Simulate, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--sweeps", type=int, default=200, help="sweeps per case, each with four comparisons with the base"
    )
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--out", type=Path, default=None)
    args = parser.parse_args()
    rows = rates(args.sweeps, args.seed)
    head = ["runs", "runs that fail", "run variance", "p < 0.05, %", "without condition, %"]
    body = [
        [
            str(r["runs"]),
            f"{r['failing']:.0%}" if r["failing"] else "none (normal)",
            f"{r['run_variance']:g}",
            f"{100 * r['significant']:.1f}",
            f"{100 * r['unconditional']:.1f}",
        ]
        for r in rows
    ]
    error = 100 * (0.05 * 0.95 / args.sweeps) ** 0.5
    text = (
        f"No true difference between base and recipe. {SCENES} scenes, {args.sweeps} sweeps of four comparisons per row (they share "
        f"the base; standard error at most {error:.1f} points at 5 %). Run variance in units of the scenes'.\n\n{markdown(head, body)}"
    )
    settings = {"sweeps": args.sweeps, "seed": args.seed, "scenes": SCENES}
    write("failing_runs", "Training runs that learn or fail", text, {"settings": settings, "rows": rows}, args.out)


if __name__ == "__main__":
    main()
