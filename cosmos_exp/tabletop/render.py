"""Ray caster of the tabletop world: analytic shapes, one directional light, shadows on the table.

Only IEEE-exact element-wise operations (+ - * / sqrt and comparisons) touch the pixels: no matrix product and no
per-pixel sine, so pictures are identical byte for byte on every machine. Pictures are cast at twice the output size
and averaged over 2x2 pixels in integer arithmetic.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from cosmos_exp.tabletop.camera import Camera
from cosmos_exp.tabletop.room import Room
from cosmos_exp.tabletop.shapes import FAR, Shape, intersect
from cosmos_exp.tabletop.vectors import Triple, Vector, dot
from cosmos_exp.tabletop.vocabulary import LABELS

SUPERSAMPLE = 2
AMBIENT, DIFFUSE, SHADOW = 0.62, 0.45, 0.58
LIGHT = (-0.30, -0.42, 0.857)  # direction towards the light, unit length to three decimals


class Picture(NamedTuple):
    """One rendered picture.

    rgb: uint8 (height, width, 3). label: uint8 (height, width), what each pixel shows. depth: float32 (height, width),
    metres along the camera's axis, of the upper left of each pixel's four rays.
    """

    rgb: np.ndarray
    label: np.ndarray
    depth: np.ndarray


class _Table(NamedTuple):
    """Where rays meet the table: `visible` bool (rows, columns); x, y in metres."""

    visible: np.ndarray
    x: np.ndarray
    y: np.ndarray


def render(room: Room, shapes: list[Shape], camera: Camera) -> Picture:
    """Render one picture."""
    scale = SUPERSAMPLE
    d = _rays(camera, scale)
    depth, color, label, table = _background(room, camera.position, d)
    color *= np.where(table.visible, _shadows(shapes, camera, table, scale), np.float32(1))[..., None]
    for shape in shapes:
        bounds = _screen_bounds(camera, shape.balls(), scale)
        if bounds is None:
            continue
        t, normals = intersect(shape, camera.position, (d[0][bounds], d[1][bounds], d[2][bounds]))
        nearer = (t < depth[bounds]) & (t > 0.02)
        light = AMBIENT + DIFFUSE * np.maximum(dot(normals(nearer), LIGHT), 0.0)
        color[bounds][nearer] = np.asarray(shape.color, np.float32) * light[:, None]
        depth[bounds][nearer] = t[nearer]
        label[bounds][nearer] = shape.label
    large = np.clip(np.floor(color + np.float32(0.5)), 0, 255).astype(np.uint16)
    four = large[0::2, 0::2] + large[0::2, 1::2] + large[1::2, 0::2] + large[1::2, 1::2]
    rgb = ((four + 2) // 4).astype(np.uint8)
    return Picture(rgb, label[::scale, ::scale].copy(), depth[::scale, ::scale].copy())


def _rays(camera: Camera, scale: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Directions of one ray per enlarged pixel, in world axes: three float32 arrays (rows, columns)."""
    width, height = camera.width * scale, camera.height * scale
    # Pixel (0, 0) of the output covers the enlarged pixels 0..scale-1; the mean of their centres is its own centre.
    column = (np.arange(width) + 0.5) / scale - 0.5 - (camera.width - 1) / 2
    row = (np.arange(height) + 0.5) / scale - 0.5 - (camera.height - 1) / 2
    u, v = (column / camera.focal).astype(np.float32)[None, :], (row / camera.focal).astype(np.float32)[:, None]
    x, y, z = (camera.right[i] * u + camera.down[i] * v + camera.forward[i] for i in range(3))
    return x, y, z


def _background(
    room: Room, o: Triple, d: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, _Table]:
    """Depth, colour and label of table and wall along the rays, and where the rays meet the table."""
    down = np.where(d[2] < -1e-6, d[2], -1e-6)
    t_table = -o[2] / down
    x, y = o[0] + t_table * d[0], o[1] + t_table * d[1]
    on_table = (d[2] < -1e-6) & (y < room.table_far)
    forward = np.where(d[1] > 1e-6, d[1], 1e-6)
    t_wall = (room.wall_y - o[1]) / forward
    wall_x, wall_z = o[0] + t_wall * d[0], o[2] + t_wall * d[2]
    # Rows of both textures run away from the viewer or up; the table's origin is at the middle of its texture.
    color = np.empty((*t_table.shape, 3), np.float32)
    color[on_table] = _texture(room.table, x[on_table], y[on_table], room.texel)
    beyond = ~on_table
    color[beyond] = _texture(room.wall, wall_x[beyond], wall_z[beyond] - 0.1, room.texel)
    t = np.where(on_table, t_table, t_wall)
    label = np.where(on_table, LABELS["table"], LABELS["wall"]).astype(np.uint8)
    return t, color, label, _Table(on_table, x, y)


def _texture(image: np.ndarray, x: np.ndarray, y: np.ndarray, texel: float) -> np.ndarray:
    """Nearest texels (N, 3) of `image` at x, y in metres from its middle; coordinates outside use the border."""
    rows, columns = image.shape[:2]
    i = np.clip(np.floor(y / texel).astype(np.int32) + rows // 2, 0, rows - 1)
    j = np.clip(np.floor(x / texel).astype(np.int32) + columns // 2, 0, columns - 1)
    return np.take(image.reshape(-1, 3), i * columns + j, axis=0)


def _shadows(shapes: list[Shape], camera: Camera, table: _Table, scale: int) -> np.ndarray:
    """Brightness factor of the table, float32 (rows, columns): SHADOW where a shape blocks the light, else 1."""
    factor = np.ones(table.visible.shape, np.float32)
    for shape in shapes:
        spots: list[tuple[Triple, float]] = []
        for center, radius in shape.balls():
            fall = center[2] / LIGHT[2]
            spots.append(((center[0] - LIGHT[0] * fall, center[1] - LIGHT[1] * fall, 0.0), radius * 1.5))
        bounds = _screen_bounds(camera, spots, scale)
        if bounds is None:
            continue
        on_table: Vector = (table.x[bounds], table.y[bounds], np.float32(1e-4))
        t = intersect(shape, on_table, LIGHT).depth
        hit = (t < FAR) & (t > -1e-3) & table.visible[bounds]
        factor[bounds][hit] = SHADOW
    return factor


def _screen_bounds(camera: Camera, balls: list[tuple[Triple, float]], scale: int) -> tuple[slice, slice] | None:
    """Rows and columns of the enlarged picture that the convex hull of `balls` can touch; None if outside."""
    boxes = []
    for center, radius in balls:
        u, v, depth = camera.project(center)
        reach = camera.focal * radius / max(depth - radius, 0.03) * 1.15 + 1.0
        boxes.append((u - reach, u + reach, v - reach, v + reach))
    lefts, rights, tops, bottoms = zip(*boxes, strict=True)
    width, height = camera.width * scale, camera.height * scale
    left, right = max(int(min(lefts) * scale), 0), min(int(max(rights) * scale) + 2, width)
    top, bottom = max(int(min(tops) * scale), 0), min(int(max(bottoms) * scale) + 2, height)
    return (slice(top, bottom), slice(left, right)) if left < right and top < bottom else None
