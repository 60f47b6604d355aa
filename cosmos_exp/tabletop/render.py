"""Ray caster of the tabletop world: textured table and wall, analytic shapes, one directional light, shadows on the table.

Only IEEE-exact element-wise operations (+ - * / sqrt and comparisons) touch the pixels: no matrix product and no
per-pixel sine, so pictures are identical byte for byte on every machine. Pictures are cast at twice the output size
and averaged over 2x2 pixels in integer arithmetic.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cosmos_exp.tabletop.geometry import FAR, Camera, Shape, Triple, dot, intersect
from cosmos_exp.tabletop.world import LABELS, TABLE_TONE

SUPERSAMPLE = 2
AMBIENT, DIFFUSE, SHADOW = 0.62, 0.45, 0.58
Table = tuple[np.ndarray, np.ndarray, np.ndarray]  # where rays meet it: bool, whether they do; x, y in metres
LIGHT = (-0.30, -0.42, 0.857)  # direction towards the light, unit length to three decimals


def render(room: Room, shapes: list[Shape], camera: Camera) -> tuple[np.ndarray, np.ndarray]:
    """Render one picture: uint8 (height, width, 3), RGB, and uint8 (height, width), what each pixel shows."""
    d = _rays(camera)
    depth, color, label, table = _background(room, camera.position, d)
    color *= _shadows(shapes, camera, table)[..., None]
    for shape in shapes:
        bounds = _screen_bounds(camera, shape.balls())
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
    return ((four + 2) // 4).astype(np.uint8), label[::SUPERSAMPLE, ::SUPERSAMPLE].copy()


def _rays(camera: Camera) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Directions of one ray per enlarged pixel, in world axes: three float32 arrays (rows, columns)."""

    def slopes(pixels: int) -> np.ndarray:
        # Pixel 0 of the output covers the first SUPERSAMPLE enlarged pixels; the mean of their centres is its own centre.
        place = (np.arange(pixels * SUPERSAMPLE) + 0.5) / SUPERSAMPLE - 0.5 - (pixels - 1) / 2
        return (place / camera.focal).astype(np.float32)

    u, v = slopes(camera.width)[None, :], slopes(camera.height)[:, None]
    x, y, z = (camera.right[i] * u + camera.down[i] * v + camera.forward[i] for i in range(3))
    return x, y, z


def _background(
    room: Room, o: Triple, d: tuple[np.ndarray, np.ndarray, np.ndarray]
) -> tuple[np.ndarray, np.ndarray, np.ndarray, Table]:
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
    return t, color, label, (on_table, x, y)


