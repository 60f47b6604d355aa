"""Cost by number of videos: encoding time, samples per second of training, memory.

    python benchmarks/cache.py [--videos 10,100,1000] [--encode 4,8,16]

Encoding is timed on rendered clips, decoding included. For training, the latents of N videos are written to the cache as
encoding would write them, and a Trainer takes --steps steps over them. Each visit reads from disk: samples per second and
the growth of the process's memory should not depend on N.
"""

from __future__ import annotations

import argparse
import dataclasses
import sys
import tempfile
import time
from pathlib import Path

import psutil
import torch
from common import device_name, machine_line, markdown, spread, write
from train_step import COMMON, Ours

from cosmos_exp.config.composing import compose_config
from cosmos_exp.config.context import RunContext
from cosmos_exp.config.schema import Config
from cosmos_exp.data.cache import RunCache
from cosmos_exp.data.windows import window_starts
from cosmos_exp.distributed import Processes
from cosmos_exp.experiment.stages.prepare import Inputs, prepare
from cosmos_exp.run_folder import RunFolder
from cosmos_exp.world.encoders import Encoders

Row = list[int | str]


def small_inputs(folder: Path) -> tuple[Config, Inputs]:
    """A configuration and the prepared inputs of a small data set of the embedded world."""
    config = compose_config(
        [
            *COMMON,
            "training.global_batch_size=1",
            "hardware.samples_per_forward=1",
            "data.train_clips=16",
            "training.epochs=100000",
        ]
    )
    record = RunFolder(folder / "run")
    record.path.mkdir(parents=True)
    return config, prepare(RunContext(config, record, Processes("cpu", 1)))


def encoding(config: Config, inputs: Inputs, counts: list[int], folder: Path) -> list[Row]:
    """Seconds to decode, encode and store each number of windows."""
    encoders = Encoders(inputs.model, torch.device("cpu"), torch.float32, config.model.prompt_tokens)
    rows: list[Row] = []
    for count in counts:
        cache = RunCache(folder / f"encoded{count}", config, inputs.cache.fingerprints)
        began = time.perf_counter()
        for clip in inputs.dataset.train[:count]:
            cache.encode_window(encoders, (clip, window_starts(clip, config.data, config.seed)[0]))
        seconds = time.perf_counter() - began
        rows.append([count, f"{seconds:.2f}", f"{seconds / count:.3f}"])
    return rows


def many(inputs: Inputs, config: Config, count: int, folder: Path) -> Inputs:
    """The inputs with `count` videos, whose latents are in a separate cache."""
    cache = RunCache(folder / f"many{count}", config, inputs.cache.fingerprints)
    first = inputs.dataset.train[0]
    latent = inputs.cache.latent(first, window_starts(first, config.data, config.seed)[0])
    clips = []
    for number in range(count):
        clip = dataclasses.replace(
            first.clip, name=f"{first.clip.name}-{number}", prompt=f"{first.clip.prompt} {number}"
        )
        made = dataclasses.replace(first, clip=clip, sha256=f"{number:064d}")
        cache.latents.write(cache.latent_path(made, window_starts(made, config.data, config.seed)[0]), latent, "copy")
        cache.prompts.write(cache.prompt_path(clip.prompt), inputs.cache.prompt(first.clip.prompt), "copy")
        clips.append(made)
    cache.prompts.write(cache.prompt_path(None), inputs.cache.prompt(None), "zero")
    return dataclasses.replace(inputs, cache=cache, dataset=dataclasses.replace(inputs.dataset, train=clips))


def training(config: Config, inputs: Inputs, counts: list[int], steps: int, folder: Path) -> list[Row]:
    """Samples per second and growth of memory over `steps` steps, for each number of videos."""
    process = psutil.Process()
    made = {n: Ours(config, many(inputs, config, n, folder), folder / f"run{n}", torch.device("cpu")) for n in counts}
    for ours in made.values():
        for _ in range(10):
            ours.step()
    rates: dict[int, list[float]] = {n: [] for n in counts}
    grown = dict.fromkeys(counts, 0)
    for _ in range(max(1, steps // 20)):  # in turn, so that a slow phase of the machine affects all
        for count, ours in made.items():
            before, began = process.memory_info().rss, time.perf_counter()
            for _ in range(20):
                ours.step()
            rates[count].append(20 / (time.perf_counter() - began))
            grown[count] += process.memory_info().rss - before
    base = rates[counts[0]]
    return [
        [n, spread(r), spread([a / b for a, b in zip(r, base, strict=True)]), f"{grown[n] / 2**20:.0f}"]
        for n, r in rates.items()
    ]


def main() -> int:
    """Measure, print the tables, write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--videos", default="10,100,1000")
    parser.add_argument("--encode", default="4,8,16")
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--out", type=Path, default=None)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config, inputs = small_inputs(folder)
        encoded = encoding(config, inputs, [int(n) for n in args.encode.split(",")], folder)
        trained = training(config, inputs, [int(n) for n in args.videos.split(",")], args.steps, folder)
    text = (
        f"{machine_line()}; embedded model, batch 1, LoRA rank 32, {args.steps} steps after 10 of warm-up.\n\n"
        + markdown(["windows encoded", "seconds", "seconds per window"], encoded)
        + "\n\n"
        + markdown(["videos", "training, samples/s", "relative to the fewest", "growth of memory, MiB"], trained)
    )
    write(
        "cache",
        f"Cost by number of videos on {device_name()}",
        text,
        {"encoding": encoded, "training": trained},
        args.out,
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
