"""Several cameras in one frame: each camera's picture is resized to its tile, tiles without a camera are black."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cosmos_exp.config.schema import Data
from cosmos_exp.config.tiling import tile_size, tiling_of
from cosmos_exp.data.video import resize


def tile_frames(cameras: Sequence[np.ndarray], data: Data) -> np.ndarray:
    """The frames of several cameras as one, row by row.

    Args:
        cameras: each uint8 (T, H, W, 3) RGB; T is common, sizes may differ. In the order of data.cameras.

    Returns:
        uint8 (T, data.height, data.width, 3).
    """
    tiling, (height, width) = tiling_of(data), tile_size(data)
    frame = np.zeros((len(cameras[0]), data.height, data.width, 3), np.uint8)
    for index, pictures in enumerate(cameras):
        row, column = divmod(index, tiling.columns)
        rows = slice(row * height, (row + 1) * height)
        columns = slice(column * width, (column + 1) * width)
        frame[:, rows, columns] = resize(pictures, height, width, data.resize)
    return frame
