"""Dense optical flow between consecutive frames (DIS), and how well it explains them."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

MAX_SIDE = 320  # the shorter side of the images that flow and tracks are computed on is below this

# Forward-backward check of Sundaram, Brox and Keutzer 2010 (ECCV), eq. 5: |w + w'|^2 < 0.01 (|w|^2 + |w'|^2) + 0.5.
_RELATIVE, _ABSOLUTE = 0.01, 0.5


@dataclass(frozen=True)
class FlowCheck:
    """One step from a frame to the next.

    Attributes:
        error: mean absolute difference in grey levels between the frame and the next one warped back to it, over the
            consistent pixels; None without any.
        inconsistent: share of the pixels, of those whose target is inside the image, that fail the forward-backward check;
            None if all leave the image.
    """

    error: float | None
    inconsistent: float | None


def grey_images(frames: np.ndarray) -> tuple[np.ndarray, int]:
    """Grey images of a size that flow is computed on, and the factor by which they are smaller.

    The factor is the smallest whole number with which the shorter side is below `MAX_SIDE`.

    Args:
        frames: uint8 (T, H, W, 3), RGB.

    Returns:
        uint8 (T, h, w).
    """
    height, width = frames.shape[1:3]
    factor = min(height, width) // MAX_SIDE + 1
    images = [cv2.cvtColor(f, cv2.COLOR_RGB2GRAY) for f in frames]
    if factor > 1:
        size = (width // factor, height // factor)
        images = [cv2.resize(image, size, interpolation=cv2.INTER_AREA) for image in images]
    return np.stack(images), factor


def flow_between(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Optical flow from image a to b: float32 (h, w, 2), x and y in pixels (DIS, Kroeger et al. 2016, preset medium).

    It depends on the number of OpenCV's threads: compute it with one (`metrics.pool`).

    Args:
        a, b: uint8 (h, w).
    """
    return cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(a, b, None)  # type: ignore[call-overload]


def motion_magnitudes(images: np.ndarray, masks: np.ndarray) -> list[float]:
    """Motion into each image but the first: mean over the picture of the flow's length where it moves, in pixels.

    Args:
        images: uint8 (T, h, w).
        masks: bool (T, H, W), the pixels that move in each frame (`motion.motion_masks`); elsewhere flow is noise, and counts as 0.
    """
    magnitudes = []
    for a, b, mask in zip(images, images[1:], masks[1:], strict=False):
        speeds = np.linalg.norm(flow_between(a, b), axis=-1)
        moving = cv2.resize(mask.astype(np.uint8), (a.shape[1], a.shape[0]), interpolation=cv2.INTER_NEAREST) > 0
        magnitudes.append(float((speeds * moving).mean()))
    return magnitudes


def check_flow(a: np.ndarray, b: np.ndarray) -> FlowCheck:
    """How well the flow from image a to b explains b.

    Warping error as in Lai et al. 2018 (ECCV, "Learning blind video temporal consistency"), with absolute differences, so that
    the unit is grey levels.

    Args:
        a, b: uint8 (h, w).
    """
    forward, backward = flow_between(a, b), flow_between(b, a)
    height, width = a.shape
    x, y = np.meshgrid(np.arange(width, dtype=np.float32), np.arange(height, dtype=np.float32))
    x, y = x + forward[..., 0], y + forward[..., 1]
    inside = (x >= 0) & (x <= width - 1) & (y >= 0) & (y <= height - 1)
    returned = cv2.remap(backward, x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    lengths = np.square(forward).sum(-1) + np.square(returned).sum(-1)
    consistent = inside & (np.square(forward + returned).sum(-1) < _RELATIVE * lengths + _ABSOLUTE)
    warped = cv2.remap(b.astype(np.float32), x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    errors = np.abs(warped - a)[consistent]
    return FlowCheck(
        error=float(errors.mean()) if errors.size else None,
        inconsistent=1 - int(consistent.sum()) / int(inside.sum()) if inside.any() else None,
    )
