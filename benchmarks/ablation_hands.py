"""In how many videos of a sweep by arms only the named hand reached out, by arm and learning rate (tuning) and by training run.

    tar -xf docs/ablation.tar.xz -C outputs && tar -xf docs/ablation_cross.tar.xz -C outputs
    python benchmarks/ablation_hands.py outputs/ablation        # two tables: tuning and test
    python benchmarks/ablation_hands.py outputs/ablation_cross  # tuning runs alone: rank, scaling rule and initialisation

Reads scores.jsonl and config.yaml of every run below the folder: judge=rules gives its reasons in `detail`. Prints Markdown tables.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import pandas as pd
import yaml
from scipy.stats import binomtest

from cosmos_exp.files import read_json_lines

ARM = ("kind", "rank", "scaling", "init", "truncate_from")


def hand(answer: str) -> bool | None:
    """Whether only the named hand reached out, by the judge's reasons; None if neither or both did."""
    if "no hand reached out" in answer or "hand reached out, too" in answer:
        return None
    return "hand did not reach out" not in answer


def videos(folder: Path) -> pd.DataFrame:
    """A row for each scored video of every run below `folder`: its arm, rate, scene and whether the word was obeyed."""
    rows = []
    for file in sorted(folder.rglob("scores.jsonl")):
        if "references" in file.parts:
            continue
        config = yaml.safe_load((file.parent / "config.yaml").read_text(encoding="utf-8"))
        run = {"tuning": file.parent.parent.name == "tune", "run": file.parent.name}
        for key in ARM:
            run[key] = str(config["adapter"].get(key))
        run["rate"] = config["training"]["learning_rate"]
        for row in read_json_lines(file):
            if row["measure"] == "instruction" and row["value"] is not None:
                obeyed = hand(str(row["detail"].get("answer"))) is True
                rows.append({**run, "scene": row["sample"].rsplit("_", 1)[0], "obeyed": obeyed})
    return pd.DataFrame(rows)


def of_videos(obeyed: pd.Series) -> str:
    """`15 of 16`."""
    return f"{obeyed.sum()} of {len(obeyed)}"


def tuning_table(rows: pd.DataFrame) -> str:
    """Arms down, learning rates across."""
    cells = rows.pivot_table(index=list(ARM), columns="rate", values="obeyed", aggfunc=of_videos, fill_value="")
    return cells.reset_index().to_markdown(index=False)


def test_table(rows: pd.DataFrame) -> str:
    """A line per training run: videos, and scenes in which both words are obeyed with the exact 95 % interval of their share."""
    lines = []
    for name, run in rows.groupby("run"):
        scenes = run.groupby("scene")["obeyed"].all()
        ends = binomtest(int(scenes.sum()), len(scenes)).proportion_ci()  # Clopper-Pearson
        interval = f"[{100 * ends.low:.0f}, {100 * ends.high:.0f} %]"
        lines.append({"run": name, "videos": of_videos(run["obeyed"]), "scenes": f"{of_videos(scenes)} {interval}"})
    return pd.DataFrame(lines).to_markdown(index=False)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweep", type=Path)
    rows = videos(parser.parse_args().sweep)
    if rows["tuning"].any():
        print(tuning_table(rows[rows["tuning"]]), end="\n\n")
    if not rows["tuning"].all():
        print(test_table(rows[~rows["tuning"]]))


if __name__ == "__main__":
    main()
