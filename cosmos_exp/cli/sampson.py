"""`cosmos-exp sampson` and `cosmos-exp judge`: the measures alone, on any videos."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cosmos_exp.config.composing import compose_config
from cosmos_exp.config.schema import Sampson
from cosmos_exp.errors import UserError

if TYPE_CHECKING:
    pass


SAMPSON_OPTIONS = ("layout", "pairs", "calibration", "matcher", "matcher_source", "gap", "estimator")


def _files(names: list[str]) -> list[Path]:
    paths = [Path(n).expanduser() for n in names]
    absent = [str(p) for p in paths if not p.is_file()]
    if absent:
        raise UserError(f"there is no such file: {', '.join(absent)}")
    return paths


def _settings(args: argparse.Namespace) -> Sampson:
    """conf/sampson with the options given; the configuration's own checks apply."""
    from omegaconf import OmegaConf

    def quoted(value: object) -> str:
        return OmegaConf.to_yaml([value]).strip()[2:] if isinstance(value, int) else f"'{value}'"

    words = [f"sampson.{n}={quoted(getattr(args, n))}" for n in SAMPSON_OPTIONS if getattr(args, n) is not None]
    if args.views:
        words.append("sampson.views=[" + ",".join(f"'{v.strip()}'" for v in args.views.split(",")) + "]")
    return compose_config(words).sampson


def _sources(paths: list[Path], settings: Sampson) -> list:
    """One source a file; or all files as views of one scene, when as many views are named and no layout is."""
    from cosmos_exp.metrics.geometry.files import Source

    if len(settings.views) == len(paths) > 1 and not settings.layout:
        return [Source("+".join(p.stem for p in paths), tuple(paths))]
    if settings.views and not settings.layout and len(settings.views) != 1:
        raise UserError(
            f"--views names {len(settings.views)} views for {len(paths)} files: add --layout RxC when they are tiles of "
            "each frame, or give one file a view"
        )
    return [Source(str(p), (p,)) for p in paths]


def sampson(args: argparse.Namespace) -> int:
    """Print a line a view and view pair (or JSON). Exit code 1 if a video could not be read."""
    from tqdm import tqdm

    from cosmos_exp.metrics.geometry.files import check_settings, measure_all

    settings = _settings(args)
    check_settings(settings)
    sources = _sources(_files(args.videos), settings)
    results = list(
        tqdm(measure_all(sources, settings, args.workers), "measuring", len(sources), unit="video", disable=None)
    )
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
        print(_table(sources, results))
    return int(any(isinstance(r, str) for r in results))


def _plot(out: Path, source: Any, result: Any, settings: Sampson) -> None:
    from cosmos_exp.data.video import read_video
    from cosmos_exp.metrics.geometry.plots import draw
    from cosmos_exp.metrics.geometry.views import View, parse_layout, split_views

    if len(source.files) == 1:
        layout = parse_layout(settings.layout) if settings.layout else (1, 1)
        names = list(settings.views) or (["video"] if layout == (1, 1) else [])
        views, _ = split_views(read_video(source.files[0]), layout, names)
        name = source.files[0].stem
    else:
        views, name = [View(n, read_video(f)) for n, f in zip(settings.views, source.files, strict=True)], source.name
    for path in draw(out, name, views, result, settings):
        print(path)


def _table(sources: list, results: list) -> str:
    """A row a view and view pair; what a missing figure means, and notes, below."""
    from rich import box
    from rich.console import Console
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    heads = ("video", "view", "cookbook", "robust", "moving", "static", "inliers", "matches", "measured")
    for head in heads:
        table.add_column(head, justify="left" if head in heads[:2] else "right", overflow="fold")
    below = []

    def figure(value: float | None, form: str = ".3f") -> str:
        return "-" if value is None else format(value, form)

    for source, result in zip(sources, results, strict=True):
        name = Path(source.name).name
        if isinstance(result, str):
            below.append(result)
            table.add_row(name, *["-"] * 8)
            continue
        for v in result.views:
            table.add_row(
                name,
                v.view,
                figure(v.tse),
                "",
                figure(v.tse_moving),
                figure(v.static_share, ".0%"),
                figure(v.inlier_share, ".0%"),
                figure(v.matches, ".0f"),
                f"{v.pairs_measured}/{v.pairs}",
            )
            below += [f"{name}, {v.view}: {why}" for why in (v.reason, v.note) if why]
        for c in result.crosses:
            table.add_row(
                name,
                ":".join(c.views),
                figure(c.cse),
                figure(c.cse_robust),
                figure(c.cse_moving),
                "",
                figure(c.inlier_share, ".0%"),
                figure(c.matches, ".0f"),
                f"{c.frames_measured}/{c.frames}",
            )
            below += (
                [f"{name}, {':'.join(c.views)}: {c.reason}"]
                if c.reason
                else [f"{name}, {':'.join(c.views)}: F of robust and moving from {c.geometry}"]
            )
        below += [f"{name}: {note}" for note in result.notes]
    console = Console(width=None if sys.stdout.isatty() else 160, highlight=False)
    with console.capture() as shown:
        console.print(table)
        console.print(
            "Sampson error in pixels, lower is steadier. cookbook: all matches, plain RANSAC. moving: matches that move, MAGSAC++."
        )
        for line in below:
            console.print(line, markup=False)
    return shown.get().rstrip()
