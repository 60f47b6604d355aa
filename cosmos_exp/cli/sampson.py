"""`cosmos-exp sampson`: the Sampson error of any videos."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from cosmos_exp.cli.arguments import existing_files
from cosmos_exp.errors import UserError
from cosmos_exp.text import one_line, printable

if TYPE_CHECKING:
    from cosmos_exp.config.schema import Sampson as SampsonSettings
    from cosmos_exp.metrics.geometry.results import Result, VideoResult
    from cosmos_exp.metrics.geometry.sampson import Source

HELP = "Sampson error of any videos, over time and across views"
EPILOG = """examples:
  cosmos-exp sampson outputs/*/*/videos/*.mp4
  cosmos-exp sampson grid.mp4 --layout 2x2 --views left,right,wrist,- --pairs left:right
  cosmos-exp sampson left.mp4 right.mp4 --views left,right --calibration rig.yaml     one file per view

A - in the table: the error is undefined here; the reason is below the table.

exit codes: 0 measured, 1 a video could not be read, 2 wrong arguments"""

# Options with the name and meaning of a key of conf/sampson.
OPTIONS = ("layout", "pairs", "calibration", "matcher", "matcher_source", "gap", "estimator")
HEADS = ("video", "view", "cookbook", "robust", "moving", "static", "inliers", "matches", "measured")
LEGEND = """Sampson error in pixels; lower is better; +- is how far a value moves when the estimate of F is repeated.
cookbook (tse, cse): all matches, F exactly as in the Cosmos cookbook, for comparison with published values.
robust (tse_robust, cse_robust): all matches, F by MAGSAC++ and least squares or from the calibration, to compare videos.
moving (tse_moving, cse_moving): only matches that move. measured: frame pairs of all, in brackets those with moving matches.
Compare only videos of the same size and frame rate."""


def add_parser(commands: argparse._SubParsersAction) -> None:
    """Add the command and its options."""
    parser = commands.add_parser(
        "sampson", help=HELP, description=HELP, epilog=EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("videos", nargs="+", metavar="VIDEO", help="video files")
    add("--layout", metavar="RxC", help="each frame is a grid of views with R rows and C columns")
    add("--views", metavar="NAME,…", help="names of the tiles, row by row, - skips a tile; or one name per file")
    add("--pairs", metavar="A:B,…", help="views to compare with each other (default: all pairs)")
    add("--calibration", metavar="FILE", help="JSON or YAML with each view's camera (docs/measures.md)")
    add("--matcher", metavar="NAME", help="sift (default, needs no weights) or superpoint_lightglue")
    add("--matcher-source", metavar="DIR", help="superpoint_lightglue: folder of the weights")
    add("--estimator", metavar="NAME", help="F of robust and moving: magsac (default) or ransac")
    add("--gap", metavar="K", help="compare frames that are K apart (default: 1)")
    add("--workers", type=int, default=0, metavar="N", help="processes that share the videos (default: one per core)")
    add("--json", action="store_true", help="print all figures as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print one line per view and view pair, or JSON. Exit code 1 if a video could not be read."""
    from cosmos_exp.metrics.geometry.sampson import measure_sources
    from cosmos_exp.tracking.progress import with_progress

    settings = settings_of(args)
    sources = sources_of(existing_files(args.videos), settings)
    measured = measure_sources(sources, settings, args.workers)
    rows: list[dict[str, object]] = []
    results, code = [], 0
    for source, result in zip(sources, with_progress(measured, "measuring", len(sources), "video"), strict=True):
        results.append(result)
        if isinstance(result, str):
            code = 1
            rows.append({"video": source.name, "error": result})
            continue
        rows.append({"video": source.name, **result.detail()})
    print(json.dumps(rows, indent=2) if args.json else results_table(sources, results))
    return code


def settings_of(args: argparse.Namespace) -> SampsonSettings:
    """conf/sampson with the options given, checked as any configuration.

    Raises:
        UserError: an option has a wrong value.
    """
    from cosmos_exp.config.composing import compose_config

    overrides = []
    for name in OPTIONS:
        value = getattr(args, name)
        if value is not None:
            overrides.append(f"sampson.{name}={value}" if name == "gap" else f"sampson.{name}='{value}'")
    if args.views:
        overrides.append("sampson.views=" + str([name.strip() for name in args.views.split(",")]))
    return compose_config(overrides).sampson


def sources_of(paths: list[Path], settings: SampsonSettings) -> list[Source]:
    """One source per file; or one of all files, if there is no layout and the views have one name per file.

    Raises:
        UserError: the number of view names fits neither.
    """
    from cosmos_exp.metrics.geometry.sampson import Source

    if len(settings.views) == len(paths) > 1 and not settings.layout:
        return [Source("+".join(p.stem for p in paths), tuple(paths))]
    if len(settings.views) > 1 and not settings.layout:
        raise UserError(
            f"--views: {len(settings.views)} names for {len(paths)} files. Add --layout RxC if the views are tiles of each "
            "frame, or give one file per view."
        )
    return [Source(str(p), (p,)) for p in paths]


def results_table(sources: Sequence[Source], results: Sequence[VideoResult | str]) -> str:
    """One row per view and view pair; below the table the legend, the reasons of undefined errors, and notes."""
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(*HEADS, box=box.SIMPLE_HEAD, pad_edge=False)
    for column in table.columns:
        column.overflow = "fold"
        column.justify = "left" if column.header in HEADS[:2] else "right"
    below: list[str] = []
    for source, result in zip(sources, results, strict=True):
        name = escape(one_line(Path(source.name).name))  # rich reads [ ] as markup
        if isinstance(result, str):
            below.append(result)
            table.add_row(name, *["-"] * (len(HEADS) - 1))
            continue
        for part in result.views + result.crosses:
            table.add_row(name, part.name, *_cells(part))
            for text in (part.reason, part.note, part.geometry and f"F of robust and moving: {part.geometry}"):
                if text:
                    below.append(f"{name}, {part.name}: {text}")
        for measure, (value, reason) in result.measures().items():
            if reason and value is not None:
                below.append(f"{name}: {measure} {reason}")
        for note in result.notes:
            below.append(f"{name}: {note}")
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    with console.capture() as shown:
        console.print(table)
        for line in (LEGEND, "", *below):
            console.print(printable(line), markup=False)
    return shown.get().rstrip()


def _cells(result: Result) -> list[str]:
    """The errors with their repeatability, the shares of static matches and of inliers, and how many pairs were measured."""
    cells = []
    for measure, repeatability in result.repeatability.items():
        value = result.values[measure]
        cell = "-" if value is None else f"{value:.3f}"
        if value is not None and repeatability is not None:
            cell += f" +-{repeatability:.3f}"
        cells.append(cell)
    for name, form in (("static_share", ".0%"), ("inlier_share", ".0%"), ("matches", ".0f")):
        value = result.values.get(name)
        cells.append("-" if value is None else format(value, form))
    measured, moving = result.count(next(iter(result.repeatability))), result.count(list(result.repeatability)[-1])
    return [*cells, f"{measured}/{len(result.errors)} ({moving})"]
