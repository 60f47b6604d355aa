"""`cosmos-exp sampson`: the Sampson error of any videos."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from cosmos_exp.cli.arguments import existing_files
from cosmos_exp.errors import UserError
from cosmos_exp.text import one_line, printable

if TYPE_CHECKING:
    from cosmos_exp.config.schema import Sampson as SampsonSettings
    from cosmos_exp.metrics.geometry.files import Source
    from cosmos_exp.metrics.geometry.results import CrossResult, VideoResult, ViewResult

HELP = "Sampson error of any videos, over time and across views"
EPILOG = """examples:
  cosmos-exp sampson outputs/*/*/videos/*.mp4 --plot figures
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
    parser.add_argument("videos", nargs="+", metavar="VIDEO", help="video files")
    parser.add_argument("--layout", metavar="RxC", help="each frame is a grid of views with R rows and C columns")
    parser.add_argument(
        "--views", metavar="NAME,…", help="names of the tiles, row by row, - skips a tile; or one name per file"
    )
    parser.add_argument("--pairs", metavar="A:B,…", help="views to compare with each other (default: all pairs)")
    parser.add_argument("--calibration", metavar="FILE", help="JSON or YAML with each view's camera (docs/measures.md)")
    parser.add_argument(
        "--matcher", choices=["sift", "superpoint_lightglue"], help="feature matcher (default: sift, needs no weights)"
    )
    parser.add_argument("--matcher-source", metavar="DIR", help="superpoint_lightglue: folder of the weights")
    parser.add_argument(
        "--estimator",
        choices=["magsac", "ransac", "five_point"],
        help="estimator of F for robust and moving (default: magsac); five_point needs a calibration",
    )
    parser.add_argument("--gap", type=int, metavar="K", help="compare frames that are K apart (default: 1)")
    parser.add_argument(
        "--workers", type=int, default=0, metavar="N", help="processes that share the videos (default: one per core)"
    )
    parser.add_argument(
        "--plot",
        metavar="DIR",
        help="write figures: error over frames, and the matches of each view's worst frame pair",
    )
    parser.add_argument("--json", action="store_true", help="print all figures as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print one line per view and view pair, or JSON. Exit code 1 if a video could not be read."""
    from cosmos_exp.metrics.geometry.files import check_settings, measure_source, source_pool
    from cosmos_exp.tracking.progress import with_progress

    settings = settings_of(args)
    check_settings(settings)
    sources = sources_of(existing_files(args.videos), settings)
    with source_pool(len(sources), settings, args.workers) as (pool_map, threads):
        measured = pool_map(partial(measure_source, settings=settings, threads=threads), sources)
        results = list(with_progress(measured, "measuring", len(sources), "video"))
    if args.plot:
        for source, result in zip(sources, results, strict=True):
            if not isinstance(result, str):
                _plot(Path(args.plot), source, result, settings)
    if args.json:
        rows = [
            {"video": s.name, **({"error": r} if isinstance(r, str) else r.detail())}
            for s, r in zip(sources, results, strict=True)
        ]
        print(json.dumps(rows, indent=2))
    else:
        print(results_table(sources, results))
    return int(any(isinstance(r, str) for r in results))


def settings_of(args: argparse.Namespace) -> SampsonSettings:
    """conf/sampson with the options given, checked as any configuration.

    Raises:
        UserError: an option has a wrong value.
    """
    from omegaconf import OmegaConf

    from cosmos_exp.config.composing import compose_config

    def quoted(value: object) -> str:
        return OmegaConf.to_yaml([value]).strip()[2:] if isinstance(value, int) else f"'{value}'"

    overrides = [f"sampson.{n}={quoted(getattr(args, n))}" for n in OPTIONS if getattr(args, n) is not None]
    if args.views:
        overrides.append("sampson.views=[" + ",".join(f"'{v.strip()}'" for v in args.views.split(",")) + "]")
    return compose_config(overrides).sampson


def sources_of(paths: list[Path], settings: SampsonSettings) -> list[Source]:
    """One source per file; or one of all files, if there is no layout and the views have one name per file.

    Raises:
        UserError: the number of view names fits neither.
    """
    from cosmos_exp.metrics.geometry.files import Source

    if len(settings.views) == len(paths) > 1 and not settings.layout:
        return [Source("+".join(p.stem for p in paths), tuple(paths))]
    if settings.views and not settings.layout and len(settings.views) != 1:
        raise UserError(
            f"--views: {len(settings.views)} names for {len(paths)} files. Add --layout RxC if the views are tiles of each "
            "frame, or give one file per view."
        )
    return [Source(str(p), (p,)) for p in paths]


def _plot(out: Path, source: Source, result: VideoResult, settings: SampsonSettings) -> None:
    from cosmos_exp.metrics.geometry.files import read_views
    from cosmos_exp.metrics.geometry.plots import draw_figures

    views, _ = read_views(source, settings)
    name = source.files[0].stem if len(source.files) == 1 else source.name
    for path in draw_figures(out, name, views, result, settings):
        print(printable(path))


def results_table(sources: Sequence[Source], results: Sequence[VideoResult | str]) -> str:
    """One row per view and view pair; below the table the legend, the reasons of undefined errors, and notes."""
    from rich import box
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for head in HEADS:
        table.add_column(head, justify="left" if head in HEADS[:2] else "right", overflow="fold")
    below: list[str] = []
    for source, result in zip(sources, results, strict=True):
        name = escape(one_line(Path(source.name).name))  # rich reads [ ] as markup
        if isinstance(result, str):
            below.append(result)
            table.add_row(name, *["-"] * (len(HEADS) - 1))
            continue
        for view in result.views:
            table.add_row(name, *_view_cells(view))
            below += [f"{name}, {view.view}: {text}" for text in (view.reason, view.note, *_lost(view)) if text]
        for cross in result.crosses:
            table.add_row(name, *_cross_cells(cross))
            text = cross.reason or f"F of robust and moving: {cross.geometry}"
            below.append(f"{name}, {':'.join(cross.views)}: {text}")
        below += [f"{name}: {note}" for note in result.notes]
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    with console.capture() as shown:
        console.print(table)
        for line in (LEGEND, "", *below):
            console.print(printable(line), markup=False)
    return shown.get().rstrip()


def _lost(v: ViewResult) -> list[str]:
    """The errors that pairs with enough matches lack, and why."""
    from cosmos_exp.metrics.geometry.results import TEMPORAL
    from cosmos_exp.metrics.geometry.temporal import FEWER

    lost = {m: {why: n for why, n in v.pairs_lost[m].items() if not why.startswith(FEWER)} for m in TEMPORAL}
    return [
        f"{m} rests on {v.used(m)} of {v.pairs} pairs ({'; '.join(f'{n}: {why}' for why, n in reasons.items())})"
        for m, reasons in lost.items()
        if reasons and v.tse is not None
    ]


def _view_cells(v: ViewResult) -> list[str]:
    errors = [_error_cell(getattr(v, m), v.repeatability.get(m)) for m in ("tse", "tse_robust", "tse_moving")]
    shares = [_cell(v.static_share, ".0%"), _cell(v.inlier_share, ".0%")]
    pairs = f"{v.pairs_measured}/{v.pairs} ({v.pairs_moving})"
    return [v.view, *errors, *shares, _cell(v.matches, ".0f"), pairs]


def _cross_cells(c: CrossResult) -> list[str]:
    errors = [_error_cell(getattr(c, m), c.repeatability.get(m)) for m in ("cse", "cse_robust", "cse_moving")]
    shares = ["", _cell(c.inlier_share, ".0%")]
    return [":".join(c.views), *errors, *shares, _cell(c.matches, ".0f"), f"{c.frames_measured}/{c.frames}"]


def _error_cell(value: float | None, repeatability: float | None) -> str:
    return _cell(value) if value is None or repeatability is None else f"{value:.3f} +-{repeatability:.3f}"


def _cell(value: float | None, form: str = ".3f") -> str:
    return "-" if value is None else format(value, form)
