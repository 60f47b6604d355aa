"""Seconds from the start of a run's process to its first optimizer step: from the fork server of a sweep, and fresh.

    python benchmarks/sweep_start.py [--repeats 5]

In turn; data and latents are cached. The fork server has imported its modules: in a sweep only the first run waits for that.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

from common import machine_line, ratios, table, write

from cosmos_exp.config.composing import compose_config
from cosmos_exp.experiment.fork_server import START_METHOD, start

RUN = [
    "data.train_clips=5",
    "data.validation_videos=0",
    "data.test_pairs=1",
    "data.windows_per_video=1",
    "tracking=none",
]
RUN += ["training.max_steps=2", "training.global_batch_size=2", "generation.split=none", "measures.references=false"]
VARIANTS = {"forkserver": "fork server", "spawn": "fresh process"}


def seconds_to_first_step(method: str, folder: Path) -> float:
    """Start a run and wait for the first row of its log."""
    os.environ[START_METHOD] = method
    config = compose_config([*RUN, f"run_dir={folder}"])
    began = time.perf_counter()
    child = start("cosmos_exp.experiment.launching:run_in_child", (config,), log=folder.with_suffix(".txt"))
    log = folder / "train_log.jsonl"
    while not (log.is_file() and log.stat().st_size):
        if child.poll() is not None:
            raise SystemExit(folder.with_suffix(".txt").read_text())
        time.sleep(0.005)
    seconds = time.perf_counter() - began
    child.wait()
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    seconds: dict[str, list[float]] = {method: [] for method in VARIANTS}
    with tempfile.TemporaryDirectory() as folder:
        for turn in range(-1, args.repeats):  # the first turn fills the cache and starts the server
            for method in VARIANTS:
                taken = seconds_to_first_step(method, Path(folder) / f"{method}{turn}")
                if turn >= 0:
                    seconds[method].append(taken)
    faster = ratios(seconds["spawn"], seconds["forkserver"])
    rows = [{"process": name, "seconds to the first step": seconds[method]} for method, name in VARIANTS.items()]
    text = f"{table(rows)}\n\nFresh over forked: {min(faster):.1f} to {max(faster):.1f}. {machine_line()}\n"
    write("sweep_start", "The start of a run of a sweep", text, seconds)


if __name__ == "__main__":
    main()
