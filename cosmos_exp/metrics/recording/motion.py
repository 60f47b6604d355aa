"""How a video moves: motion masks (Physics-IQ), dense optical flow between frames (DIS), and points followed (KLT).

The masks and their overlap are those of Motamed et al. 2025, arXiv:2501.09038; code:
github.com/google-deepmind/physics-IQ-benchmark, `physiq/binary_mask_generator.py` and
`physiq/calculate_and_write_metrics_to_csv.py`. It stores the masks as a lossy video at a quarter of the size; here they are used
as computed.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import cv2
import numpy as np

_RATE = 0.3  # weight of the newest frame in the running average
_THRESHOLD = 10  # grey levels
_KERNEL = np.ones((5, 5), np.uint8)

MAX_SIDE = 320  # the shorter side of the images that flow and tracks are computed on is below this
# Forward-backward check of Sundaram, Brox and Keutzer 2010 (ECCV), eq. 5: |w + w'|^2 < 0.01 (|w|^2 + |w'|^2) + 0.5.
_RELATIVE, _ABSOLUTE = 0.01, 0.5

MIN_TRACKS = 10  # with fewer corners in the first image, or fewer moving steps, shares of tracks are undefined
MOVING = 0.25  # px; steps below this are mostly error of the tracker
_CORNERS = {"maxCorners": 400, "qualityLevel": 0.01, "minDistance": 5, "blockSize": 5}
_FOLLOW = {"winSize": (15, 15), "maxLevel": 3}
_FORWARD_BACKWARD = 1.0  # px


def motion_masks(frames: np.ndarray) -> np.ndarray:
    """The pixels that move, for each frame: bool (T, H, W). None moves in the first frame.

    A pixel moves if its grey value, blurred over 5x5 pixels, differs by more than 10 levels from its running average (the new
    frame has weight 0.3); opening and closing over 5x5 pixels follow. So a pixel still counts for some frames after a large change.

    Args:
        frames: uint8 (T, H, W, 3), RGB.
    """
    blurred = [cv2.GaussianBlur(cv2.cvtColor(f, cv2.COLOR_RGB2GRAY), (5, 5), 0) for f in frames]
    average = blurred[0].astype(np.float64)
    masks = [np.zeros(average.shape, bool)]
    for image in blurred[1:]:
        cv2.accumulateWeighted(image, average, _RATE)
        difference = cv2.absdiff(image, cv2.convertScaleAbs(average))
        mask = (difference > _THRESHOLD).astype(np.uint8)
        mask = cv2.morphologyEx(mask, cv2.MORPH_OPEN, _KERNEL)
        masks.append(cv2.morphologyEx(mask, cv2.MORPH_CLOSE, _KERNEL) > 0)
    return np.stack(masks)


def mask_overlap(a: np.ndarray, b: np.ndarray) -> dict[str, list[float | None]]:
    """How far two videos move at the same places and times: intersection over union of their masks, 0 to 1, after each frame.

    Where neither video has moved, it is 1. Physics-IQ's three values of a whole clip are the last of `mask_iou_space`, the mean
    of `mask_iou_spacetime`, and the last of `mask_iou_weighted`.

    Args:
        a, b: bool (T, H, W), from `motion_masks`.

    Returns:
        mask_iou_space: of the places that moved at any time up to this frame. mask_iou_spacetime: of the places that move in
        this frame. mask_iou_weighted: of how often each place moved up to this frame: sum of the minima by sum of the maxima.
    """
    counts_a, counts_b = np.zeros(a.shape[1:], np.int32), np.zeros(b.shape[1:], np.int32)
    space: list[float | None] = []
    spacetime: list[float | None] = []
    weighted: list[float | None] = []
    for mask_a, mask_b in zip(a, b, strict=True):
        counts_a += mask_a
        counts_b += mask_b
        space.append(_iou(counts_a > 0, counts_b > 0))
        spacetime.append(_iou(mask_a, mask_b))
        weighted.append(_iou(counts_a, counts_b))
    return {"mask_iou_space": space, "mask_iou_spacetime": spacetime, "mask_iou_weighted": weighted}


def _iou(a: np.ndarray, b: np.ndarray) -> float:
    """Sum of the minima by sum of the maxima; for masks, intersection over union. 1 if both are empty."""
    union = int(np.maximum(a, b).sum())
    return int(np.minimum(a, b).sum()) / union if union else 1.0


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
    images = []
    for frame in frames:
        grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
        if factor > 1:
            grey = cv2.resize(grey, (width // factor, height // factor), interpolation=cv2.INTER_AREA)
        images.append(grey)
    return np.stack(images), factor


def flow_between(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Optical flow from image a to b: float32 (h, w, 2), x and y in pixels (DIS, Kroeger et al. 2016, preset medium).

    It depends on the number of OpenCV's threads: compute it with one (`metrics.interface.video_pool`).

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


def check_flow(a: np.ndarray, b: np.ndarray) -> tuple[float | None, float | None]:
    """How well the flow from image a to b explains b.

    Warping error as in Lai et al. 2018 (ECCV, "Learning blind video temporal consistency"), with absolute differences, so that
    the unit is grey levels.

    Args:
        a, b: uint8 (h, w).

    Returns:
        error: mean absolute difference in grey levels between a and b warped back to it, over the consistent pixels; None
            without any.
        inconsistent: share of the pixels, of those whose target is inside the image, that fail the forward-backward check; None
            if all leave the image.
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
    error = inconsistent = None
    if errors.size:
        error = float(errors.mean())
    if inside.any():
        inconsistent = 1 - int(consistent.sum()) / int(inside.sum())
    return error, inconsistent


