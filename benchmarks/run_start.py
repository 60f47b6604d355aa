"""Seconds until a new process has imported what a run needs: from the fork server, and as a fresh process.

    python benchmarks/run_start.py [--repeats 3]

Time is taken from the call that starts the process to the line that it prints after the imports. The first start
includes the start of the fork server and its imports; a sweep pays it once.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil
from common import device_name, machine_line, markdown, ratios, spread, write

from cosmos_exp.experiment.fork_server import PRELOAD, server_pid, start, stop_server

# perf_counter() reads the same clock in all processes of a machine (Linux, macOS).
CODE = f"""
import importlib, time
for name in {PRELOAD!r}:
    importlib.import_module(name)
print(time.perf_counter(), flush=True)
"""


def from_fork_server(log: Path) -> float:
    """One start."""
    began = time.perf_counter()
    if start("builtins:exec", (CODE, {}), log=log).wait() != 0:
        raise SystemExit(log.read_text())
    return float(log.read_text().splitlines()[-1]) - began


def fresh() -> float:
    """One Python process without the fork server."""
    began = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True)
    return float(done.stdout.splitlines()[-1]) - began


def main() -> int:
    """Measure, print the table, write it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--later", type=int, default=10, help="later starts per repeat")
    parser.add_argument("--out", type=Path, default=None)
    args = parser.parse_args()
    fresh()  # files are in the page cache
    names = ("fresh process", "fork server, first start", "fork server, later start")
    seconds: dict[str, list[float]] = {name: [] for name in names}
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log.txt"
        for _ in range(args.repeats):
            stop_server()
            seconds[names[0]].append(fresh())
            seconds[names[1]].append(from_fork_server(log))
            later = [from_fork_server(log) for _ in range(args.later)]
            seconds[names[2]].append(sorted(later)[len(later) // 2])
    size = psutil.Process(server_pid()).memory_info().rss / 2**20
    floor = seconds[names[0]]
    rows = [[name, spread(found, 3), spread(ratios(floor, found), 1)] for name, found in seconds.items()]
    text = (
        f"{machine_line()}; {args.repeats} repeats in turn: median (lowest to highest); a later start is the median of "
        f"{args.later}. The fork server uses {size:.0f} MiB, which its children share.\n\n"
        + markdown(["start", "seconds", "times faster than a fresh process"], rows)
    )
    write("run_start", f"Start of a run's process on {device_name()}", text, {**seconds, "server_mib": size}, args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