def _texture(image: np.ndarray, x: np.ndarray, y: np.ndarray, texel: float) -> np.ndarray:
    """Nearest texels (N, 3) of `image` at x, y in metres from its middle; coordinates outside use the border."""
    rows, columns = image.shape[:2]
    i = np.clip(np.floor(y / texel).astype(np.int32) + rows // 2, 0, rows - 1)
    j = np.clip(np.floor(x / texel).astype(np.int32) + columns // 2, 0, columns - 1)
    return np.take(image.reshape(-1, 3), i * columns + j, axis=0)


def _shadows(shapes: list[Shape], camera: Camera, table: Table) -> np.ndarray:
    """Brightness factor of the table, float32 (rows, columns): SHADOW where a shape blocks the light, else 1."""
    visible, x, y = table
    factor = np.ones(visible.shape, np.float32)
    for shape in shapes:
        spots: list[tuple[Triple, float]] = []
        for center, radius in shape.balls():
            fall = center[2] / LIGHT[2]
            spots.append(((center[0] - LIGHT[0] * fall, center[1] - LIGHT[1] * fall, 0.0), radius * 1.5))
        bounds = _screen_bounds(camera, spots)
        if bounds is None:
            continue
        t, _ = intersect(shape, (x[bounds], y[bounds], np.float32(1e-4)), LIGHT)
        hit = (t < FAR) & (t > -1e-3) & visible[bounds]
        factor[bounds][hit] = SHADOW
    return factor


def _screen_bounds(camera: Camera, balls: list[tuple[Triple, float]]) -> tuple[slice, slice] | None:
    """Rows and columns of the enlarged picture that the convex hull of `balls` can touch; None if outside."""
    corners = []
    for center, radius in balls:
        u, v, depth = camera.project(center)
        reach = camera.focal * radius / max(depth - radius, 0.03) * 1.15 + 1.0
        corners += [(u - reach, v - reach), (u + reach, v + reach)]
    left, top = (np.min(corners, axis=0) * SUPERSAMPLE).astype(int).clip(0)
    end = (np.max(corners, axis=0) * SUPERSAMPLE).astype(int) + 2
    right, bottom = np.minimum(end, (camera.width * SUPERSAMPLE, camera.height * SUPERSAMPLE))
    if left >= right or top >= bottom:
        return None
    return slice(top, bottom), slice(left, right)


@dataclass
class Room:
    """Table and wall textures, float32 (rows, columns, 3) of 0 to 255, and their position in metres."""

    table: np.ndarray
    wall: np.ndarray
    texel: float = 0.0025  # metres per texel
    table_far: float = 0.42  # y of the table's far edge
    wall_y: float = 0.55


def make_room(seed: int) -> Room:
    """A wooden table of planks with knots, and a wall with three pictures, drawn from `seed`.

    The marks are soft and 4 to 8 pixels wide: SIFT finds keypoints on them, and a 4x8x8 video code preserves them.
    """
    rng = np.random.RandomState(np.random.MT19937(np.random.SeedSequence((seed, 0x300D))))
    table = _table_texture(rng, 480, 640)
    wall = _wall_texture(rng, 240, 640)
    # Contiguous, because a lookup in another order copies the whole texture for every frame.
    return Room(
        np.ascontiguousarray(table.clip(0, 255), np.float32), np.ascontiguousarray(wall.clip(0, 255), np.float32)
    )


def _table_texture(rng: np.random.RandomState, rows: int, columns: int) -> np.ndarray:
    wood = np.array(TABLE_TONE) + rng.uniform(-14, 14)
    grain = 7 * _value_noise(rng, rows, columns, 16, 120) + 5 * _value_noise(rng, rows, columns, 60, 160)
    table = wood[None, None, :] + grain[..., None] * np.array((1.0, 0.9, 0.75))
    for k in range(1, 6):
        row = k * rows // 6 + int(rng.randint(-6, 7))
        table[row - 3 : row + 4] *= (1 - 0.3 * np.array((0.3, 0.6, 0.9, 1.0, 0.9, 0.6, 0.3)))[:, None, None]
    _draw_marks(table, rng, 75, 11, 19, ((70, 44, 26), (240, 214, 172), (96, 60, 36)))
    return table


def _wall_texture(rng: np.random.RandomState, rows: int, columns: int) -> np.ndarray:
    wall = np.array((176, 184, 188)) + rng.uniform(-10, 10) + 5 * _value_noise(rng, rows, columns, 40, 40)[..., None]
    _draw_marks(wall, rng, 30, 12, 22, ((110, 118, 130), (224, 226, 224), (140, 110, 100)))
    for _ in range(3):
        top, left = rng.randint(30, 140), rng.randint(10, columns - 90)
        height, width = rng.randint(30, 60), rng.randint(40, 80)
        wall[top : top + height, left : left + width] = (70, 62, 56)
        wall[top + 6 : top + height - 6, left + 6 : left + width - 6] = rng.uniform(90, 220, size=3)
    return wall


def _value_noise(rng: np.random.RandomState, rows: int, columns: int, cell_y: int, cell_x: int) -> np.ndarray:
    """Bilinear value noise in [-1, 1], shape (rows, columns), with cells of `cell_y` x `cell_x` texels."""
    grid = rng.uniform(-1, 1, size=(rows // cell_y + 2, columns // cell_x + 2))
    y, x = np.arange(rows) / cell_y, np.arange(columns) / cell_x
    i, j = np.floor(y).astype(int), np.floor(x).astype(int)
    fy, fx = (y - i)[:, None], (x - j)[None, :]
    a, b, c, d = grid[i][:, j], grid[i][:, j + 1], grid[i + 1][:, j], grid[i + 1][:, j + 1]
    return a * (1 - fy) * (1 - fx) + b * (1 - fy) * fx + c * fy * (1 - fx) + d * fy * fx


def _draw_marks(
    image: np.ndarray, rng: np.random.RandomState, count: int, low: int, high: int, tones: tuple[Triple, ...]
) -> None:
    """Draw `count` soft round knots onto `image`, each `low` to `high` texels wide, in one of `tones`."""
    rows, columns = image.shape[:2]
    for _ in range(count):
        size = int(rng.randint(low, high))
        y, x = int(rng.randint(0, rows - size)), int(rng.randint(0, columns - size))
        grid = (np.arange(size) - (size - 1) / 2) / (size / 2)
        cover = np.clip(1.6 * (1 - grid[:, None] ** 2 - grid[None, :] ** 2), 0, 1)[..., None]
        patch = image[y : y + size, x : x + size]
        patch[:] = patch * (1 - cover) + cover * np.array(tones[int(rng.randint(len(tones)))])
