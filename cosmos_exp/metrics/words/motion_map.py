"""The motion map of a video: where, and how strongly, it departs from its conditioning frames."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np

from cosmos_exp.config.tiling import EMPTY, Tiling

WIDTH = 160  # pixels; larger frames are reduced, so that the map costs the same at any size
GRAIN = 8.0  # grey levels; smaller differences are compression and noise
STEP, BORDER = 6, 4  # pixels: grid of the flow vectors from which the camera's motion is estimated


def motion_map(frames: np.ndarray, conditioning: int = 1) -> np.ndarray:
    """Mean absolute difference to the last conditioning frame, beyond GRAIN, after removal of the camera's motion.

    Args:
        frames: uint8 (T, H, W, 3).
        conditioning: number of conditioning frames; T must be larger.

    Returns:
        float32 (h, w) in grey levels, at most WIDTH pixels wide.
    """
    small = [small_grey(f) for f in frames[conditioning - 1 :]]
    first = cv2.GaussianBlur(small[0], (0, 0), 1.5).astype(np.float32)
    flow = cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_FAST)
    total = np.zeros(first.shape, np.float32)
    for grey in small[1:]:
        aligned = aligned_to(small[0], grey, flow)
        difference = np.abs(cv2.GaussianBlur(aligned, (0, 0), 1.5).astype(np.float32) - first)
        total += np.maximum(difference - GRAIN, 0)
    motion: np.ndarray = total / (len(small) - 1)
    return motion


def motion_maps(frames: np.ndarray, conditioning: int, tiling: Tiling) -> list[np.ndarray]:
    """The motion map of each camera of a frame; a tile without a camera has none.

    Args:
        frames: uint8 (T, H, W, 3), divided into the tiles of `tiling`.
    """
    rows = np.array_split(frames, tiling.rows, axis=1)
    tiles = [tile for row in rows for tile in np.array_split(row, tiling.columns, axis=2)]
    return [motion_map(t, conditioning) for t, name in zip(tiles, tiling.names, strict=True) if name != EMPTY]


def side_share(maps: Sequence[np.ndarray], side: str) -> float | None:
    """The share of motion on the left or right half of the cameras' maps, (h, w) each; None if nothing moves."""
    total = sum(float(m.sum()) for m in maps)
    if total <= 0:
        return None
    return sum(float(_half(m, side).sum()) for m in maps) / total


def _half(motion: np.ndarray, side: str) -> np.ndarray:
    columns = np.arange(motion.shape[1]) + 0.5
    middle = motion.shape[1] / 2
    return motion[:, columns < middle if side == "left" else columns > middle]


def small_grey(frame: np.ndarray) -> np.ndarray:
    """A frame, uint8 (H, W, 3), in grey and at most WIDTH pixels wide: uint8 (h, w)."""
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    height, width = grey.shape
    if width <= WIDTH:
        return grey
    return cv2.resize(grey, (WIDTH, round(height * WIDTH / width)), interpolation=cv2.INTER_AREA)


def aligned_to(first: np.ndarray, grey: np.ndarray, flow: cv2.DISOpticalFlow) -> np.ndarray:
    """A frame warped onto the first by the affine motion that most of the picture follows: the camera's."""
    height, width = first.shape
    rows, columns = (i.ravel() for i in np.mgrid[BORDER : height - BORDER : STEP, BORDER : width - BORDER : STEP])
    start = np.stack([columns, rows], axis=1).astype(np.float32)
    moved = start + flow.calc(first, grey, None)[rows, columns]  # type: ignore[call-overload]  # None: no initial flow
    cv2.setRNGSeed(0)
    warp, _ = cv2.estimateAffine2D(start, moved, method=cv2.RANSAC, ransacReprojThreshold=1.0)
    if warp is None:
        return grey
    how = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    return cv2.warpAffine(grey, warp, (width, height), flags=how, borderMode=cv2.BORDER_REPLICATE)
