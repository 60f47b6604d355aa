"""Files that the jobs of a Hydra launcher make, each its shard of the list: `--shards N` of `generate` and `data encode`."""

from __future__ import annotations

import argparse
import os
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import DictConfig

from cosmos_exp.config.composing import NO_SEARCH
from cosmos_exp.experiment.fork_server import start
from cosmos_exp.experiment.launching import how_it_ended, last_lines
from cosmos_exp.files import json_sha256
from cosmos_exp.run_folder import RunFolder
from cosmos_exp.sweep.live import SECONDS, watch
from cosmos_exp.sweep.running import run_jobs
from cosmos_exp.sweep.slurm import live_job
from cosmos_exp.tracking.progress import progress


@dataclass
class ShardCommand:
    """Hydra's task: a command in a process of its own, with `--shards` and the name of its run_dir behind it.

    words: of the command line. cwd: the folder in which it was typed.
    """

    words: list[str]
    cwd: str

    def __call__(self, composed: DictConfig) -> None:
        """Make the files of one shard; its status.json says why it could not."""
        folder = RunFolder(str(composed.run_dir))
        os.chdir(self.cwd)
        words = [*self.words, "--shards", folder.path.name]
        if code := start("cosmos_exp.cli:main", (words,), folder.log).wait():
            folder.record_failure(f"{how_it_ended(code)}: {last_lines(folder.log)}")


def run_shards(args: argparse.Namespace, place: Path, files: Sequence[Path], unit: str) -> int:
    """Start a job of the launcher for each shard of which a file is missing. Returns the exit code: 1 if one still is.

    Args:
        args: of the command line, which makes the files of one shard if `--shards 3-of-8` is behind it. Its overrides of
            Hydra choose the launcher.
        place: a folder that all machines see, for the logs.
        files: of all shards, in the order in which they are made: shard 3 of 8 makes files[2::8].
        unit: what a file is called: video.

    Raises:
        UserError: the launcher is not installed, or it refuses the request.
    """
    work, count = place / ".shards" / json_sha256([*map(str, files)])[:8], args.shards[1]
    shards = {RunFolder(work / f"{k + 1}-of-{count}"): files[k::count] for k in range(count)}
    waiting, jobs = [], []
    for folder, made in shards.items():
        waiting.append([file for file in reversed(made) if not file.is_file()])
        if waiting[-1] and not live_job(folder):
            folder.path.mkdir(parents=True, exist_ok=True)
            folder.status_file.unlink(missing_ok=True)
            jobs.append([f"run_dir='{folder.path}'"])
    with watch(_count, waiting, unit):
        run_jobs([NO_SEARCH], args.overrides, jobs, ShardCommand(args.words, os.getcwd()), [*shards])
    left = 0
    for folder, made in shards.items():
        missing = len(made) - sum(map(Path.is_file, made))
        left += missing
        if missing:
            said = folder.status.get("error", "no reason was recorded")
            print(f"shard {folder.path.name}: {missing} {unit}s are missing: {said}   ({folder.log})", file=sys.stderr)
    print(f"{len(files) - left} of {len(files)} {unit}s exist")
    if left:
        print("Run the same command again for the rest.", file=sys.stderr)
    return int(left > 0)


def _count(waiting: list[list[Path]], unit: str, stop: threading.Event) -> None:
    """One bar for all jobs.

    Args:
        waiting: the missing files of each shard, the next one last: of 10,000 files it looks at these.
    """
    ended = False
    with progress(f"{len(waiting)} shards", sum(map(len, waiting)), unit) as bar:
        while not ended:
            ended = stop.wait(SECONDS)
            for files in waiting:
                while files and files[-1].is_file():
                    files.pop()
                    bar.update()
