"""How well do word_side and word_effect agree with the hand that really moved?

    python benchmarks/words.py --scenes 60 [--runs DIR]

1. Rendered scenes: the truth is known. Each clip is measured under the prompt that names its hand and under the prompt
   that names the other hand; word_side must tell them apart (ROC).
2. --runs: a folder of runs on the tabletop, or a study's committed records. The hand that moves in a generated video is the one that
   judge=rules names in its reasons; word_side is compared with it per video.

Writes benchmarks/results/words_<date>.{json,md}.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from ablation_hands import hand
from common import device_name, write
from scipy.stats import bootstrap, mannwhitneyu

from cosmos_exp.files import JsonObject, read_json_lines
from cosmos_exp.metrics.prompt_sensitivity import motion_map, side_share
from cosmos_exp.tabletop.scene import Scene
from cosmos_exp.tabletop.world import HANDS, other_hand

FIRST_SEED = 7_000_000  # scenes that no training, test or tuning uses


def auc(rows: pd.DataFrame) -> float:
    """Probability that word_side of a clip whose word is obeyed exceeds that of another; ties count half."""
    yes, no = rows.loc[rows["obeyed"], "word_side"], rows.loc[~rows["obeyed"], "word_side"]
    if not len(yes) or not len(no):
        return float("nan")
    return float(mannwhitneyu(yes, no).statistic) / (len(yes) * len(no))


def roc(rows: pd.DataFrame) -> JsonObject:
    """AUC with its 95 % bootstrap interval over scenes, and the share of right calls above 0.5."""
    scenes = dict(list(rows.groupby("scene")))
    names = np.array(sorted(scenes))

    def resampled(chosen: np.ndarray) -> float:
        return auc(pd.concat([scenes[names[k]] for k in chosen.astype(int)]))

    ends = bootstrap(
        (np.arange(len(names)),), resampled, vectorized=False, n_resamples=1000, method="percentile", rng=0
    ).confidence_interval
    right = (rows["word_side"] > 0.5) == rows["obeyed"]
    out = {"scenes": len(names), "videos": len(rows), "obeyed": int(rows["obeyed"].sum()), "AUC": auc(rows)}
    return out | {"low": float(ends.low), "high": float(ends.high), "right above 0.5": int(right.sum())}


def rendered(count: int) -> pd.DataFrame:
    """word_side of rendered clips under the right and under the wrong prompt."""
    rows = []
    for number in range(count):
        for moved in HANDS:
            motion = motion_map(Scene.sample(FIRST_SEED + number, "robot", moved).clip().frames)
            for named in (moved, other_hand(moved)):
                share = side_share([motion], named)
                rows.append({"scene": number, "word_side": share or 0.5, "obeyed": named == moved})
    return pd.DataFrame(rows)


def generated(folder: Path) -> pd.DataFrame:
    """word_side of every scored video below a folder in which one hand alone reached out, by the judge's reasons."""
    rows = []
    for file in sorted(folder.rglob("scores.jsonl")):
        scores = pd.DataFrame(read_json_lines(file))
        for (sample, _), group in scores.groupby(["sample", "seed"]):
            by_measure = group.set_index("measure")
            if not {"word_side", "instruction"} <= set(by_measure.index):
                continue
            obeyed = hand(str(by_measure.loc["instruction", "detail"].get("answer")))
            side = by_measure.loc["word_side", "value"]
            if obeyed is not None and side == side:
                rows.append({"scene": sample.rsplit("_", 1)[0], "word_side": float(side), "obeyed": obeyed})
    return pd.DataFrame(rows)


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=60, help="rendered scenes, each with either hand")
    parser.add_argument("--runs", type=Path, help="folder of runs on the tabletop with judge=rules")
    args = parser.parse_args()
    clips = {"rendered": rendered(args.scenes)}
    if args.runs:
        clips["generated"] = generated(args.runs)
    results = [{"clips": name, **roc(rows)} for name, rows in clips.items()]
    right = clips["rendered"].groupby("obeyed")["word_side"].agg(["mean", "min", "max"])
    text = f"""{pd.DataFrame(results).to_markdown(index=False, floatfmt=".3f")}

Rendered clips, word_side under the prompt of the other hand and under the right one:

{right.to_markdown(floatfmt=".3f")}

{device_name()}."""
    write("words", "word_side against the hand that moved", text, results)


if __name__ == "__main__":
    main()
