"""`cosmos-exp sampson`: the Sampson error of any videos."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from cosmos_exp.cli.arguments import existing_files
from cosmos_exp.errors import UserError
from cosmos_exp.text import one_line, printable

if TYPE_CHECKING:
    from cosmos_exp.config.schema import Sampson
    from cosmos_exp.metrics.geometry.results import VideoResult
    from cosmos_exp.metrics.geometry.sampson import Source

HELP = "Sampson error of any videos, over time and across views"
EPILOG = """examples:
  cosmos-exp sampson outputs/*/*/videos/*.mp4
  cosmos-exp sampson grid.mp4 --layout 2x2 --views left,right,wrist,- --pairs left:right
  cosmos-exp sampson left.mp4 right.mp4 --views left,right --calibration rig.yaml     one file per view
  cosmos-exp sampson clip.mp4 --set sampson.matcher=superpoint_lightglue sampson.gap=2

A - in the table: the error is undefined here; the reason is below the table.

exit codes: 0 measured, 1 a video could not be read, 2 wrong arguments"""
LEGEND = """Sampson error in pixels; lower is better. Over time (tse) and across views (cse):
tse, cse: all matches, F exactly as in the Cosmos cookbook, for comparison with published values.
tse_robust, cse_robust: all matches, F by MAGSAC++ and least squares, to compare videos.
tse_moving, cse_moving: only matches that move. measured: frame pairs (across views: frames) that have the error, of all.
Compare only videos of the same size and frame rate. --json has the repeatability of each value, and each frame's."""
COLUMNS = (
    *("video", "view", "tse", "tse_robust", "tse_moving", "cse", "cse_robust", "cse_moving", "static_share"),
    *("inlier_share", "matches", "measured"),
)


def options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add = parser.add_argument
    add("videos", nargs="+", metavar="VIDEO", help="video files")
    add("--layout", metavar="RxC", help="each frame is a grid of views with R rows and C columns")
    add("--views", metavar="NAME,…", help="names of the tiles, row by row, - skips a tile; or one name per file")
    add("--pairs", metavar="A:B,…", help="views to compare with each other (default: all pairs)")
    add("--calibration", metavar="FILE", help="JSON or YAML with each view's camera (docs/measures.md)")
    add("--set", nargs="+", default=[], metavar="KEY=VALUE", help="other keys of conf/sampson, e.g. sampson.gap=2")
    add("--json", action="store_true", help="print all figures as JSON")


def run(args: argparse.Namespace) -> int:
    """Print one line per view and view pair, or JSON. Exit code 1 if a video could not be read."""
    from cosmos_exp.metrics.geometry.sampson import measure_sources
    from cosmos_exp.tracking.progress import with_progress

    settings = settings_of(args)
    sources = sources_of(existing_files(args.videos), settings)
    measured = measure_sources(sources, settings)
    rows, results = [], []
    for source, result in zip(sources, with_progress(measured, "measuring", len(sources), "video"), strict=True):
        results.append((source.name, result))
        detail = {"error": result} if isinstance(result, str) else result.detail()
        rows.append({"video": source.name, **detail})
    print(json.dumps(rows, indent=2) if args.json else results_table(results))
    return int(any("error" in row for row in rows))


def settings_of(args: argparse.Namespace) -> Sampson:
    """conf/sampson with the options given, checked as any configuration.

    Raises:
        UserError: an option has a wrong value.
    """
    from cosmos_exp.config.composing import compose_config

    overrides = list(args.set)
    for name in ("layout", "pairs", "calibration"):
        if getattr(args, name) is not None:
            overrides.append(f"sampson.{name}='{getattr(args, name)}'")
    if args.views:
        overrides.append(f"sampson.views={args.views.split(',')}")
    return compose_config(overrides).sampson


def sources_of(paths: list[Path], settings: Sampson) -> list[Source]:
    """One source per file; or one of all files, if there is no layout and the views have one name per file.

    Raises:
        UserError: the number of view names fits neither.
    """
    from cosmos_exp.metrics.geometry.sampson import Source

    if len(settings.views) > 1 and not settings.layout:
        if len(settings.views) != len(paths):
            raise UserError(
                f"--views: {len(settings.views)} names for {len(paths)} files. Add --layout RxC if the views are tiles of each "
                "frame, or give one file per view."
            )
        return [Source("+".join(path.stem for path in paths), tuple(paths))]
    return [Source(str(path), (path,)) for path in paths]


def results_table(results: Iterable[tuple[str, VideoResult | str]]) -> str:
    """One row per view and view pair; below the table the legend, the reasons of undefined errors, and notes."""
    import pandas

    rows, below = [], [LEGEND]
    for source, result in results:
        if isinstance(result, str):
            below.append(result)
            continue
        name = Path(source).name
        for part in (*result.views, *result.crosses):
            measured = f"{part.count(next(iter(part.repeatability)))}/{len(part.errors)}"
            row = {"video": one_line(name), "view": part.name, "measured": measured}
            rows.append({**part.values, **row})
            for text in (part.reason, part.note):
                if text:
                    below.append(f"{name}, {part.name}: {text}")
        for measure, (value, reason) in result.measures().items():
            if reason and value is not None:
                below.append(f"{name}: {measure} {reason}")
        for note in result.notes:
            below.append(f"{name}: {note}")
    table = pandas.DataFrame(rows, columns=COLUMNS).dropna(axis="columns", how="all")
    return printable("\n".join([table.to_string(index=False, na_rep="-", float_format="%.3f"), "", *below]))
