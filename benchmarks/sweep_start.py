"""Seconds until a run of a sweep has taken its first optimizer step, and memory over many runs.

    python benchmarks/sweep_start.py [--repeats 5] [--runs 30]

Compared in turn: the run as a fresh `python -m cosmos_exp run …` process, as every run of a sweep was before the fork
server, and the run from the fork server (`experiment.launching` starts it in the same way). Data and latents are cached.
The figure of the fork server is for the second and later runs: the first waits for the server's imports once. Also
compared in turn: whole runs from the fork server, with the server's objects visited by each garbage collection, and
without (`gc.freeze()`, as it is). Then `--runs` whole runs, one after another, with the memory of the server and of this process after each.
"""

from __future__ import annotations

import argparse
import gc
import pkgutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil
from common import device_name, machine_line, markdown, ratios, spread, write

from cosmos_exp.config.composing import compose_config
from cosmos_exp.config.schema import Config
from cosmos_exp.experiment.fork_server import server_pid, start, stop_server
from cosmos_exp.experiment.launching import WORK

RUN = [
    "data.train_clips=5",
    "data.validation_videos=1",
    "data.test_pairs=1",
    "data.windows_per_video=1",
    "training.max_steps=2",
    "training.global_batch_size=2",
    "training.schedule.warmup_samples=0",
    "generation.num_steps=1",
    "generation.max_prompts=1",
    "sampson.enabled=false",
    "tracking=none",
]


def wait_for_first_step(run_dir: Path, ended: Callable[[], bool]) -> None:
    """Wait until the run's training log has a row."""
    while not (run_dir / "train_log.jsonl").is_file():
        if ended():
            raise SystemExit(f"{run_dir}: the run ended before its first step")
        time.sleep(0.005)


def fresh(run_dir: Path) -> float:
    """Seconds to the first step of a fresh process."""
    began = time.perf_counter()
    command = [sys.executable, "-m", "cosmos_exp", "run", *RUN, f"run_dir={run_dir}"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for_first_step(run_dir, lambda: process.poll() is not None)
    found = time.perf_counter() - began
    process.wait()
    return found


def unfrozen(config: Config) -> object:
    """`WORK` as it was before `gc.freeze()`. Called in the child."""
    gc.unfreeze()
    return pkgutil.resolve_name(WORK)(config)


def from_server(run_dir: Path, function: str = WORK) -> tuple[float, float]:
    """Seconds of a run from the fork server: to the first step, and in all."""
    run_dir.mkdir(parents=True)
    config = compose_config([*RUN, f"run_dir={run_dir}"])
    began = time.perf_counter()
    child = start(function, (config,), log=run_dir / "log.txt")
    wait_for_first_step(run_dir, lambda: child.poll() is not None)
    first_step = time.perf_counter() - began
    if child.wait():
        raise SystemExit((run_dir / "log.txt").read_text()[-2000:])
    return first_step, time.perf_counter() - began


def main() -> int:
    """Measure, print the tables, write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--runs", type=int, default=30, help="runs whose memory is recorded; 0: none")
    parser.add_argument("--out", type=Path, default=None)
    args = parser.parse_args()
    memory: list[list[float]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        first = from_server(folder / "first")[0]
        seconds: dict[str, list[float]] = {"fresh process": [], "fork server": []}
        whole: dict[str, list[float]] = {"unfrozen": [], "frozen": []}
        for i in range(args.repeats):
            seconds["fresh process"].append(fresh(folder / f"fresh{i}"))
            seconds["fork server"].append(from_server(folder / f"server{i}")[0])
            whole["unfrozen"].append(from_server(folder / f"unfrozen{i}", "sweep_start:unfrozen")[1])
            whole["frozen"].append(from_server(folder / f"frozen{i}")[1])
        for i in range(args.runs):
            from_server(folder / f"memory{i}")
            processes = (psutil.Process(server_pid()), psutil.Process())
            memory.append([p.memory_info().rss / 2**20 for p in processes])
    stop_server()
    base = seconds["fresh process"]
    rows = [[n, spread(s), spread(ratios(base, s))] for n, s in seconds.items()]
    text = f"{machine_line()}; {args.repeats} of each in turn: median (lowest to highest). The first run from the server, which waits for its imports: {first:.1f} s.\n\n"
    text += markdown(["run of a sweep", "seconds to the first step", "times faster"], rows)
    rows = [[n, spread(s), spread(ratios(whole["unfrozen"], s))] for n, s in whole.items()]
    text += "\n\n" + markdown(["objects of the fork server", "seconds of a whole run", "times faster"], rows)
    if memory:
        ends = [[n, f"{memory[0][k]:.1f}", f"{memory[-1][k]:.1f}"] for k, n in enumerate(("fork server", "sweep"))]
        text += "\n\n" + markdown(["memory, MiB", "after run 1", f"after run {args.runs}"], ends)
    found = {"seconds": seconds, "whole": whole, "first": first, "memory_mib": memory}
    write("sweep_start", f"Start of a run in a sweep on {device_name()}", text, found, args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
