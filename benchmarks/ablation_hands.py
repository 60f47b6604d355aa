"""In how many videos of a sweep by arms only the named hand reached out, by arm and training run.

    tar -xf docs/ablation.tar.xz -C outputs
    python benchmarks/ablation_hands.py outputs/ablation

Reads scores.jsonl of every run below the folder: judge=rules gives its reasons in `detail`. Prints two Markdown tables: tuning and test.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

from cosmos_exp.config.arms import without_seed
from cosmos_exp.files import read_json_lines

FAILED = ("no hand reached out", "hand reached out, too", "hand did not reach out")


def obeyed(folder: Path) -> tuple[int, int]:
    """Videos of a run in which only the named hand reached out, and videos that the judge scored for `instruction`."""
    answers = []
    for row in read_json_lines(folder / "scores.jsonl"):
        if row["measure"] == "instruction" and row["value"] is not None:
            answers.append(str(row["detail"].get("answer")))
    return sum(not any(words in answer for words in FAILED) for answer in answers), len(answers)


def main() -> None:
    """Print the tables."""
    rows = []
    for file in sorted(Path(sys.argv[1]).rglob("scores.jsonl")):
        if "references" not in file.parts:
            run, (count, videos) = file.parent, obeyed(file.parent)
            rows.append({"phase": run.parent.name, "arm": without_seed(run.name), "obeyed": str(count), "of": videos})
    for phase, runs in pd.DataFrame(rows).groupby("phase", sort=False):
        table = runs.groupby("arm", sort=False).agg({"obeyed": ", ".join, "of": "max"})
        print(f"{phase}\n\n{table.to_markdown()}\n")


if __name__ == "__main__":
    main()
