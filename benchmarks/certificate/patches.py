"""Faults of a thing in any clip: the patch of the picture that moves most vanishes, is duplicated, or teleports.

The three faults take what `faults.Plant` says: the footage, a dose and random numbers, which they do not need.
"""

from __future__ import annotations

import cv2
import numpy as np

from benchmarks.certificate.clips import Footage

START = 1 / 3  # fraction of the clip after which the fault happens
TELEPORTED = 0.25  # side of the patch that teleports, as a share of the frame's shorter side
APART = 0.35  # distance of a duplicate from its original, as a share of the frame's width


def vanishing_patch(footage, dose, rng):
    """The moving patch replaced by the background from a third of the clip on.

    `dose` is the side of the patch as a share of the frame's shorter side; the background is the median over time.
    """
    return _changed(footage, dose, is_gone=True)


def duplicated_patch(footage, dose, rng):
    """A copy of the moving patch, beside it and moving with it, from a third of the clip on. `dose` is its side."""
    return _changed(footage, dose, copied_to=APART)


def teleporting_patch(footage, dose, rng):
    """The moving patch elsewhere from a third of the clip on: `dose` times the frame's width to the side."""
    return _changed(footage, TELEPORTED, is_gone=True, copied_to=dose)


def _changed(footage: Footage, share: float, is_gone: bool = False, copied_to: float | None = None) -> np.ndarray:
    """The clip whose moving patch is replaced by the background, copied, or both.

    Args:
        share: side of the patch, of the frame's shorter side.
        copied_to: distance of the copy, of the frame's width, towards the side with more room.
    """
    frames, (height, width) = footage.frames.copy(), footage.frames.shape[1:3]
    side = max(4, round(share * min(height, width)))
    # What follows the clip tells its background, too.
    background = np.median(np.concatenate([frames, footage.after]), axis=0).astype(np.uint8)
    path = moving_path(frames, background, side)
    way = 1 if np.mean([x for x, _ in path]) + side / 2 < width / 2 else -1
    for t, (x, y) in enumerate(path, start=first_changed(len(frames))):
        patch = np.s_[y : y + side, x : x + side]
        if is_gone:
            _paste(frames[t], background[patch], x, y)
        if copied_to is not None:
            _paste(frames[t], footage.frames[t][patch], x + way * round(copied_to * width), y)
    return frames


def moving_path(frames: np.ndarray, background: np.ndarray, side: int) -> list[tuple[int, int]]:
    """Where the patch that moves most is, from `first_changed` on.

    What moves is what differs from the background, weighted by a Gaussian of a quarter of the patch's side. The
    patch begins at its maximum over the picture and moves by at most half a side from frame to frame.

    Returns:
        Column and row of its upper left corner, one per frame.
    """
    height, width = background.shape[:2]
    x, y, reach, path = 0, 0, max(height, width), []
    for frame in frames[first_changed(len(frames)) :]:
        difference = np.abs(frame - background.astype(np.float32)).sum(axis=-1)
        # A weight, and not the sum over the patch, puts what moves into its middle.
        moving = cv2.GaussianBlur(difference, (0, 0), side / 4, borderType=cv2.BORDER_CONSTANT)
        moving = moving[side // 2 : height - side + side // 2 + 1, side // 2 : width - side + side // 2 + 1]
        left, top = max(x - reach, 0), max(y - reach, 0)
        near = moving[top : y + reach + 1, left : x + reach + 1]
        row, column = divmod(int(near.argmax()), near.shape[1])
        x, y, reach = left + column, top + row, side // 2
        path.append((x, y))
    return path


def first_changed(count: int) -> int:
    """Number of the first faulty frame of a clip of `count` frames."""
    return max(1, round(START * (count - 1)))


def _paste(frame: np.ndarray, patch: np.ndarray, x: int, y: int) -> None:
    """Blend a patch into a frame at (x, y) with a soft round edge; what lies outside the frame is cut off."""
    side = len(patch)
    rows, columns = np.mgrid[:side, :side] - (side - 1) / 2
    weight = np.clip((1 - np.hypot(rows, columns) / (side / 2)) * 4, 0, 1)[..., None]
    left, right = max(x, 0), min(x + side, frame.shape[1])
    if left >= right:
        return
    cut = slice(left - x, right - x)
    under = frame[y : y + side, left:right]
    mixed = weight[:, cut] * patch[:, cut] + (1 - weight[:, cut]) * under
    frame[y : y + side, left:right] = mixed.round().astype(np.uint8)
