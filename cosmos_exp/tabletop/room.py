"""The static part of a scene: procedural textures of the table and the wall."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cosmos_exp.tabletop.vectors import Triple
from cosmos_exp.tabletop.vocabulary import TABLE_TONE


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
    return Room(_as_texture(table), _as_texture(wall))


def _as_texture(image: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.clip(image, 0, 255), dtype=np.float32)


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
