"""Compare two benchmark results: what got slower, what got faster.

    python benchmarks/compare.py OLD.json NEW.json
    python benchmarks/compare.py OLD_FOLDER NEW_FOLDER     every kind of result that both hold, the newest of each
    python benchmarks/compare.py OLD NEW --all             unchanged figures too

A figure is worse or better only if the ratio of the medians exceeds the tolerance and the spreads (lowest to highest of
the repeats) do not overlap. A time without repeats has no spread and gets no verdict; counted memory needs none.
Exit codes: 0 nothing got worse, 1 something did, 2 the results cannot be compared.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DATE = re.compile(r"_(\d{4}-\d\d-\d\d)$")
# The figures that are costs or rates, by their key in a result file. Others are not compared.
MEANING = {
    "seconds": "time",
    "peak_gib": "memory",
    "samples_per_second": "rate",
    "videos_per_hour": "rate",
    "ratio": "rate",
    "ratio_cached": "rate",
}
RATES = {"samples_per_second", "videos_per_hour"}  # the seconds beside them say the same, for a batch of any size


class ComparisonError(Exception):
    """The two results cannot be compared; the message says why."""


@dataclass(frozen=True)
class Figure:
    """A benchmark's figure: median, lowest and highest; `repeated` if the two ends come from repeats."""

    meaning: str
    middle: float
    low: float
    high: float
    repeated: bool


@dataclass(frozen=True)
class Change:
    """A figure before and after. Ratios are costs, new over old: above 1 is slower or larger, rates are inverted."""

    label: str
    ratio: float
    low: float
    high: float
    verdict: str

    def line(self) -> str:
        return f"{self.verdict or '-':8} {self.ratio:6.2f} ({self.low:.2f} to {self.high:.2f})  {self.label}"


def figures(content: Any, label: str = "") -> Iterator[tuple[str, Figure]]:
    """Every figure of a result that can be better or worse, with its label: the text entries of its row, and its key."""
    if isinstance(content, list):
        for row in content:
            yield from figures(row, label)
    if not isinstance(content, dict):
        return
    for value in content.values():
        if isinstance(value, str):
            label = f"{label}, {value}".strip(", ")
    for name, value in content.items():
        if name == "seconds" and RATES & content.keys():
            continue
        values = value if isinstance(value, list) else [value]
        numbers = [entry for entry in values if isinstance(entry, int | float)]
        if name in MEANING and numbers and min(numbers) > 0:
            repeated = len(numbers) > 1
            yield (
                f"{label}: {name}",
                Figure(MEANING[name], statistics.median(numbers), min(numbers), max(numbers), repeated),
            )
        elif isinstance(value, dict | list):
            yield from figures(value, f"{label}, {name}".strip(", "))


def machine(path: Path) -> str | None:
    """The device that a result was measured on, from the page of the same name beside it."""
    page = path.with_suffix(".md")
    if not page.is_file():
        return None
    title, _, text = page.read_text(encoding="utf-8").partition("\n")
    named = re.search(r" on (.+), \d{4}-\d\d-\d\d$", title)
    return named[1] if named else re.split(r"; |, Python", text.strip().partition("\n")[0].rstrip("."))[0]


def kind_of(path: Path) -> str:
    """A file's name without its date: `train_step_cpu`."""
    return DATE.sub("", path.stem)


def load(path: Path) -> dict[str, Figure]:
    """The figures of a result file by label.

    Raises:
        ComparisonError: it cannot be read.
    """
    try:
        return dict(figures(json.loads(path.read_text(encoding="utf-8"))))
    except (OSError, ValueError) as error:
        raise ComparisonError(f"{error}; give two JSON files that a benchmark wrote") from error


def newest(folder: Path) -> dict[str, Path]:
    """The newest result of each kind in a folder. Results without any cost (statistics, ROC curves) are left out."""
    found = {}
    for path in sorted(folder.glob("*.json")):
        if load(path):
            found[kind_of(path)] = path
    return found


def change(label: str, old: Figure, new: Figure, tolerance: float) -> Change:
    """A figure's change as a ratio of costs, with a verdict where the spreads do not overlap."""
    ratio, low, high = new.middle / old.middle, new.low / old.high, new.high / old.low
    if old.meaning == "rate":
        ratio, low, high = 1 / ratio, 1 / high, 1 / low
    certain = (old.repeated and new.repeated) or old.meaning == "memory"
    worse, better = ("larger", "smaller") if old.meaning == "memory" else ("slower", "faster")
    verdict = ""
    if certain and ratio > 1 + tolerance and low > 1:
        verdict = worse
    elif certain and ratio < 1 / (1 + tolerance) and high < 1:
        verdict = better
    return Change(label, ratio, low, high, verdict)


def compare_files(old: Path, new: Path, tolerance: float, force: bool) -> list[Change]:
    """The change of every figure that both files hold.

    Raises:
        ComparisonError: not readable, without a figure in common, or from different machines.
    """
    was, now = load(old), load(new)
    first, second = machine(old), machine(new)
    if not force and (first != second or first is None):
        raise ComparisonError(
            f"{old}: measured on {first or 'an unknown machine'}\n{new}: measured on {second or 'an unknown machine'}\n"
            "Compare results of one machine, or add --force."
        )
    changes = []
    for label, figure in was.items():
        if label in now:
            changes.append(change(label, figure, now[label], tolerance))
    if not changes:
        raise ComparisonError(f"{old} and {new} have no figure in common")
    return changes


def pairs(old: Path, new: Path) -> list[tuple[Path, Path]]:
    """The files to compare: the two given, or the newest of each kind that both folders hold.

    Raises:
        ComparisonError: a path does not exist, one is a file and the other a folder, or nothing is in common.
    """
    for path in (old, new):
        if not path.exists():
            raise ComparisonError(f"{path} does not exist")
    if old.is_dir() != new.is_dir():
        raise ComparisonError("give two files or two folders")
    if old.is_file():
        return [(old, new)]
    before, after = newest(old), newest(new)
    for kind in sorted(before.keys() ^ after.keys()):
        print(f"only in one folder: {kind}")
    shared = sorted(before.keys() & after.keys())
    if not shared:
        raise ComparisonError(f"{old} and {new} have no kind of result in common")
    return [(before[kind], after[kind]) for kind in shared]


def main(argv: Sequence[str] | None = None) -> int:
    """Print what changed. The exit code is in the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path, metavar="OLD", help="JSON file or folder of them")
    parser.add_argument("new", type=Path, metavar="NEW", help="the same, measured later")
    parser.add_argument(
        "--tolerance", type=float, default=0.1, metavar="SHARE", help="smaller changes are none (default: 0.1)"
    )
    parser.add_argument("--force", action="store_true", help="compare results of different or unknown machines")
    parser.add_argument("--all", action="store_true", help="list unchanged figures too")
    args = parser.parse_args(argv)
    worse = False
    try:
        for old, new in pairs(args.old, args.new):
            changes = sorted(compare_files(old, new, args.tolerance, args.force), key=lambda each: -each.ratio)
            print(f"{old.name} -> {new.name}: cost, new over old (range from the spreads)")
            hidden = 0
            for each in changes:
                worse = worse or each.verdict in ("slower", "larger")
                if args.all or each.verdict:
                    print(f"  {each.line()}")
                else:
                    hidden += 1
            if hidden:
                print(f"  {hidden} figures without a verdict (--all lists them)")
    except ComparisonError as error:
        print(f"compare: {error}", file=sys.stderr)
        return 2
    return int(worse)


if __name__ == "__main__":
    sys.exit(main())
