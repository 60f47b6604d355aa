"""From a video to its views: tiles of a grid, their names, empty ones left out, calibrations by file."""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np

from cosmos_exp.errors import UserError

CONSTANT = 2.0  # grey levels: a tile whose pixels spread less, in every frame, shows nothing


@dataclass(frozen=True)
class View:
    """One camera's pictures: uint8 (T, H, W, 3)."""

    name: str
    frames: np.ndarray


def parse_layout(text: str) -> tuple[int, int]:
    """`2x3` to (2, 3), rows and columns.

    Raises:
        UserError: another form.
    """
    found = re.fullmatch(r"([1-9]\d?)x([1-9]\d?)", text.strip().lower())
    if not found:
        raise UserError(f"layout {text!r}: write ROWSxCOLUMNS, e.g. 2x2")
    return int(found[1]), int(found[2])


def split_views(frames: np.ndarray, layout: tuple[int, int], names: list[str]) -> tuple[list[View], list[str]]:
    """The tiles of a grid, row by row, and a note on each that was left out because it shows nothing.

    Args:
        names: one a tile, row by row, `-` to leave a tile out; empty: view1, view2, …

    Raises:
        UserError: sides that the grid does not divide, or a wrong number of names.
    """
    rows, columns = layout
    height, width = frames.shape[1:3]
    if height % rows or width % columns:
        raise UserError(f"a {rows}x{columns} grid does not divide {height}x{width} pixels; check the layout")
    if names and len(names) != rows * columns:
        raise UserError(f"{len(names)} view names for {rows * columns} tiles; name each, `-` leaves one out")
    tall, wide = height // rows, width // columns
    views, notes = [], []
    for index in range(rows * columns):
        name = names[index] if names else f"view{index + 1}"
        r, c = divmod(index, columns)
        tile = frames[:, r * tall : (r + 1) * tall, c * wide : (c + 1) * wide]
        if name == "-":
            continue
        if float(tile.std(axis=(1, 2)).max()) < CONSTANT:
            notes.append(f"{name} (row {r + 1}, column {c + 1}) is empty: one colour in every frame")
            continue
        views.append(View(name, tile))
    return views, notes


def parse_pairs(text: str | None, names: list[str], empty: list[str]) -> list[tuple[str, str]]:
    """`left:right,left:wrist` to pairs of names; None: all pairs. A pair with a tile that is `empty` is left out.

    Raises:
        UserError: a name that is no view.
    """
    if text is None:
        return [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    pairs = []
    for item in text.split(","):
        a, colon, b = item.strip().partition(":")
        if not colon or a == b or not {a, b} <= {*names, *empty}:
            raise UserError(f"pair {item!r}: write A:B with two of the views {', '.join(names)}")
        if a in names and b in names:
            pairs.append((a, b))
    return pairs
