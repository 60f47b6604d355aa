"""How well do word_side and word_effect agree with the hand that really moved?

    python benchmarks/words.py --scenes 60 [--runs DIR]

1. Rendered scenes: the truth is known. Each clip is measured under the prompt that names its hand and under the prompt
   that names the other hand; word_side must tell them apart (ROC).
2. --runs: a folder of runs on the tabletop. The hand that moves in a generated video is the one that judge=rules
   detects; word_side is compared with it per video, and word_effect per scene.

Writes benchmarks/results/words_<date>.{json,md} and docs/images/words.png.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from common import device_name, markdown, write
from scipy.stats import bootstrap, mannwhitneyu

from cosmos_exp.data.video import read_video, write_video
from cosmos_exp.files import read_json_lines
from cosmos_exp.metrics.words import motion_map, side_share
from cosmos_exp.report.runs import find_runs
from cosmos_exp.run_folder import RunFolder
from cosmos_exp.tabletop.scene import Scene
from cosmos_exp.tabletop.seeing import probe_video
from cosmos_exp.tabletop.world import HANDS, other_hand

FIRST_SEED = 7_000_000  # scenes that no training, test or tuning uses
IMAGE = Path(__file__).parent.parent / "docs" / "images" / "words.png"


def auc(positive: np.ndarray, negative: np.ndarray) -> float:
    """Probability that a positive exceeds a negative; ties count half."""
    return float(mannwhitneyu(positive, negative).statistic) / (len(positive) * len(negative))


def auc_interval(positive: np.ndarray, negative: np.ndarray) -> tuple[float, float, float]:
    """AUC and its 95 % bootstrap interval. Rows of both arrays are scenes, which are resampled together."""

    def of(scenes: np.ndarray) -> float:
        return auc(positive[scenes].ravel(), negative[scenes].ravel())

    everything = np.arange(len(positive))
    ends = bootstrap(
        (everything,), lambda s: of(s.astype(int)), vectorized=False, n_resamples=1000, method="percentile", rng=0
    ).confidence_interval
    return of(everything), float(ends.low), float(ends.high)


def rendered(scenes: int, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """word_side of rendered clips under the right and under the wrong prompt, (scenes, 2 hands) each."""
    right = np.zeros((scenes, len(HANDS)))
    wrong = np.zeros_like(right)
    for row in range(scenes):
        for column, hand in enumerate(HANDS):
            path = folder / "clip.mp4"
            write_video(path, Scene.sample(FIRST_SEED + row, "robot", hand).clip().frames, 8)
            motion = motion_map(read_video(path))
            right[row, column] = side_share([motion], hand) or 0.5
            wrong[row, column] = side_share([motion], other_hand(hand)) or 0.5
    return right, wrong


def moved_hand(path: Path) -> str | None:
    """The hand that reaches out in more frames of a generated video; None if neither or both alike."""
    frames = probe_video(read_video(path)).side_frames
    left, right = (frames[h] for h in HANDS)
    return None if left == right else HANDS[int(right > left)]


def generated(run: RunFolder) -> list[dict[str, Any]]:
    """One row per video: the named hand, the hand that moved, word_side, and the judge's instruction score."""
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    for score in read_json_lines(run.scores):
        row = rows.setdefault((score["sample"], score["seed"]), {"run": run.path.name, "sample": score["sample"]})
        row |= {score["measure"]: score["value"], "video": score["video"], "named": score["sample"].rsplit("_", 1)[1]}
    for row in rows.values():
        row["moved"] = moved_hand(run.videos / row["video"])
    return list(rows.values())


def draw(curves: dict[str, tuple[np.ndarray, np.ndarray, float]]) -> None:
    """ROC curves of word_side."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4.4, 4.2), layout="constrained")
    ax = figure.subplots()
    for name, (positive, negative, area) in curves.items():
        limits = np.sort(np.concatenate([positive, negative, [-np.inf, np.inf]]))[::-1]
        false, true = ([float((v >= limit).mean()) for limit in limits] for v in (negative, positive))
        ax.plot(false, true, label=f"{name}: AUC {area:.3f}")
    ax.plot([0, 1], [0, 1], color="0.7", lw=0.8)
    ax.set_xlabel("other hand moved: called the named hand")
    ax.set_ylabel("named hand moved: called the named hand")
    ax.set_title("word_side against the hand that moved", fontsize=10)
    ax.legend(loc="lower right", fontsize=8)
    figure.savefig(IMAGE, dpi=120, metadata={"Software": None})


def run_table(rows: list[dict[str, Any]]) -> str:
    """One line per run: how often the named hand moved, and what the measures say."""
    lines = []
    for name in dict.fromkeys(r["run"] for r in rows):
        own = [r for r in rows if r["run"] == name]
        named = sum(r["moved"] == r["named"] for r in own)
        effects = [r["word_effect"] for r in own if r.get("word_effect") is not None]
        means = (np.mean([r[m] for r in own if r.get(m) is not None]) for m in ("word_side", "instruction"))
        effect = f"{np.mean(effects):.2f} ({min(effects):.2f} to {max(effects):.2f})" if effects else "-"
        lines.append([name, f"{named} of {len(own)}", *(f"{m:.2f}" for m in means), effect])
    return markdown(["run", "named hand moved", "word_side", "instruction", "word_effect (lowest to highest)"], lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=int, default=60, help="rendered scenes, each with either hand")
    parser.add_argument("--runs", type=Path, help="folder of runs on the tabletop with judge=rules")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        right, wrong = rendered(args.scenes, Path(folder))
    area, low, high = auc_interval(right, wrong)
    curves = {f"rendered ({args.scenes} scenes)": (right.ravel(), wrong.ravel(), area)}
    parts = [
        f"Rendered: {args.scenes} scenes with either hand. word_side under the right prompt {right.mean():.3f} (lowest "
        f"{right.min():.3f}), under the wrong one {wrong.mean():.3f} (highest {wrong.max():.3f}). "
        f"AUC {area:.3f} [{low:.3f}, {high:.3f}] over scenes."
    ]
    data: dict[str, Any] = {"rendered": {"right": right.tolist(), "wrong": wrong.tolist(), "auc": [area, low, high]}}
    if args.runs:
        rows = [row for run in find_runs(args.runs) for row in generated(run)]
        clear = [r for r in rows if r["moved"] and r["word_side"] is not None]
        positive = np.array([r["word_side"] for r in clear if r["moved"] == r["named"]])
        negative = np.array([r["word_side"] for r in clear if r["moved"] != r["named"]])
        area = auc(positive, negative)
        curves[f"generated ({len(clear)} videos)"] = (positive, negative, area)
        agree = float(np.mean([(r["word_side"] > 0.5) == (r["moved"] == r["named"]) for r in clear]))
        parts.append(
            f"Generated: {len(clear)} of {len(rows)} videos in which one hand moves more (judge=rules detects it): the named "
            f"one in {len(positive)}. AUC {area:.3f}; word_side > 0.5 agrees with the judge's hand in {agree:.1%}."
        )
        parts.append(run_table(rows))
        data["generated"] = {"rows": rows, "auc": area, "agreement": agree}
    draw(curves)
    parts.append(f"{device_name()}.")
    write("words", "word_side and word_effect against the hand that moved", "\n\n".join(parts), data)


if __name__ == "__main__":
    main()