@dataclass(frozen=True)
class Tracks:
    """Points followed from the first image on.

    Attributes:
        positions: float32 (T, N, 2), x and y in pixels of the images; only valid where `alive`.
        alive: bool (T, N); a track that ended stays ended.
        left: bool (T, N); it ended because the point left the image. Such a track is neither lost nor survives.
    """

    positions: np.ndarray
    alive: np.ndarray
    left: np.ndarray

    def survival(self) -> list[float | None]:
        """Share of the tracks that live at each image, of those that did not leave the image; None if all left."""
        return _shares(self.alive.sum(axis=1), (~self.left).sum(axis=1))

    def roughness(self) -> tuple[float | None, list[float | None]]:
        """Change of velocity of moving tracks by its largest possible value, 0 to 1.

        With the steps v and w of a track before and after an image: sum of |w - v| / sum of (|v| + |w|), over the tracks that live
        and of which one step is at least `MOVING`. 0: constant velocity; 1: each track reverses, starts or stops at each image; 0.87
        is expected of white noise (sqrt(6) / (2 sqrt(2))). It does not depend on the size of the picture or on how much of it moves.

        Returns:
            value: over all images; None with fewer than `MIN_TRACKS` moving steps.
            curve: at each image; None for the first two, and where no track moves.
        """
        steps = np.diff(self.positions, axis=0)
        lengths = np.linalg.norm(steps, axis=-1)
        counted = self.alive[2:] & (np.maximum(lengths[1:], lengths[:-1]) >= MOVING)
        changes = (np.linalg.norm(np.diff(steps, axis=0), axis=-1) * counted).sum(axis=1, dtype=np.float64)
        most = ((lengths[1:] + lengths[:-1]) * counted).sum(axis=1, dtype=np.float64)
        curve = [*[None] * min(2, len(self.alive)), *_shares(changes, most)]
        if counted.sum() < MIN_TRACKS:
            return None, curve
        return float(changes.sum() / most.sum()), curve


def _shares(parts: np.ndarray, wholes: np.ndarray) -> list[float | None]:
    """parts / wholes; None where there is no whole."""
    return [part / whole if whole else None for part, whole in zip(parts.tolist(), wholes.tolist(), strict=True)]


def follow(images: np.ndarray) -> Tracks:
    """Follow the corners of the first image (Shi and Tomasi 1994) through all images by pyramidal Lucas-Kanade.

    A track ends where following it back to the image before misses its point there by more than 1 px (Kalal, Mikolajczyk and Matas
    2010, "Forward-backward error").

    Args:
        images: uint8 (T, h, w).
    """
    corners = cv2.goodFeaturesToTrack(images[0], **_CORNERS)  # type: ignore[call-overload]
    points = np.zeros((0, 2), np.float32) if corners is None else corners.reshape(-1, 2)
    alive, left = np.ones(len(points), bool), np.zeros(len(points), bool)
    tracks = [(points, alive, left)]
    for a, b in itertools.pairwise(images):
        if len(points):
            points, alive, left = _step(a, b, points, alive, left)
        tracks.append((points, alive, left))
    positions, lives, lefts = zip(*tracks, strict=True)
    return Tracks(np.stack(positions), np.stack(lives), np.stack(lefts))


def _step(
    a: np.ndarray, b: np.ndarray, points: np.ndarray, alive: np.ndarray, left: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    ahead, followed, _ = cv2.calcOpticalFlowPyrLK(a, b, points, None, **_FOLLOW)  # type: ignore[call-overload]
    back, returned, _ = cv2.calcOpticalFlowPyrLK(b, a, ahead, None, **_FOLLOW)  # type: ignore[call-overload]
    missed = np.linalg.norm(back - points, axis=1) > _FORWARD_BACKWARD
    height, width = a.shape
    outside = ((ahead < 0) | (ahead > (width - 1, height - 1))).any(axis=1)
    survives = alive & followed.ravel().astype(bool) & returned.ravel().astype(bool) & ~missed & ~outside
    return ahead, survives, left | (alive & outside)
