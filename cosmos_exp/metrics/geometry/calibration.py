"""Calibrated cameras: calibration files, undistorted points, and the fundamental matrix of two known cameras."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

import cv2
import numpy as np
import yaml

from cosmos_exp.errors import UserError


class CameraEntry(TypedDict, total=False):
    """One view of a calibration file. Truth files of the tabletop world have one pose per frame: rotations, translations."""

    intrinsics: list[list[float]]
    size: list[int]
    model: str
    distortion: list[float]
    rotation: list[list[float]]
    translation: list[float]
    rotations: list[list[list[float]]]
    translations: list[list[float]]


@dataclass(frozen=True)
class ViewCalibration:
    """The camera of one view, in OpenCV's conventions.

    intrinsics: (3, 3), in pixels at `size` (height, width).
    model: pinhole or fisheye, of `distortion`: (k1 k2 p1 p2 k3 …) or (k1 k2 k3 k4).
    rotation (3, 3), translation (3,): from world to camera, X_c = R X + t.
    """

    intrinsics: np.ndarray
    size: tuple[int, int]
    model: str = "pinhole"
    distortion: np.ndarray | None = None
    rotation: np.ndarray | None = None
    translation: np.ndarray | None = None

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
        return ViewCalibration(k, (height, width), self.model, self.distortion, self.rotation, self.translation)

    def undistorted(self, points: np.ndarray) -> np.ndarray:
        """The points (N, 2) as seen by a camera with the same intrinsics and no distortion."""
        if self.distortion is None or not len(points):
            return points
        undo = cv2.fisheye.undistortPoints if self.model == "fisheye" else cv2.undistortPoints
        return undo(points[:, None], self.intrinsics, self.distortion, P=self.intrinsics)[:, 0]


def fundamental_from_calibration(a: ViewCalibration, b: ViewCalibration) -> np.ndarray:
    """F = K_b^-T [t]_x R K_a^-1 with the motion from camera a to camera b (Hartley and Zisserman, eq. 9.12).

    Raises:
        ValueError: a camera has no rotation or translation, or both cameras are at the same place.
    """
    if a.rotation is None or a.translation is None or b.rotation is None or b.translation is None:
        raise ValueError("F between views needs rotation and translation of both")
    rotation = b.rotation @ a.rotation.T
    t = b.translation - rotation @ a.translation
    if np.linalg.norm(t) < 1e-12:
        raise ValueError("both cameras are at the same place: F is undefined")
    cross = np.array([[0, -t[2], t[1]], [t[2], 0, -t[0]], [-t[1], t[0], 0]])
    fundamental: np.ndarray = np.linalg.inv(b.intrinsics).T @ cross @ rotation @ np.linalg.inv(a.intrinsics)
    return fundamental


def load_calibration(path: Path) -> dict[str, ViewCalibration]:
    """Cameras by view name from a JSON or YAML file.

    `views: {NAME: {intrinsics: 3x3, size: [height, width], model: pinhole|fisheye, distortion: […], rotation: 3x3,
    translation: [x, y, z]}}`. Only intrinsics and size are required; F between views needs rotation and translation too.
    The truth files of the tabletop world are valid calibration files.

    Raises:
        UserError: the file is not readable, or a key is missing or malformed.
    """
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
        _check_rig(content["views"])
        return {name: _view_calibration(view) for name, view in content["views"].items()}
    except (OSError, yaml.YAMLError, json.JSONDecodeError, KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{path}: not a valid calibration ({type(error).__name__}: {error}). Expected `views: NAME: intrinsics, "
            "size, …` (docs/measures.md)."
        ) from error


def _check_rig(views: dict[str, CameraEntry]) -> None:
    """Moving cameras must move together: only then one F holds between two views in all frames.

    Raises:
        ValueError: the relative pose of two views changes over time.
    """
    moving = [
        (n, np.array(v["rotations"]), np.array(v["translations"])) for n, v in views.items() if v.get("rotations")
    ]
    for name, rotations, translations in moving[1:]:
        turn = rotations @ moving[0][1].transpose(0, 2, 1)
        shift = translations - np.einsum("tij,tj->ti", turn, moving[0][2])
        if not (np.allclose(turn, turn[0], atol=1e-5) and np.allclose(shift, shift[0], atol=1e-5)):
            raise ValueError(f"{moving[0][0]} and {name} do not move as one rig")


def _view_calibration(view: CameraEntry) -> ViewCalibration:
    intrinsics = np.array(view["intrinsics"], dtype=np.float64).reshape(3, 3)
    model = view.get("model", "pinhole")
    if model not in ("pinhole", "fisheye"):
        raise ValueError(f"model {model!r} is neither pinhole nor fisheye")
    size = view.get("size") or [round(intrinsics[1, 2] * 2 + 1), round(intrinsics[0, 2] * 2 + 1)]
    rotation, translation = view.get("rotation"), view.get("translation")
    if rotation is None and view.get("rotations"):  # a truth file: one pose per frame, see _check_rig
        rotation, translation = view["rotations"][0], view["translations"][0]
    return ViewCalibration(
        intrinsics,
        (int(size[0]), int(size[1])),
        model,
        None if view.get("distortion") is None else np.array(view["distortion"], dtype=np.float64),
        None if rotation is None else np.array(rotation, dtype=np.float64).reshape(3, 3),
        None if translation is None else np.array(translation, dtype=np.float64).reshape(3),
    )
