"""Vectors, the pinhole camera, and analytic shapes with their intersection with rays.

World axes: x right, y away from the viewer, z up, metres; the table top is the plane z = 0.
Camera axes as in OpenCV: x right, y down, z forward.

Only IEEE-exact element-wise operations (+ - * / sqrt and comparisons) are used, so results are identical on every
machine. A ray is o + t d; `t` is the depth along the camera's z axis when `d` has unit length along that axis.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from typing import TypeVar

import numpy as np

Triple = tuple[float, float, float]
Component = float | np.floating | np.ndarray  # one value for all rays, or one per ray
Vector = tuple[Component, Component, Component]
C = TypeVar("C", float, Component)


def dot(a: Vector | Triple, b: Vector | Triple) -> Component:
    """Return a0 b0 + a1 b1 + a2 b2, added in this order."""
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


def subtract(a: tuple[C, C, C], b: Triple) -> tuple[C, C, C]:
    """Return a - b for points in metres."""
    return a[0] - b[0], a[1] - b[1], a[2] - b[2]


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


FAR = 1e9  # depth of a ray that misses


@dataclass(frozen=True)
class Shape:
    """One primitive. `kind` is sphere, capsule, cylinder (upright), tube (upright, open at the top) or box."""

    kind: str
    center: Triple
    size: Triple  # sphere: radius; capsule: radius; cylinder, tube: radius, height (tube: floor); box: half extents
    color: Triple  # RGB, 0 to 255
    label: int  # value in the label picture where this shape is visible
    end: Triple = (0.0, 0.0, 0.0)  # capsule: the other end
    turn: tuple[float, float] = (1.0, 0.0)  # box: cosine and sine of its rotation about z

    def balls(self) -> list[tuple[Triple, float]]:
        """Centres and radii of one or two balls whose convex hull contains the shape."""
        c, s = self.center, self.size
        if self.kind == "sphere":
            return [(c, s[0])]
        if self.kind == "capsule":
            return [(c, s[0]), (self.end, s[0])]
        if self.kind == "box":
            return [(c, (s[0] ** 2 + s[1] ** 2 + s[2] ** 2) ** 0.5)]
        return [((c[0], c[1], c[2] + s[1] / 2), (s[0] ** 2 + s[1] ** 2 / 4) ** 0.5)]


# Where rays meet a shape: t per ray, FAR where the ray misses, and a function from a boolean mask of rays to the outward
# normals of those rays; few rays hit a shape, so normals are computed for these alone.
Hit = tuple[np.ndarray, Callable[[np.ndarray], Vector]]


def intersect(shape: Shape, o: Vector, d: Vector) -> Hit:
    """Intersect rays with `shape`.

    Args:
        o: origins of the rays in metres, one for all or one per ray.
        d: directions of the rays, one for all or one per ray.
    """
    center, size = shape.center, shape.size
    if shape.kind == "sphere":
        return _sphere(o, d, center, size[0])
    if shape.kind == "capsule":
        return _capsule(o, d, center, shape.end, size[0])
    if shape.kind == "box":
        return _box(o, d, center, size, shape.turn)
    return _cylinder(o, d, center, *size, is_tube=shape.kind == "tube")


def _at(values: Component, hit: np.ndarray) -> Component:
    """The selected entries of a per-ray array; a value that is the same for all rays is returned as it is."""
    return values[hit] if isinstance(values, np.ndarray) and values.ndim else values


def _points(o: Vector, d: Vector, t: np.ndarray, hit: np.ndarray) -> Vector:
    return (
        _at(o[0], hit) + t[hit] * _at(d[0], hit),
        _at(o[1], hit) + t[hit] * _at(d[1], hit),
        _at(o[2], hit) + t[hit] * _at(d[2], hit),
    )


def _sphere_entry(o: Vector, d: Vector, dd: Component, center: Triple, radius: float) -> np.ndarray:
    oc = subtract(o, center)
    b, c = dot(d, oc), dot(oc, oc) - radius * radius
    h = b * b - dd * c
    return np.where(h > 0, (-b - np.sqrt(np.maximum(h, 0))) / dd, FAR)


def _sphere(o: Vector, d: Vector, center: Triple, radius: float) -> Hit:
    t = _sphere_entry(o, d, dot(d, d), center, radius)

    def normals(hit: np.ndarray) -> Vector:
        x, y, z = subtract(_points(o, d, t, hit), center)
        return x / radius, y / radius, z / radius

    return t, normals


def _capsule(o: Vector, d: Vector, start: Triple, end: Triple, radius: float) -> Hit:
    ba = subtract(end, start)
    oa = subtract(o, start)
    dd, baba, bad, bao, dao, oao = dot(d, d), dot(ba, ba), dot(ba, d), dot(ba, oa), dot(d, oa), dot(oa, oa)
    a = np.maximum(baba * dd - bad * bad, 1e-12)
    b = baba * dao - bao * bad
    c = baba * oao - bao * bao - radius * radius * baba
    h = b * b - a * c
    t_body = (-b - np.sqrt(np.maximum(h, 0))) / a
    along = bao + t_body * bad
    caps = np.minimum(_sphere_entry(o, d, dd, start, radius), _sphere_entry(o, d, dd, end, radius))
    t = np.where((h > 0) & (along > 0) & (along < baba), t_body, caps)

    def normals(hit: np.ndarray) -> Vector:
        x, y, z = subtract(_points(o, d, t, hit), start)
        along = np.clip(dot((x, y, z), ba) / baba, 0.0, 1.0)
        return (x - along * ba[0]) / radius, (y - along * ba[1]) / radius, (z - along * ba[2]) / radius

    return t, normals


def _cylinder(o: Vector, d: Vector, base: Triple, radius: float, height: float, floor: float, is_tube: bool) -> Hit:
    """Upright cylinder; a tube is open at the top and hollow down to the floor, metres above its base."""
    ox, oy, _ = subtract(o, base)
    a = np.maximum(d[0] * d[0] + d[1] * d[1], 1e-12)
    b = d[0] * ox + d[1] * oy
    h = b * b - a * (ox * ox + oy * oy - radius * radius)
    root = np.sqrt(np.maximum(h, 0))
    t_side, t_back = (-b - root) / a, (-b + root) / a
    z_side = o[2] + t_side * d[2] - base[2]
    side = (h > 0) & (z_side >= 0) & (z_side <= height) & (t_side > 0)
    t = np.where(side, t_side, FAR)
    inner = np.zeros_like(side)
    if is_tube:  # the inner side of the far wall, visible over the rim
        z_back = o[2] + t_back * d[2] - base[2]
        inner = (h > 0) & (z_back >= floor) & (z_back <= height) & (t_back < t) & (t_back > 0) & ~side
        t = np.where(inner, t_back, t)
    lid = floor if is_tube else height
    slope = np.where(np.abs(d[2]) < 1e-9, 1e-9, d[2])
    t_lid = (base[2] + lid - o[2]) / slope
    lx, ly = ox + t_lid * d[0], oy + t_lid * d[1]
    top = (lx * lx + ly * ly <= radius * radius) & (t_lid > 0) & (t_lid < t)
    t = np.where(top, t_lid, t)

    def normals(hit: np.ndarray) -> Vector:
        x, y, _ = _points(o, d, t, hit)
        sign = np.where(top[hit], 0.0, np.where(inner[hit], -1.0, 1.0))
        return sign * (x - base[0]) / radius, sign * (y - base[1]) / radius, np.where(top[hit], 1.0, 0.0)

    return t, normals


def _box(o: Vector, d: Vector, center: Triple, half: Triple, turn: tuple[float, float]) -> Hit:
    cos, sin = turn
    x, y, z = subtract(o, center)
    local_o = (cos * x + sin * y, cos * y - sin * x, z)
    local_d = (cos * d[0] + sin * d[1], cos * d[1] - sin * d[0], d[2])
    near, far = [], []
    for i in range(3):
        slope = np.where(np.abs(local_d[i]) < 1e-9, 1e-9, local_d[i])
        one, two = (-half[i] - local_o[i]) / slope, (half[i] - local_o[i]) / slope
        near.append(np.minimum(one, two))
        far.append(np.maximum(one, two))
    enter, leave = reduce(np.maximum, near), reduce(np.minimum, far)
    t = np.where((enter < leave) & (leave > 0), enter, FAR)

    def normals(hit: np.ndarray) -> Vector:
        n = [np.where(near[i][hit] == enter[hit], np.where(_at(local_d[i], hit) > 0, -1.0, 1.0), 0.0) for i in range(3)]
        return cos * n[0] - sin * n[1], sin * n[0] + cos * n[1], n[2]

    return t, normals
