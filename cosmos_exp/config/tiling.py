"""How a frame is divided into the pictures of several cameras: rows, columns and the name of each tile."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import NamedTuple

from cosmos_exp.config.schema import Data
from cosmos_exp.errors import UserError

EMPTY = "-"  # name of a tile without a camera: black, and skipped by the Sampson error
PATCH = 16  # pixels of one token's side: 8x8 in the autoencoder, 2x2 in the transformer


class Tiling(NamedTuple):
    """A grid of tiles. names: one per tile, row by row; `-`: no camera."""

    rows: int
    columns: int
    names: tuple[str, ...]

    @property
    def tiles(self) -> int:
        """Number of tiles, black ones too."""
        return self.rows * self.columns

    def __str__(self) -> str:
        return f"{self.rows}x{self.columns}"


def tiling_of(data: Data) -> Tiling:
    """The tiles of a frame: those of data.cameras, or data.views in one row, or the whole frame (1x1).

    Raises:
        UserError: data.tiling is not ROWSxCOLUMNS, or has fewer tiles than there are cameras.
    """
    if not data.cameras:
        names = tuple(data.views) or ("video",)
        return Tiling(1, len(names), names)
    rows, columns = _grid(data.tiling, len(data.cameras))
    names = short_names(data.cameras)
    if rows * columns < len(names):
        near = f"{_most_square(len(names))[0]}x{_most_square(len(names))[1]}"
        raise UserError(
            f"data.tiling={data.tiling}: {rows * columns} tiles for {len(names)} cameras; set {near} or auto"
        )
    return Tiling(rows, columns, names + (EMPTY,) * (rows * columns - len(names)))


def tile_size(data: Data) -> tuple[int, int]:
    """Height and width of a tile in pixels.

    Raises:
        UserError: as `tiling_of`, or a tile's height or width is not whole and even.
    """
    tiling, sizes = tiling_of(data), []
    for key, pixels, parts in (("height", data.height, tiling.rows), ("width", data.width, tiling.columns)):
        if pixels % (2 * parts):
            step = math.lcm(16, 2 * parts)
            near = max(step, round(pixels / step) * step)
            raise UserError(
                f"data.{key}={pixels}: {parts} tiles of data.tiling={tiling} need a whole, even {key} each; "
                f"e.g. data.{key}={near}"
            )
        sizes.append(pixels // parts)
    return sizes[0], sizes[1]


def short_names(cameras: Sequence[str]) -> tuple[str, ...]:
    """Names for tables: the last part (`observation.images.left`: left), or what differs if that part is the same."""
    last = [camera.rpartition(".")[2] for camera in cameras]
    if len(set(last)) == len(last):
        return tuple(last)
    parts = [camera.split(".") for camera in cameras]
    shared = 0
    for level, names in enumerate(zip(*parts, strict=False)):
        if len(set(names)) > 1:
            shared = level
            break
    return tuple(".".join(part[shared:]) for part in parts)


def describe_tiles(data: Data) -> list[str]:
    """Lines on the tiles for the screen, the plan and the run's record; none without data.cameras."""
    if not data.cameras:
        return []
    tiling, (height, width) = tiling_of(data), tile_size(data)
    empty = tiling.tiles - len(data.cameras)
    black = f", {empty} black" if empty else ""
    lines = [
        f"{len(data.cameras)} cameras tiled {tiling} in a frame of {data.height}x{data.width} (height x width): "
        f"{', '.join(tiling.names[: len(data.cameras)])}; {height}x{width} pixels each{black}"
    ]
    if height % PATCH or width % PATCH:
        lines.append(
            f"tiles of {height}x{width} are not a multiple of {PATCH} pixels: tokens on a border mix two cameras"
        )
    return lines


def _grid(text: str, count: int) -> tuple[int, int]:
    """Rows and columns that data.tiling asks for."""
    if text == "auto":
        return _most_square(count)
    found = re.fullmatch(r"([1-9]\d?)x([1-9]\d?)", text.strip().lower())
    if not found:
        raise UserError(f"data.tiling={text}: expected ROWSxCOLUMNS, e.g. 1x2 or 2x2, or auto")
    return int(found[1]), int(found[2])


def _most_square(count: int) -> tuple[int, int]:
    """1x1, 1x2, 2x2, 2x2, 2x3, 2x3, 3x3 …: the smallest grid whose columns exceed its rows by one at most."""
    columns = math.isqrt(count - 1) + 1
    return -(-count // columns), columns
