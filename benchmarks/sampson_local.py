"""Can the worst places of a frame tell local melting from clean clips? Candidates for a local Sampson error, on real clips.

    python benchmarks/sampson_local.py --data DIR [--frames 9]

DIR holds videos (searched in subfolders). Each clip is cut at 272x480. A smooth random warp within a disc of 70 px either
grows over the clip to 2, 4 or 8 px (melt) or appears in every other frame (flicker). Prints, for each candidate, the AUC of warped
against clean clips, and the share of clips whose own value rises. Writes benchmarks/results/sampson_local_<date>.md and .json.
"""

from __future__ import annotations

import argparse
import datetime
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from common import json_text

from cosmos_exp.config.registry import MATCHERS
from cosmos_exp.config.schema import Sampson
from cosmos_exp.data.video import read_video
from cosmos_exp.metrics.geometry.epipolar import sampson_distance
from cosmos_exp.metrics.geometry.matching import Matcher
from cosmos_exp.metrics.geometry.robust import RobustFit, robust_fit
from cosmos_exp.metrics.geometry.temporal import track_view
from cosmos_exp.metrics.geometry.views import View

SIZE = (480, 272)
DISC, CELL, FEW = 70, 40, 6  # pixels, pixels, matches of a cell
SETTINGS = Sampson(repeats=2, max_keypoints=1200)


def clips(folder: Path, frames: int, per_video: int) -> Iterator[np.ndarray]:
    """Clips of each video, evenly spread, uint8 (T, H, W, 3). A grid of 2x2 views is cut into its tiles."""
    for path in sorted(folder.rglob("*.mp4")):
        video = read_video(path)
        tall, wide = video.shape[1] // 2, video.shape[2] // 2
        grid = "2x2" in path.name
        corners = [(0, 0), (0, 1), (1, 0)] if grid else [(0, 0)]
        for row, column in corners:
            view = video[:, row * tall : (row + 1) * tall, column * wide : (column + 1) * wide] if grid else video
            for first in np.linspace(0, len(view) - frames, per_video).astype(int):
                yield np.stack(
                    [cv2.resize(f, SIZE, interpolation=cv2.INTER_AREA) for f in view[first : first + frames]]
                )


def warped(clip: np.ndarray, pixels: float, kind: str, rng: np.random.RandomState) -> np.ndarray:
    """The clip with a smooth random displacement of up to `pixels` in a disc."""
    height, width = clip.shape[1:3]
    cy, cx = rng.uniform(DISC, height - DISC), rng.uniform(DISC, width - DISC)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    window = np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2 * (DISC / 2) ** 2))
    field = np.stack([cv2.GaussianBlur(rng.normal(size=(height, width)), (0, 0), 10) * window for _ in range(2)])
    field = (field / np.linalg.norm(field, axis=0).max() * pixels).astype(np.float32)
    last = len(clip) - 1
    shares = [k / last if kind == "melt" else float(k % 2) for k in range(len(clip))]
    return np.stack(
        [
            cv2.remap(
                f,
                x + field[0] * np.float32(s),
                y + field[1] * np.float32(s),
                cv2.INTER_LINEAR,
                borderMode=cv2.BORDER_REFLECT,
            )
            for f, s in zip(clip, shares, strict=True)
        ]
    )


def candidates(clip: np.ndarray, matcher: Matcher) -> dict[str, float] | None:
    """The candidates' values, pixels; None if no cell has enough matches."""
    track = track_view(View("v", clip), matcher, 1, None)
    points, errors, medians = [], [], []
    for first, (x, y) in enumerate(zip(*track.matched_points(), strict=True)):
        fit = robust_fit(x, y, SETTINGS, first) if len(x) >= SETTINGS.min_matches else None
        if isinstance(fit, RobustFit):
            points.append(x)
            errors.append(sampson_distance(x, y, fit.fundamental))
            medians.append(np.median(fit.errors))
    if not points:
        return None
    place, error = (np.concatenate(points) // CELL).astype(int), np.concatenate(errors)
    index = place[:, 1] * 1000 + place[:, 0]
    cells = [error[index == i] for i in np.unique(index) if (index == i).sum() >= FEW]
    if not cells:
        return None
    by_cell = [np.median(c) for c in cells]
    return {
        "tse_robust": float(np.median(medians)),
        "mean of all matches": float(error.mean()),
        "95th percentile of all matches": float(np.quantile(error, 0.95)),
        "cells' medians, 90th percentile": float(np.quantile(by_cell, 0.90)),
        "cells' medians, 95th percentile": float(np.quantile(by_cell, 0.95)),
        "cells' medians, largest": float(np.max(by_cell)),
        "cells' means, 95th percentile": float(np.quantile([c.mean() for c in cells], 0.95)),
    }


def auc(clean: list[float], faulty: list[float]) -> float:
    """Share of (clean, faulty) pairs in which the faulty clip has the larger value."""
    a, b = np.array(clean)[:, None], np.array(faulty)[None]
    return float((b > a).mean() + 0.5 * (b == a).mean())


def main() -> int:
    """Measure, print the table and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--frames", type=int, default=9)
    parser.add_argument("--per-video", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()
    cv2.setNumThreads(1)
    matcher = MATCHERS.get(SETTINGS.matcher)(SETTINGS, 1)
    found = list(clips(args.data, args.frames, args.per_video))
    clean = [candidates(c, matcher) for c in found]
    columns: dict[str, dict[str, str]] = {}
    for kind in ("melt", "flicker"):
        for pixels in (2, 4, 8):
            rng = np.random.RandomState(pixels)
            faulty = [candidates(warped(c, pixels, kind, rng), matcher) for c in found]
            both = [(c, f) for c, f in zip(clean, faulty, strict=True) if c and f]
            columns[f"{kind}, {pixels} px"] = {
                name: f"{auc([c[name] for c, _ in both], [f[name] for _, f in both]):.2f} "
                f"({np.mean([f[name] > c[name] for c, f in both]):.0%})"
                for name in both[0][0]
            }
    rows = [
        f"| {name} | " + " | ".join(c[name] for c in columns.values()) + " |" for name in next(iter(columns.values()))
    ]
    head = ["| candidate | " + " | ".join(columns) + " |", "| --- |" + " --- |" * len(columns)]
    today = datetime.date.today().isoformat()
    intro = (
        f"# Local Sampson error, {today}\n\n{len(found)} real clips of {args.frames} frames, 272x480. AUC against clean clips "
        "(share of clips whose own value rises).\n\n"
    )
    text = intro + "\n".join([*head, *rows])
    print(text)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / f"sampson_local_{today}.md").write_text(text + "\n")
    (args.out / f"sampson_local_{today}.json").write_text(json_text({"clips": len(found), "columns": columns}, 2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
