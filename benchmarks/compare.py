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
SPREAD = re.compile(r"(-?[\d.]+) \((-?[\d.]+) to (-?[\d.]+)\)")
# What a name says about its figure: "time" and "memory" are better lower, "rate" higher. Others are not compared.
MEANING = {
    "time": ("seconds",),
    "memory": ("peak_gib", "gib"),
    "rate": ("per_second", "per_hour", "fps", "samples/s", "ratio", "ratio_cached"),
}
# The columns of results that are stored as rows without names, by the name of their list.
COLUMNS = {
    "encoding": ("windows", "total", "seconds a window"),
    "training": ("videos", "samples/s", "against the fewest", "growth, MiB"),
    "rank": ("setting", "seconds a step", "against the first", "GFLOP"),
    "frames": ("setting", "seconds a step", "against the first", "GFLOP"),
    "eager": ("adapter", "checkpointing", "after forward, GiB", "peak, GiB", "estimate, eager", "estimate, compiled"),
    "compiled": ("adapter", "checkpointing", "rows kept"),
}
LABELS = {"windows", "videos", "setting", "adapter", "checkpointing"}
RATES = {"samples_per_second", "videos_per_hour"}  # the seconds beside them say the same, for a batch of any size
SECONDS = {
    "start_up",
    "run_start",
    "sweep_start",
}  # results whose lists are all seconds, under the name of what was timed


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
    meaning: str
    ratio: float
    low: float
    high: float
    verdict: str

    def line(self) -> str:
        return f"{self.verdict or '-':8} {self.ratio:6.2f} ({self.low:.2f} to {self.high:.2f})  {self.label}"


# --- reading ----------------------------------------------------------------------------------------------------
def meaning(name: str) -> str | None:
    """What a figure's name says about it; None if it is neither a time, a rate nor a size."""
    words = re.split(r"[^a-z_/]+", name.lower())
    for kind, endings in MEANING.items():
        if any(word == e or word.endswith(f"_{e}") for word in words for e in endings):
            return kind
    return None


def figure(kind: str, value: Any) -> Figure | None:
    """A figure from repeats, from "median (lowest to highest)", from {median, min, max} or from a single number."""
    if isinstance(value, dict):
        low, high = (next((value[k] for k in keys if k in value), None) for keys in (("min", "low"), ("max", "high")))
        if "median" in value and low is not None and high is not None:
            return Figure(kind, value["median"], low, high, True)
        return None
    if isinstance(value, str):
        found = SPREAD.fullmatch(value)
        if found:
            return Figure(kind, *map(float, found.groups()), repeated=True)
        value = float(value) if re.fullmatch(r"-?\d+(\.\d+)?", value) else None
    if isinstance(value, list):
        values = [v for v in value if isinstance(v, (int, float)) and v == v]
        return Figure(kind, statistics.median(values), min(values), max(values), len(values) > 1) if values else None
    return None if value is None or isinstance(value, bool) else Figure(kind, value, value, value, False)


def figures(content: Any, kind: str, label: str = "") -> Iterator[tuple[str, Figure]]:
    """Every figure of a result that can be better or worse, with its label."""
    if isinstance(content, list):
        columns = COLUMNS.get(label.split(", ")[-1])
        for row in content:
            if isinstance(row, dict):
                yield from figures(row, kind, label)
            elif isinstance(row, list) and columns:
                yield from figures(dict(zip(columns, row, strict=False)), kind, label)
    elif isinstance(content, dict):
        yield from _row(content, kind, label)


def _row(row: dict[str, Any], kind: str, label: str) -> Iterator[tuple[str, Figure]]:
    prefix = ", ".join(filter(None, [label, *(str(v) for k, v in row.items() if _names_row(k, v))]))
    for name, value in row.items():
        if name in ("ratio_low", "ratio_high") or (name == "seconds" and RATES & row.keys()):
            continue
        if name == "ratio" and "ratio_low" in row:
            value = {"median": value, "min": row["ratio_low"], "max": row["ratio_high"]}
        what = "time" if kind in SECONDS else meaning(name)
        found = figure(what, value) if what else None
        if found:
            yield f"{prefix}: {name}" if prefix else name, found
        elif isinstance(value, (dict, list)):
            yield from figures(value, kind, ", ".join(filter(None, [prefix, name])))


