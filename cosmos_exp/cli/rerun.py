"""`cosmos-exp rerun RUN_DIR`: run a record again and compare the results."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from cosmos_exp.cli.arguments import writable_folder
from cosmos_exp.cli.run import run_and_print
from cosmos_exp.errors import UserError

if TYPE_CHECKING:
    import pandas

    from cosmos_exp.run_folder import RunFolder

Comparison = tuple[str, bool, str]  # what, whether it is the same, the difference in words

HELP = "run a record again and compare the result with the original"
EPILOG = """examples:
  cosmos-exp rerun outputs/run/2026-01-01_12-00-00               into outputs/run/2026-01-01_12-00-00-rerun
  cosmos-exp rerun outputs/sweeps/rank/lora-r8 --out /tmp/again
  cosmos-exp rerun outputs/sweeps/rank/lora-r8 --strict          exit code 1 if anything differs"""
# What of a manifest may explain a difference. To the bit, a run is equal where the last three are.
CONDITIONS = (
    "python",
    "platform",
    "host",
    "cpus",
    "packages",
    "git",
    "guardrail",
    "exactness",
    "data_fingerprint",
    "model",
)


def options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add = parser.add_argument
    add("run_dir", metavar="RUN_DIR", help="folder of a finished run")
    add("--out", metavar="DIR", help="folder of the new run (default: RUN_DIR-rerun)")
    add("--strict", action="store_true", help="exit code 1 if any loss, adapter, video or score differs")


def run(args: argparse.Namespace) -> int:
    """Run it and print one line per result. Exit code 1 if the run fails, or with --strict if a result differs."""
    from cosmos_exp.config.hashing import differences
    from cosmos_exp.config.record import load_config
    from cosmos_exp.run_folder import RunFolder

    old = RunFolder(args.run_dir)
    config = load_config(old.config)
    new = RunFolder(writable_folder(args.out or f"{old.path}-rerun"))
    if new.config.is_file():
        raise UserError(f"{new.path} exists. Give another --out.")
    print(f"run folder: {new.path}", flush=True)
    if code := run_and_print(config.updated({"run_dir": str(new.path)})):
        return code
    for key in CONDITIONS:
        for line in differences({key: old.manifest.get(key)}, {key: new.manifest.get(key)}):
            print(f"differs from the original: {line}")
    for what, is_same, text in compare(old, new):
        print(f"{'same     ' if is_same else 'DIFFERENT'}  {what:18} {text}")
        if args.strict and not is_same:
            code = 1
    return code


def compare(old: RunFolder, new: RunFolder) -> list[Comparison]:
    """Training losses, adapter, videos and scores of two runs of the same configuration."""
    rows = [_numbers("training losses", _column(old.train_log, "loss", "step"), _column(new.train_log, "loss", "step"))]
    for kind in ("adapter", "videos"):
        before, now = _files(old.path / kind), _files(new.path / kind)
        names = before.keys() | now.keys()
        equal = sum(before.get(name) == now.get(name) for name in names)
        rows.append((kind, equal == len(names), f"{equal} of {len(names)} files byte for byte"))
    keys = ("measure", "sample", "seed")
    first, second = _column(old.scores, "value", *keys), _column(new.scores, "value", *keys)
    for measure in first.index.union(second.index).unique("measure"):
        rows.append(_numbers(measure, first.loc[[measure]], second.loc[[measure]]))
    return rows


def _files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("[!.]*.*")}


def _column(file: Path, value: str, *keys: str) -> pandas.Series:
    """One column of a log by its keys."""
    import pandas

    from cosmos_exp.run_folder.records import read_rows

    rows = pandas.DataFrame(read_rows(file), columns=[*keys, value])
    return rows.drop_duplicates([*keys], keep="last").set_index([*keys])[value].astype(float)


def _numbers(what: str, old: pandas.Series, new: pandas.Series) -> Comparison:
    """Compare two columns, missing values too."""
    old, new = old.align(new)
    only_one = int((old.isna() != new.isna()).sum())
    gap = (old - new).abs().max()
    same = only_one == 0 and not gap > 0
    return what, same, f"{len(old)} numbers, largest difference {gap:.3g}, {only_one} in only one of the runs"
