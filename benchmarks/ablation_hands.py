"""In how many videos of a sweep by arms the named hand reached out, by arm and learning rate (tuning) and by training run.

    python benchmarks/ablation_hands.py docs/ablation

Reads scores.jsonl of every run that sweep.json lists: judge=rules gives its reasons in `detail`. Prints two Markdown tables.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from cosmos_exp.files import JsonObject, read_json_lines

IGNORED = "hand did not reach out"


def obeyed(run: Path) -> str:
    """`15 of 16`: videos in which the named hand reached out; unscored videos are counted apart."""
    rows = [r for r in read_json_lines(run / "scores.jsonl") if r["measure"] == "instruction"]
    scored = [r for r in rows if r["value"] is not None]
    hands = sum(IGNORED not in str(r["detail"].get("answer")) for r in scored)
    unscored = f" ({len(rows) - len(scored)} unscored)" if len(scored) < len(rows) else ""
    return f"{hands} of {len(scored)}{unscored}" if scored else f"all {len(rows)} unscored"


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
    """Rows of arms with their tuned values and the count of each training run."""
    lines = ["| arm | tuned | named hand, by training run |", "| --- | --- | --- |"]
    for arm in record["arms"]:
        tuned = ", ".join(str(v) for v in (arm["tuned"] or {}).values())
        runs = [obeyed(sweep / r) for r in arm["runs"] if (sweep / r / "scores.jsonl").is_file()]
        lines.append(f"| {arm['name']} | {tuned} | {', '.join(runs)} |")
    return lines


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sweep", type=Path)
    sweep = parser.parse_args().sweep
    record = json.loads((sweep / "sweep.json").read_text(encoding="utf-8"))
    print("\n".join([*tuning_table(sweep, record), "", *test_table(sweep, record)]))


if __name__ == "__main__":
    main()
