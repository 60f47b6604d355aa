"""How a frame is divided into the pictures of several cameras: rows, columns and the name of each tile."""

from __future__ import annotations

import math
import os
import re
from typing import NamedTuple

from cosmos_exp.config.schema import Data
from cosmos_exp.errors import UserError

EMPTY = "-"  # name of a tile without a camera: black, and skipped by the Sampson error


class Tiling(NamedTuple):
    """A grid of tiles. names: one per tile, row by row, black ones too; `-`: no camera."""

    rows: int
    columns: int
    names: tuple[str, ...]

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
    shared = os.path.commonprefix(data.cameras).rpartition(".")[0]  # noqa: RUF071  # names, not paths
    names = tuple(camera.removeprefix(f"{shared}.") for camera in data.cameras)  # left for observation.images.left
    columns = math.isqrt(len(names) - 1) + 1  # auto: the smallest grid whose columns exceed its rows by one at most
    rows = -(-len(names) // columns)
    if data.tiling != "auto":
        numbers = re.fullmatch(r"([1-9]\d?)x([1-9]\d?)", data.tiling.strip().lower())
        if not numbers:
            raise UserError(f"data.tiling={data.tiling}: expected ROWSxCOLUMNS, e.g. 1x2 or 2x2, or auto")
        rows, columns = int(numbers[1]), int(numbers[2])
    if rows * columns < len(names):
        raise UserError(f"data.tiling={data.tiling}: {rows * columns} tiles for {len(names)} cameras; set more or auto")
    return Tiling(rows, columns, names + (EMPTY,) * (rows * columns - len(names)))


def tile_size(data: Data) -> tuple[int, int]:
    """Height and width of a tile in pixels.

    Raises:
        UserError: as `tiling_of`, or a tile's height or width is not whole and even.
    """
    tiling = tiling_of(data)
    for key, pixels, parts in (("height", data.height, tiling.rows), ("width", data.width, tiling.columns)):
        if pixels % (2 * parts):
            raise UserError(
                f"data.{key}={pixels}: {parts} tiles of data.tiling={tiling} need a whole, even {key} each; set a multiple of "
                f"{math.lcm(16, 2 * parts)}"
            )
    return data.height // tiling.rows, data.width // tiling.columns
