"""In how many videos of a sweep by arms only the named hand reached out, by arm and learning rate (tuning) and by training run.

    python benchmarks/ablation_hands.py docs/ablation           # two tables: tuning and test
    python benchmarks/ablation_hands.py docs/ablation --cross   # rank, scaling rule and initialisation by learning rate

Reads scores.jsonl of every run that sweep.json lists: judge=rules gives its reasons in `detail`. With --cross also the tuning
runs in docs/ablation_cross, beside it. Prints Markdown tables.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import yaml
from scipy.stats import binomtest
from words_study import hand

from cosmos_exp.files import JsonObject, read_json_lines

USED_BEFORE = 8  # the first scenes of the test were test scenes of earlier recipes, too (docs/tabletop.md)


def instruction_rows(run: Path) -> list[JsonObject]:
    """The instruction scores of a run's videos, one row per video."""
    return [r for r in read_json_lines(run / "scores.jsonl") if r["measure"] == "instruction"]


def obeyed(run: Path) -> str:
    """`15 of 16`: videos in which the named hand reached out and no other; unscored videos are counted apart."""
    rows = instruction_rows(run)
    scored = [r for r in rows if r["value"] is not None]
    hands = sum(hand(str(r["detail"].get("answer"))) is True for r in scored)
    unscored = f" ({len(rows) - len(scored)} unscored)" if len(scored) < len(rows) else ""
    return f"{hands} of {len(scored)}{unscored}" if scored else f"all {len(rows)} unscored"


def scenes_obeyed(run: Path, first: int = 0) -> tuple[int, int]:
    """Scenes, from number `first` on, in which every prompt's hand alone reached out, and their number."""
    scenes: dict[str, bool] = {}
    for row in instruction_rows(run):
        scene = row["sample"].rsplit("_", 1)[0]
        if int(scene.rsplit("_", 1)[1]) >= first:
            scenes[scene] = scenes.get(scene, True) and hand(str(row["detail"].get("answer"))) is True
    return sum(scenes.values()), len(scenes)


def tuning_table(sweep: Path, record: JsonObject) -> list[str]:
    """Rows of arms, columns of values; the chosen ones in bold."""
    choices = record["tuning"]["choices"]
    keys = [", ".join(str(v) for v in p["values"].values()) for p in choices[0]["points"]]
    lines = ["| arm | " + " | ".join(keys) + " |", "|" + " --- |" * (len(keys) + 1)]
    for choice in choices:
        cells = [
            "; ".join(obeyed(sweep / run) for run in p["runs"]) if p["score"] is not None else "–"
            for p in choice["points"]
        ]
        chosen = [p["values"] == choice["chosen"] for p in choice["points"]]
        cells = [f"**{c}**" if bold else c for c, bold in zip(cells, chosen, strict=True)]
        lines.append(f"| {choice['arm']} | " + " | ".join(cells) + " |")
    return lines


def test_table(sweep: Path, record: JsonObject) -> list[str]:
    """Rows of arms: videos and scenes of each training run, with exact 95 % intervals of the scenes' share."""
    heads = [
        "arm",
        "tuned",
        "videos",
        "scenes in which both words are obeyed",
        f"without the first {USED_BEFORE} scenes",
    ]
    lines = ["| " + " | ".join(heads) + " |", "|" + " --- |" * len(heads)]
    for arm in record["arms"]:
        tuned = ", ".join(str(v) for v in (arm["tuned"] or {}).values())
        runs = [sweep / r for r in arm["runs"] if (sweep / r / "scores.jsonl").is_file()]
        videos = ", ".join(obeyed(r) for r in runs)
        lines.append(f"| {arm['name']} | {tuned} | {videos} | {_shares(runs)} | {_shares(runs, USED_BEFORE, False)} |")
    return lines


def _shares(runs: list[Path], first: int = 0, intervals: bool = True) -> str:
    found = []
    for run in runs:
        count, number = scenes_obeyed(run, first)
        low, high = binomtest(count, number).proportion_ci()  # Clopper-Pearson
        found.append(f"{count} of {number}" + (f" [{100 * low:.0f}, {100 * high:.0f} %]" if intervals else ""))
    return ", ".join(found)


def cross_table(sweep: Path) -> list[str]:
    """Rows of scaling rule, initialisation and rank; columns of learning rates; an empty cell was not run."""
    cells: dict[tuple[str, str, int], dict[float, str]] = {}
    for run in [*(sweep / "tune").glob("lora-*"), *(sweep.parent / "ablation_cross" / "tune").glob("*")]:
        config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
        adapter = config["adapter"]
        row = cells.setdefault((adapter["scaling"], adapter["init"], adapter["rank"]), {})
        row[config["training"]["learning_rate"]] = obeyed(run)
    rates = sorted({rate for row in cells.values() for rate in row})
    lines = ["| scaling | init of A | rank | " + " | ".join(str(r) for r in rates) + " |"]
    lines.append("|" + " --- |" * (3 + len(rates)))
    for (scaling, init, rank), row in sorted(cells.items(), key=lambda item: (item[0][0] != "standard", item[0])):
        found = [row.get(rate, "") for rate in rates]
        lines.append(f"| {scaling} | {init} | {rank} | " + " | ".join(found) + " |")
    return lines


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweep", type=Path)
    parser.add_argument("--cross", action="store_true", help="rank crossed with scaling rule and initialisation")
    args = parser.parse_args()
    sweep = args.sweep
    if args.cross:
        print("\n".join(cross_table(sweep)))
        return
    record = json.loads((sweep / "sweep.json").read_text(encoding="utf-8"))
    print("\n".join([*tuning_table(sweep, record), "", *test_table(sweep, record)]))


if __name__ == "__main__":
    main()
