"""From the frames of a video to its views: the tiles of a grid and their names, and the pairs to compare."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from cosmos_exp.config.schema import Sampson as SampsonSettings
from cosmos_exp.errors import UserError

EMPTY_STD = 2.0  # grey levels: a tile whose standard deviation stays below this in every frame is empty


@dataclass(frozen=True)
class View:
    """The frames of one camera, uint8 (T, H, W, 3) RGB."""

    name: str
    frames: np.ndarray


def parse_layout(text: str) -> tuple[int, int]:
    """Rows and columns of `2x3`.

    Raises:
        UserError: not ROWSxCOLUMNS.
    """
    found = re.fullmatch(r"([1-9]\d?)x([1-9]\d?)", text.strip().lower())
    if not found:
        raise UserError(f"sampson.layout={text}: expected ROWSxCOLUMNS, e.g. 2x2")
    return int(found[1]), int(found[2])


def split_views(frames: np.ndarray, layout: tuple[int, int], names: list[str]) -> tuple[list[View], list[str]]:
    """The tiles of a grid, row by row, and a note on each tile that was left out because it is empty.

    Args:
        frames: uint8 (T, H, W, 3).
        layout: rows and columns.
        names: one per tile, row by row, `-` skips a tile; empty list: view1, view2, …

    Raises:
        UserError: the grid does not divide the frame, or the number of names is wrong.
    """
    rows, columns = layout
    height, width = frames.shape[1:3]
    if height % rows or width % columns:
        raise UserError(
            f"sampson.layout={rows}x{columns}: does not divide frames of {height}x{width} pixels. Give the rows and columns of the grid of views."
        )
    if names and len(names) != rows * columns:
        raise UserError(f"sampson.views: {len(names)} names for {rows * columns} tiles; name every tile, `-` skips one")
    tall, wide = height // rows, width // columns
    views, notes = [], []
    for index in range(rows * columns):
        name = names[index] if names else f"view{index + 1}"
        r, c = divmod(index, columns)
        tile = frames[:, r * tall : (r + 1) * tall, c * wide : (c + 1) * wide]
        if name == "-":
            continue
        if float(tile.std(axis=(1, 2)).max()) < EMPTY_STD:
            notes.append(f"{name} (row {r + 1}, column {c + 1}) is empty: one colour in every frame")
            continue
        views.append(View(name, tile))
    return views, notes


def views_of(frames: np.ndarray, settings: SampsonSettings) -> tuple[list[View], list[str]]:
    """The views in the frames as `sampson.layout` and `sampson.views` describe them; without a layout one view, `video`.

    Raises:
        UserError: as `split_views`.
    """
    layout = parse_layout(settings.layout) if settings.layout else (1, 1)
    names = list(settings.views) or (["video"] if layout == (1, 1) else [])
    return split_views(frames, layout, names)


def parse_pairs(text: str | None, names: list[str], empty: list[str]) -> list[tuple[str, str]]:
    """Pairs of view names.

    Args:
        text: `left:right,left:wrist`; None: all pairs.
        names: the views.
        empty: tiles that were left out; a pair with one of them is skipped.

    Raises:
        UserError: not A:B with two different views.
    """
    if text is None:
        return [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    pairs = []
    for item in text.split(","):
        a, colon, b = item.strip().partition(":")
        if not colon or a == b or not {a, b} <= {*names, *empty}:
            raise UserError(f"sampson.pairs: {item!r} is not A:B with two of the views {', '.join(names)}")
        if a in names and b in names:
            pairs.append((a, b))
    return pairs