def _names_row(key: str, value: Any) -> bool:
    """Whether an entry says which variant a row is about."""
    is_number = isinstance(value, str) and re.match(r"-?[\d.]+( \(|$)", value)
    return key in LABELS or (isinstance(value, str) and not is_number and key not in ("machine", "video"))


def machine(path: Path, content: Any) -> str | None:
    """The device that a result was measured on: its key `machine`, or the page of the same name beside it."""
    if isinstance(content, dict) and isinstance(content.get("machine"), str):
        return _device(content["machine"])
    page = path.with_suffix(".md")
    if not page.is_file():
        return None
    title, _, text = page.read_text(encoding="utf-8").partition("\n")
    named = re.search(r" on (.+), \d{4}-\d\d-\d\d$", title)
    return named[1] if named else _device(text.strip().partition("\n")[0])


def _device(line: str) -> str:
    return re.split(r"; |, Python", line.rstrip("."))[0]


def kind_of(path: Path) -> str:
    """A file's name without its date: `train_step_cpu`."""
    return DATE.sub("", path.stem)


def newest(folder: Path) -> dict[str, Path]:
    """The newest result of each kind in a folder. Results without any cost (statistics, ROC curves) are left out."""
    return {kind_of(path): path for path in sorted(folder.glob("*.json")) if _has_costs(path)}


def _has_costs(path: Path) -> bool:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return True  # reported when it is compared
    return any(figure.low > 0 for _, figure in figures(content, kind_of(path)))


# --- comparing --------------------------------------------------------------------------------------------------
def change(label: str, old: Figure, new: Figure, tolerance: float) -> Change:
    """A figure's change as a ratio of costs, with a verdict where the spreads do not overlap."""
    if old.meaning == "rate":
        old, new = (Figure("rate", 1 / f.middle, 1 / f.high, 1 / f.low, f.repeated) for f in (old, new))
    ratio, low, high = new.middle / old.middle, new.low / old.high, new.high / old.low
    certain = (old.repeated and new.repeated) or old.meaning == "memory"
    worse, better = ("larger", "smaller") if old.meaning == "memory" else ("slower", "faster")
    verdict = ""
    if certain and ratio > 1 + tolerance and low > 1:
        verdict = worse
    elif certain and ratio < 1 / (1 + tolerance) and high < 1:
        verdict = better
    return Change(label, old.meaning, ratio, low, high, verdict)


def compare_files(old: Path, new: Path, tolerance: float, force: bool) -> list[Change]:
    """The change of every figure that both files hold.

    Raises:
        ComparisonError: not readable, of different kinds, without a figure in common, or from different machines.
    """
    try:
        before, after = (json.loads(path.read_text(encoding="utf-8")) for path in (old, new))
    except (OSError, ValueError) as error:
        raise ComparisonError(f"{error}; give two JSON files that a benchmark wrote") from error
    machines = machine(old, before), machine(new, after)
    if not force and (machines[0] != machines[1] or machines[0] is None):
        raise ComparisonError(
            f"{old}: measured on {machines[0] or 'an unknown machine'}\n{new}: measured on {machines[1] or 'an unknown machine'}\n"
            "Compare results of one machine, or add --force."
        )
    was, now = dict(figures(before, kind_of(old))), dict(figures(after, kind_of(new)))
    shared = [label for label in was if label in now and was[label].low > 0 and now[label].low > 0]
    if not shared:
        raise ComparisonError(f"{old} and {new} have no figure in common")
    return [change(label, was[label], now[label], tolerance) for label in shared]


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
        print(f"only in {old if kind in before else new}: {kind}")
    if not before.keys() & after.keys():
        raise ComparisonError(f"{old} and {new} have no kind of result in common")
    return [(before[kind], after[kind]) for kind in sorted(before.keys() & after.keys())]


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
            changes = compare_files(old, new, args.tolerance, args.force)
            print(f"{old.name} -> {new.name}: cost, new over old (range from the spreads)")
            shown = sorted((c for c in changes if args.all or c.verdict), key=lambda c: -c.ratio)
            print("\n".join(f"  {c.line()}" for c in shown) or "  no change")
            if len(shown) < len(changes):
                print(f"  {len(changes) - len(shown)} figures without a verdict (--all lists them)")
            worse = worse or any(c.verdict in ("slower", "larger") for c in changes)
    except ComparisonError as error:
        print(f"compare: {error}", file=sys.stderr)
        return 2
    return int(worse)


if __name__ == "__main__":
    sys.exit(main())
