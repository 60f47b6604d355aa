"""Cost of a training step against the adapter's rank and the number of frames, LoRA and DoRA.

    python benchmarks/scaling.py [--ranks 8,16,32,64,128] [--frames 17,33,49,93]

Frames are rendered at the embedded world's 96x160; each setting is a Trainer of its own, all stepped in turn.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from common import device_name, interleaved, machine_line, markdown, ratios, spread, write
from train_step import COMMON, Ours

from cosmos_exp.config.composing import compose_config
from cosmos_exp.config.context import RunContext
from cosmos_exp.distributed import Processes
from cosmos_exp.experiment.stages.prepare import prepare
from cosmos_exp.run_folder import RunFolder


def trainer(words: list[str], folder: Path) -> Ours:
    """A trainer of the embedded model under these overrides."""
    config: Any = compose_config(
        [
            *COMMON,
            "training.global_batch_size=1",
            "hardware.samples_per_forward=1",
            "data.train_clips=2",
            "training.epochs=1000",
            *words,
        ]
    )
    record = RunFolder(folder / "-".join(w.replace("=", "") for w in words))
    record.path.mkdir(parents=True)
    return Ours(config, prepare(RunContext(config, record, Processes("cpu", 1))), record.path, torch.device("cpu"))


def compare(settings: dict[str, list[str]], repeats: int, folder: Path) -> list[list[Any]]:
    """A row a setting; the first is what the others are set against."""
    made = {name: trainer(words, folder) for name, words in settings.items()}
    seconds = interleaved({n: m.step for n, m in made.items()}, repeats)
    first = next(iter(seconds.values()))
    return [[n, spread(s, 3), spread(ratios(s, first)), f"{made[n].flops / 1e9:.1f}"] for n, s in seconds.items()]


def main() -> int:
    """Measure, print the tables, write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ranks", default="8,16,32,64,128")
    parser.add_argument("--frames", default="17,33,49,93")
    parser.add_argument("--repeats", type=int, default=9)
    parser.add_argument("--out", type=Path, default=None)
    args = parser.parse_args()
    ranks = {
        f"{kind} r{r}": [f"adapter={kind}", f"adapter.rank={r}"]
        for kind in ("lora", "dora")
        for r in args.ranks.split(",")
    }
    frames = {f"{f} frames": [f"data.num_frames={f}", "model.num_frames=" + f] for f in args.frames.split(",")}
    with tempfile.TemporaryDirectory() as folder:
        by_rank = compare(ranks, args.repeats, Path(folder))
        by_frames = compare(frames, args.repeats, Path(folder))
    header = ["setting", "seconds a step", "against the first", "GFLOP a sample"]
    text = (
        f"{machine_line()}; embedded model, batch 1, {args.repeats} steps of each in turn: median (lowest to highest).\n\n"
        + markdown(header, by_rank)
        + "\n\n"
        + markdown(header, by_frames)
    )
    write(
        "scaling",
        f"Cost against rank and frames on {device_name()}",
        text,
        {"rank": by_rank, "frames": by_frames},
        args.out,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
