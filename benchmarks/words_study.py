"""word_side and word_effect beside the hand that the judge names, from committed records: no video is needed.

    python benchmarks/words_study.py docs/ablation benchmarks/results/words_2026-11-24.json

1. word_side of every test video of a study against the hand that reached out (judge=rules, `detail.answer`): ROC by run.
2. word_effect of every scene and start noise in a result file of benchmarks/words.py: does the word change the hand?

Prints two tables and writes benchmarks/results/words_study_<date>.{json,md}. Intervals: bootstrap over scenes.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from common import markdown, write
from scipy.stats import mannwhitneyu

from cosmos_exp.files import JsonObject, read_json_lines

RESAMPLES = 2000


class Case(NamedTuple):
    """A value of a measure in a scene, and whether the word was obeyed; None: it cannot be told."""

    scene: str
    value: float
    obeyed: bool | None


def hand(answer: str) -> bool | None:
    """Whether only the named hand reached out, by the judge's reasons; None if neither or both did."""
    if "no hand reached out" in answer or "hand reached out, too" in answer:
        return None
    return "hand did not reach out" not in answer


def side_cases(run: Path) -> list[Case]:
    """word_side and the judge's hand of each test video of a run."""
    found: dict[tuple[str, int], dict[str, JsonObject]] = defaultdict(dict)
    for row in read_json_lines(run / "scores.jsonl"):
        found[row["sample"], row["seed"]][row["measure"]] = row
    cases = []
    for (sample, _), rows in found.items():
        value = rows["word_side"]["value"]
        if value is not None and rows["instruction"]["value"] is not None:
            cases.append(Case(sample.rsplit("_", 1)[0], value, hand(str(rows["instruction"]["detail"]["answer"]))))
    return cases


def effect_cases(rows: Sequence[JsonObject]) -> list[Case]:
    """word_effect of each scene and start noise, and whether each prompt's named hand moved."""
    found: dict[tuple[str, str, str], list[JsonObject]] = defaultdict(list)
    for row in rows:
        scene, seed = row["sample"].rsplit("_", 1)[0], row["video"].rsplit("seed", 1)[1]
        found[row["run"], scene, seed].append(row)
    cases = []
    for (_, scene, _), pair in found.items():
        (value,) = [r["word_effect"] for r in pair if r.get("word_effect") is not None]
        known = all(r["moved"] is not None for r in pair)
        cases.append(Case(scene, value, all(r["moved"] == r["named"] for r in pair) if known else None))
    return cases


def roc(cases: Sequence[Case]) -> JsonObject:
    """AUC of the value for obeyed against not obeyed, with its interval over scenes, and the share of right calls above 0.5."""
    clear = [c for c in cases if c.obeyed is not None]
    scenes = sorted({c.scene for c in clear})
    groups = [[c for c in clear if c.scene == s] for s in scenes]
    rng = np.random.default_rng(0)
    areas = [
        _auc([c for k in rng.integers(len(groups), size=len(groups)) for c in groups[k]]) for _ in range(RESAMPLES)
    ]
    known = [a for a in areas if a is not None]
    yes, no = ([c.value for c in clear if c.obeyed is flag] for flag in (True, False))
    return {
        "scenes": len(scenes),
        "obeyed": len(yes),
        "not obeyed": len(no),
        "unclear": len(cases) - len(clear),
        "auc": _auc(clear),
        "interval": [float(q) for q in np.quantile(known, (0.025, 0.975))] if known else None,
        "right above 0.5": int(sum(v > 0.5 for v in yes) + sum(v <= 0.5 for v in no)),
        "lowest obeyed": min(yes, default=None),
        "highest not obeyed": max(no, default=None),
    }


def _auc(cases: Sequence[Case]) -> float | None:
    yes, no = ([c.value for c in cases if c.obeyed is flag] for flag in (True, False))
    return float(mannwhitneyu(yes, no).statistic) / (len(yes) * len(no)) if yes and no else None


def table(results: Mapping[str, JsonObject], what: str) -> str:
    """One line per group."""
    head = [what, "scenes", "obeyed", "not obeyed", "unclear", "AUC [95 %]", "lowest obeyed", "highest not obeyed"]
    lines = []
    for name, r in results.items():
        area = "-" if r["auc"] is None else f"{r['auc']:.3f} [{', '.join(f'{e:.3f}' for e in r['interval'])}]"
        ends = ["-" if r[k] is None else f"{r[k]:.2f}" for k in ("lowest obeyed", "highest not obeyed")]
        lines.append([name, *(str(r[k]) for k in ("scenes", "obeyed", "not obeyed", "unclear")), area, *ends])
    return markdown(head, lines)


def main() -> None:
    """Print and write both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("words", type=Path)
    args = parser.parse_args()
    record = json.loads((args.study / "sweep.json").read_text(encoding="utf-8"))
    by_arm = {a["name"]: [c for r in a["runs"] for c in side_cases(args.study / r)] for a in record["arms"]}
    by_arm = {"all": [c for cases in by_arm.values() for c in cases], **by_arm}
    rows = json.loads(args.words.read_text(encoding="utf-8"))["generated"]["rows"]
    by_run = {"all": effect_cases(rows)}
    by_run |= {n: effect_cases([r for r in rows if r["run"] == n]) for n in dict.fromkeys(r["run"] for r in rows)}
    data = {
        "word_side": {name: roc(cases) for name, cases in by_arm.items()},
        "word_effect": {name: roc(cases) for name, cases in by_run.items()},
    }
    whole = data["word_side"]["all"]
    clear = whole["obeyed"] + whole["not obeyed"]
    text = "\n\n".join(
        [
            "word_side of single videos; obeyed: only the named hand reached out (judge=rules).",
            table(data["word_side"], "arm"),
            f"word_side above 0.5 agrees with the judge in {whole['right above 0.5']} of {clear} videos.",
            "word_effect of scenes and start noises; obeyed: each prompt's named hand moved.",
            table(data["word_effect"], "run"),
        ]
    )
    write("words_study", "word_side and word_effect beside the named hand", text, data)


if __name__ == "__main__":
    main()
