"""Does `kept` fall with the dose? The base's own prompts with one adapter at growing scales, and with others at scale 1.

    python benchmarks/kept_dose.py outputs/sweeps/ablation/lora-r32-learning_rate0.003 outputs/overtrained hardware.mixed_precision=bf16

The first run's adapter is scaled; the others are taken as they are. Writes the videos to outputs/kept_dose and prints a Markdown table:
means over scenes with 95 % intervals, and in how many scenes `kept` is below that of the next smaller scale, or of scale 1 for another run.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.common import machine_line, table
from cosmos_exp.config.composing import compose_config
from cosmos_exp.data.dataset import kept_prompts
from cosmos_exp.data.video import read_video
from cosmos_exp.experiment.generate import adapter_tasks, find_adapters, load_pipeline_for
from cosmos_exp.generation.videos import VideoTask
from cosmos_exp.metrics.kept import kept_shares
from cosmos_exp.statistics.intervals import mean_interval

SCALES = (0, 0.25, 0.5, 1, 1.5, 2)
OUT = Path("outputs/kept_dose")


def generated(tasks: Sequence[VideoTask]) -> dict[str, dict[int, np.ndarray]]:
    """The frames after the given one by prompt and start noise."""
    videos: dict[str, dict[int, np.ndarray]] = {}
    for task in tasks:
        videos.setdefault(task.sample, {})[task.seed] = read_video(task.path)[1:]
    return videos


def main() -> None:
    """Print the table."""
    runs = [word for word in sys.argv[1:] if "=" not in word]
    words = ["experiment=tabletop", "data.first_pair=2000", "data.kept_pairs=16", "hardware.num_threads=1"]
    config = compose_config([*words, *sys.argv[1 + len(runs) :]])
    files = find_adapters([["base"], *([f"{runs[0]}:{scale}"] for scale in SCALES), *([run] for run in runs[1:])])
    pairs = kept_prompts(config)
    tasks = {name: adapter_tasks(config, [name], pairs, OUT) for name in files}
    pipeline = load_pipeline_for(config, files, tasks["base"])
    for name in files:
        pipeline.make(name, tasks[name])
    of_base, names = generated(tasks["base"]), list(files)[1:]
    scaled, others = names[: len(SCALES)], names[len(SCALES) :]
    smaller = dict(zip(scaled[1:], scaled, strict=False)) | dict.fromkeys(others, scaled[SCALES.index(1)])
    rows, shares = [], {}
    for name in names:
        shares[name] = []
        for sample, videos in generated(tasks[name]).items():
            shares[name].append(np.mean([share for share, _ in kept_shares(videos, of_base[sample]).values()]))
        mean, low, high = mean_interval(np.array(shares[name])[:, None])
        interval = "" if low is None else f" [{low:.3f}, {high:.3f}]"
        below = ""
        if name in smaller:
            below = f"{np.less(shares[name], shares[smaller[name]]).sum()} of {len(pairs)}"
        rows.append({"adapter": name, "kept": f"{mean:.3f}{interval}", "below": below})
    print(f"{table(rows)}\n\n{machine_line()}")


if __name__ == "__main__":
    main()
