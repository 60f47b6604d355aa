"""`cosmos-exp data check DIR`: what a run would train on, and every bad file by name."""

from __future__ import annotations

import argparse
from pathlib import Path

from tqdm import tqdm

from cosmos_exp.config.composing import compose_config
from cosmos_exp.data.dataset import inspect
from cosmos_exp.data.readers.registry import guess_reader
from cosmos_exp.errors import UserError


def check(args: argparse.Namespace) -> int:
    """Print what is there and what is wrong. Exit code 1 if anything is."""
    folder = Path(args.dir).expanduser()
    if not folder.is_dir():
        raise UserError(f"{folder}: there is no such folder")
    group = [] if any(o.startswith("data=") for o in args.overrides) else [f"data={guess_reader(folder)}"]
    config = compose_config([*group, f"data.path='{folder.absolute()}'", *args.overrides])
    tests = Path(config.data.test_path) if config.data.test_path else None
    found, checked, pairs = inspect(
        config.data, folder, tests, lambda c: tqdm(c, desc="looking", unit="video", leave=False)
    )
    frames = sum(c.stop - c.start for c in checked)
    print(f"{folder}: {config.data.reader}, {len(checked)} good videos, {frames} frames, {len(pairs)} test pairs")
    for c in checked[:3]:
        print(
            f"  {c.clip.name}: {c.stop - c.start} frames, {c.info.width}x{c.info.height}, {c.info.fps:g} fps: {c.clip.prompt[:90]}"
        )
    if len(checked) > 3:
        print(f"  … and {len(checked) - 3} more")
    for note in found.notes:
        print(f"note: {note}")
    for problem in found.problems:
        print(f"BAD  {problem}")
    if not checked and not found.problems:
        print("BAD  no videos at all")
    return 1 if found.problems or not checked else 0
