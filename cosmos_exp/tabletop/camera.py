"""Pinhole camera of the tabletop world.

World axes: x right, y away from the viewer, z up, metres; the table top is the plane z = 0.
Camera axes as in OpenCV: x right, y down, z forward.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from cosmos_exp.tabletop.vectors import Triple, dot, subtract


@dataclass(frozen=True)
class Camera:
    """A pinhole camera. `right`, `down`, `forward` are the rows of the world-to-camera rotation."""

    position: Triple  # metres
    right: Triple
    down: Triple
    forward: Triple
    focal: float  # pixels, at the output size
    width: int
    height: int

    @property
    def intrinsics(self) -> np.ndarray:
        """3x3 matrix K for the output size; pixel centres have integer coordinates."""
        cx, cy = (self.width - 1) / 2, (self.height - 1) / 2
        return np.array([[self.focal, 0, cx], [0, self.focal, cy], [0, 0, 1]], dtype=np.float64)

    @property
    def rotation(self) -> np.ndarray:
        """3x3 world-to-camera rotation R; a world point X has camera coordinates R X + t."""
        return np.array([self.right, self.down, self.forward], dtype=np.float64)

    @property
    def translation(self) -> np.ndarray:
        """t = -R c, shape (3,), metres."""
        return np.array([-dot(row, self.position) for row in (self.right, self.down, self.forward)])

    def project(self, point: Triple) -> tuple[float, float, float]:
        """Pixel column, pixel row and depth in metres of a world point."""
        offset = subtract(point, self.position)
        x, y, z = (float(dot(row, offset)) for row in (self.right, self.down, self.forward))
        z = max(z, 1e-6)
        return self.focal * x / z + (self.width - 1) / 2, self.focal * y / z + (self.height - 1) / 2, z


def aimed_camera(position: Triple, target: Triple, size: tuple[int, int], focal: float) -> Camera:
    """A camera at `position` whose optical axis passes through `target`, without roll.

    Args:
        position, target: world points in metres.
        size: height and width of the picture in pixels.
        focal: focal length in pixels.
    """
    toward = subtract(target, position)
    norm = math.sqrt(sum(x * x for x in toward))
    f = (round(toward[0] / norm, 9), round(toward[1] / norm, 9), round(toward[2] / norm, 9))
    flat = math.sqrt(f[0] * f[0] + f[1] * f[1])
    right = (round(f[1] / flat, 9), round(-f[0] / flat, 9), 0.0)
    down = (f[1] * right[2] - f[2] * right[1], f[2] * right[0] - f[0] * right[2], f[0] * right[1] - f[1] * right[0])
    place = (round(position[0], 9), round(position[1], 9), round(position[2], 9))
    return Camera(place, right, down, f, focal, size[1], size[0])
