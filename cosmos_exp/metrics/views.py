"""From a video to its views: tiles of a grid, their names, empty ones left out, calibrations by file."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from cosmos_exp.errors import UserError
from cosmos_exp.metrics.geometry import ViewCalibration

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


def load_calibration(path: Path) -> dict[str, ViewCalibration]:
    """Cameras by name from JSON or YAML.

    `views: {NAME: {intrinsics: 3x3, size: [height, width], model: pinhole|fisheye, distortion: […], rotation: 3x3,
    translation: [x, y, z]}}`; only intrinsics and size are needed, rotation and translation for a known rig. The truth
    files of the tabletop world can be given as they are.

    Raises:
        UserError: not readable, or a key that is missing or of the wrong form.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        _check_rig(content["views"])
        return {name: _view_calibration(view) for name, view in content["views"].items()}
    except (OSError, yaml.YAMLError, json.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{path}: no calibration ({type(error).__name__}: {error}); expected views: NAME: intrinsics, size, …"
        ) from error


def _check_rig(views: dict[str, Any]) -> None:
    """Cameras that move must move together, or no one geometry holds between them.

    Raises:
        ValueError: the motion between two views changes from frame to frame.
    """
    moving = [
        (n, np.array(v["rotations"]), np.array(v["translations"])) for n, v in views.items() if v.get("rotations")
    ]
    for name, rotations, translations in moving[1:]:
        turn = rotations @ moving[0][1].transpose(0, 2, 1)
        shift = translations - np.einsum("tij,tj->ti", turn, moving[0][2])
        if not (np.allclose(turn, turn[0], atol=1e-5) and np.allclose(shift, shift[0], atol=1e-5)):
            raise ValueError(f"{moving[0][0]} and {name} do not move as one rig")


def _view_calibration(view: dict[str, Any]) -> ViewCalibration:
    intrinsics = np.array(view["intrinsics"], dtype=np.float64).reshape(3, 3)
    model = view.get("model", "pinhole")
    if model not in ("pinhole", "fisheye"):
        raise ValueError(f"model {model!r} is neither pinhole nor fisheye")
    size = view.get("size") or [round(intrinsics[1, 2] * 2 + 1), round(intrinsics[0, 2] * 2 + 1)]
    rotation, translation = view.get("rotation"), view.get("translation")
    if rotation is None and view.get("rotations"):  # a truth file has the pose of every frame; see _check_rig
        rotation, translation = view["rotations"][0], view["translations"][0]
    return ViewCalibration(
        intrinsics, (int(size[0]), int(size[1])), model,
        None if view.get("distortion") is None else np.array(view["distortion"], dtype=np.float64),
        None if rotation is None else np.array(rotation, dtype=np.float64).reshape(3, 3),
        None if translation is None else np.array(translation, dtype=np.float64).reshape(3),
    )  # fmt: skip
