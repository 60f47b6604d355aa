"""Frames per second of the Sampson error, compared with a straightforward implementation on the same video.

    python benchmarks/sampson.py [--frames 24] [--repeats 3] [--video FILE]

The straightforward implementation treats each frame pair on its own: it decodes both frames, converts them to grey, finds
their keypoints and matches them by brute force. Both must give identical numbers, else the script exits with 1. Without
--video it uses a moving random texture. Writes benchmarks/results/sampson_<date>.md and .json.
"""

from __future__ import annotations

import argparse
import datetime
import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from common import json_text

from cosmos_exp.config.schema import Sampson
from cosmos_exp.data.video import decode, read_video, resize, write_video
from cosmos_exp.metrics.geometry.results import ViewResult
from cosmos_exp.metrics.geometry.sampson import temporal_sampson
from cosmos_exp.metrics.geometry.temporal import pair_error, summarize

SIZES = ((432, 768), (704, 1280))


def straightforward(path: Path, settings: Sampson) -> ViewResult:
    """Measure each frame pair on its own."""
    from cosmos_exp.data.video import probe

    detector = cv2.SIFT.create(nfeatures=settings.max_keypoints)
    brute = cv2.BFMatcher(cv2.NORM_L2)
    info = probe(path)
    rows = []
    for first in range(info.num_frames - 1):
        found = []
        for frame in decode(path, [first, first + 1], info):
            keypoints, descriptors = detector.detectAndCompute(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), None)
            found.append((np.array([k.pt for k in keypoints], dtype=np.float64).reshape(-1, 2), descriptors))
        (a, da), (b, db) = found

        def good(p: np.ndarray, q: np.ndarray) -> dict[int, int]:
            pairs = brute.knnMatch(p, q, k=2)
            return {m.queryIdx: m.trainIdx for m, n in pairs if m.distance < settings.ratio * n.distance}

        there, back = good(da, db), good(db, da)
        index = np.array(sorted((i, j) for i, j in there.items() if back.get(j) == i), dtype=int).reshape(-1, 2)
        rows.append(pair_error(a[index[:, 0]], b[index[:, 1]], settings, (first, first + 1)))
    return summarize("video", tuple(rows))


def ours(path: Path, settings: Sampson) -> ViewResult:
    """Measure as the command does for one video."""
    return temporal_sampson(read_video(path), settings, threads=len(os.sched_getaffinity(0)))


def film(path: Path, size: tuple[int, int], count: int, video: Path | None) -> None:
    """Write a video of this size: the given one, scaled, or a moving random texture."""
    if video:
        frames = resize(read_video(video)[:count], *size, "stretch")
    else:
        rng = np.random.RandomState(0)
        small = rng.randint(0, 255, (size[0] // 4, size[1] // 3, 3)).astype(np.uint8)
        world = cv2.resize(small, (size[1] * 2, size[0] * 2), interpolation=cv2.INTER_CUBIC)
        frames = np.stack([world[2 * k : 2 * k + size[0], 5 * k : 5 * k + size[1]] for k in range(count)])
    write_video(path, frames, 16)


def timed(call: Callable[[Path, Sampson], ViewResult], path: Path, repeats: int) -> tuple[ViewResult, list[float]]:
    """The result, and the seconds of each repeat."""
    seconds, result = [], None
    for _ in range(repeats):
        began = time.perf_counter()
        result = call(path, Sampson())
        seconds.append(time.perf_counter() - began)
    assert result is not None
    return result, seconds


def main() -> int:
    """Measure, print the table and write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=24)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--video", type=Path, help="scaled to both sizes")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results")
    args = parser.parse_args()
    rows = []
    for size in SIZES:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "video.mp4"
            film(path, size, args.frames, args.video)
            plain, plain_seconds = timed(straightforward, path, args.repeats)
            fast, fast_seconds = timed(ours, path, args.repeats)
        if plain != fast:
            print(f"{size}: the two differ: {plain} and {fast}", file=sys.stderr)
            return 1
        ratios = [p / f for p, f in zip(plain_seconds, fast_seconds, strict=True)]
        rows.append(
            {
                "size": f"{size[0]}x{size[1]}",
                "frames": args.frames,
                "matches": fast.matches,
                "tse": fast.tse,
                "straightforward_fps": args.frames / statistics.median(plain_seconds),
                "ours_fps": args.frames / statistics.median(fast_seconds),
                "ratio": statistics.median(ratios),
                "ratio_low": min(ratios),
                "ratio_high": max(ratios),
            }
        )
    lines = [
        "| size | matches per pair | straightforward, frames/s | ours, frames/s | ratio (lowest to highest) |",
        "| --- | --- | --- | --- | --- |",
    ]
    for r in rows:
        lines.append(
            f"| {r['size']} | {r['matches']:.0f} | {r['straightforward_fps']:.2f} | {r['ours_fps']:.2f} | {r['ratio']:.2f} ({r['ratio_low']:.2f} to {r['ratio_high']:.2f}) |"
        )
    today = datetime.date.today().isoformat()
    what = args.video.name if args.video else "a moving random texture"
    machine = f"{platform.machine()}, {len(os.sched_getaffinity(0))} cores, Python {platform.python_version()}, OpenCV {cv2.__version__}"
    text = (
        f"# Sampson error, SIFT, {today}\n\n{machine}; {args.frames} frames of {what}, median of {args.repeats} repeats; identical numbers.\n\n"
        + "\n".join(lines)
    )
    print(text)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / f"sampson_{today}.md").write_text(text + "\n")
    (args.out / f"sampson_{today}.json").write_text(json_text({"machine": machine, "video": what, "rows": rows}, 2))
    return 0


if __name__ == "__main__":
    sys.exit(main())
