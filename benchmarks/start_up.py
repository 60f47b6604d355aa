"""Seconds until something happens: the command line's answers, a report, and a run's first optimizer step.

    python benchmarks/start_up.py [--repeats 5]

The ratio is to what a run cannot do without here: a Python process that imports torch and diffusers' three classes.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from common import device_name, machine_line, markdown, spread, write

IMPORTS = (
    "import torch; from diffusers import CosmosTransformer3DModel, AutoencoderKLWan, Cosmos2_5_PredictBasePipeline"
)
ABLATION = Path(__file__).parent.parent / "docs" / "ablation"  # 22 runs with 48 prompts, no videos
RUN = [
    "run",
    "data.train_clips=5",
    "data.validation_videos=1",
    "data.test_pairs=1",
    "training.max_steps=1",
    "tracking=none",
    "generation.num_steps=1",
    "training.schedule.warmup_samples=0",
]


def seconds(command: list[str], expected: int = 0) -> float:
    """Wall time of a whole process."""
    began = time.perf_counter()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != expected:
        raise SystemExit(f"{' '.join(command)}: exit {done.returncode}\n{done.stderr[-2000:]}")
    return time.perf_counter() - began


def to_first_step(program: list[str]) -> float:
    """Wall time from the command to the first line of the training log, everything cached before."""
    folder = Path(tempfile.mkdtemp())
    began = time.perf_counter()
    process = subprocess.Popen(
        [*program, *RUN, f"run_dir={folder}/run"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    while process.poll() is None and not (folder / "run" / "train_log.jsonl").is_file():
        time.sleep(0.02)
    found = time.perf_counter() - began
    process.terminate()
    process.wait()
    shutil.rmtree(folder, ignore_errors=True)
    return found


def main() -> int:
    """Measure, print the table, write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--out", type=Path, default=None)
    args = parser.parse_args()
    program, scratch = [sys.executable, "-m", "cosmos_exp"], tempfile.mkdtemp()
    ways = {
        "torch and diffusers imported": lambda: seconds([sys.executable, "-c", IMPORTS]),
        "cosmos-exp --help": lambda: seconds([*program, "--help"]),
        "cosmos-exp run --help": lambda: seconds([*program, "run", "--help"]),
        "cosmos-exp run adaptor=lora (a wrong key)": lambda: seconds([*program, "run", "adaptor=lora"], 2),
        "cosmos-exp report docs/ablation": lambda: seconds([*program, "report", str(ABLATION), "--out", scratch]),
        "cosmos-exp run: to the first step": lambda: to_first_step(program),
    }
    to_first_step(program)  # data and caches are made
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(args.repeats):
        for name, way in ways.items():
            found[name].append(way())
    floor = found["torch and diffusers imported"]
    rows = [[n, spread(s), spread([a / b for a, b in zip(s, floor, strict=True)])] for n, s in found.items()]
    text = f"{machine_line()}; {args.repeats} of each in turn: median (lowest to highest).\n\n" + markdown(
        ["what", "seconds", "against the imports"], rows
    )
    shutil.rmtree(scratch, ignore_errors=True)
    write("start_up", f"Start-up on {device_name()}", text, found, args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
