"""The views of a video: the tiles of a grid with their names, the pairs to compare, and their calibrated cameras."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import combinations
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import yaml

from cosmos_exp.config.schema import Sampson
from cosmos_exp.data.video import VideoFrames
from cosmos_exp.errors import UserError
from cosmos_exp.metrics.interface import tiles

EMPTY_STD = 2.0  # grey levels: a tile whose standard deviation stays below this in every frame is empty


@dataclass(frozen=True)
class View:
    """One camera: a tile, its rows and columns, of each frame of a video, uint8 (T, H, W, 3) RGB."""

    name: str
    frames: np.ndarray | VideoFrames
    tile: tuple[slice, slice] = (slice(None), slice(None))

    @property
    def size(self) -> tuple[int, int]:
        """Height and width."""
        (_, height, width, _), (rows, columns) = self.frames.shape, self.tile
        return len(range(height)[rows]), len(range(width)[columns])

    def __iter__(self) -> Iterator[np.ndarray]:
        for frame in self.frames:
            yield frame[self.tile]

    def is_empty(self) -> bool:
        """Whether each frame is of one colour. The first that is not ends the search."""
        return all(float(picture.std(axis=(0, 1)).max()) < EMPTY_STD for picture in self)


def views_of(frames: np.ndarray | VideoFrames, settings: Sampson) -> tuple[list[View], list[str]]:
    """The tiles that `sampson.layout` and `sampson.views` describe; without a layout one view, `video`.

    Args:
        frames: uint8 (T, H, W, 3).

    Returns:
        The views, and a note on each tile that was left out because it is empty.

    Raises:
        UserError: the layout is not ROWSxCOLUMNS or does not divide the frame, or the number of names is wrong.
    """
    layout, names = settings.layout or "1x1", settings.views
    numbers = re.fullmatch(r"([1-9]\d?)x([1-9]\d?)", layout.strip().lower())
    if not numbers:
        raise UserError(f"sampson.layout={layout}: expected ROWSxCOLUMNS, e.g. 2x2")
    rows, columns = int(numbers[1]), int(numbers[2])
    height, width = frames.shape[1:3]
    if height % rows or width % columns:
        raise UserError(
            f"sampson.layout={layout}: does not divide frames of {height}x{width} pixels. Give the rows and columns of the grid of views."
        )
    if not names:
        names = [f"view{index + 1}" for index in range(rows * columns)] if settings.layout else ["video"]
    if len(names) != rows * columns:
        raise UserError(f"sampson.views: {len(names)} names for {rows * columns} tiles; name every tile, `-` skips one")
    views, notes = [], []
    for index, (name, tile) in enumerate(zip(names, tiles(height, width, rows, columns), strict=True)):
        if name == "-":
            continue
        view = View(name, frames, tile)
        if view.is_empty():
            row, column = divmod(index, columns)
            notes.append(f"{name} (row {row + 1}, column {column + 1}) is empty: one colour in every frame")
        else:
            views.append(view)
    return views, notes


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
        return list(combinations(names, 2))
    pairs = []
    for item in text.split(","):
        a, colon, b = item.strip().partition(":")
        if not colon or a == b or not {a, b} <= {*names, *empty}:
            raise UserError(f"sampson.pairs: {item!r} is not A:B with two of the views {', '.join(names)}")
        if a in names and b in names:
            pairs.append((a, b))
    return pairs


@dataclass(frozen=True)
class ViewCalibration:
    """The camera of one view, in OpenCV's conventions.

    intrinsics: (3, 3), in pixels at `size` (height, width).
    model: pinhole or fisheye, of `distortion`: (k1 k2 p1 p2 k3 …) or (k1 k2 k3 k4).
    """

    intrinsics: np.ndarray
    size: tuple[int, int]
    model: str = "pinhole"
    distortion: np.ndarray | None = None

    def scaled(self, height: int, width: int) -> ViewCalibration:
        """The same camera for images of another size. Pixel centres are at integers."""
        sy, sx = height / self.size[0], width / self.size[1]
        if (sy, sx) == (1.0, 1.0):
            return self
        k = self.intrinsics.copy()
        k[0] *= sx
        k[1] *= sy
        k[0, 2] += (sx - 1) / 2
        k[1, 2] += (sy - 1) / 2
        return replace(self, intrinsics=k, size=(height, width))

    def undistorted(self, points: np.ndarray) -> np.ndarray:
        """The points (N, 2) as seen by a camera with the same intrinsics and no distortion."""
        if self.distortion is None or not len(points):
            return points
        undo = cv2.fisheye.undistortPoints if self.model == "fisheye" else cv2.undistortPoints
        return undo(points[:, None], self.intrinsics, self.distortion, P=self.intrinsics)[:, 0]


def camera_of(view: View, calibration: Mapping[str, ViewCalibration] | None) -> ViewCalibration | None:
    """The camera of a view at its size; None if there is no calibration.

    Raises:
        UserError: the calibration lacks the view.
    """
    if not calibration:
        return None
    if view.name not in calibration:
        raise UserError(f"sampson.calibration: no view {view.name!r}; the file has {', '.join(calibration)}")
    return calibration[view.name].scaled(*view.size)


def load_calibration(settings: Sampson) -> dict[str, ViewCalibration] | None:
    """The cameras of `sampson.calibration`, a JSON or YAML file, by view name; None if it is not set.

    `views: {NAME: {intrinsics: 3x3, size: [height, width], model: pinhole|fisheye, distortion: […]}}`. Only intrinsics and
    size are required; other keys, such as poses, are not read.

    Raises:
        UserError: the file is not readable, or a key is missing or malformed.
    """
    if not settings.calibration:
        return None
    path = Path(settings.calibration)
    try:
        views = yaml.safe_load(path.read_text(encoding="utf-8"))["views"]
        return {name: _view_calibration(view) for name, view in views.items()}
    except (OSError, yaml.YAMLError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{path}: not a valid calibration ({type(error).__name__}: {error}). Expected `views: NAME: intrinsics, "
            "size, …` (docs/measures.md)."
        ) from error


def _view_calibration(view: dict[str, Any]) -> ViewCalibration:
    distortion = None
    if view.get("distortion") is not None:
        distortion = np.array(view["distortion"], dtype=np.float64).ravel()
    intrinsics = np.array(view["intrinsics"], dtype=np.float64).reshape(3, 3)
    model = view.get("model", "pinhole")
    if model not in ("pinhole", "fisheye"):
        raise ValueError(f"model {model!r} is neither pinhole nor fisheye")
    height, width = view.get("size") or [round(intrinsics[1, 2] * 2 + 1), round(intrinsics[0, 2] * 2 + 1)]
    return ViewCalibration(intrinsics, (int(height), int(width)), model, distortion)
