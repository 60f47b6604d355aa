"""Faults of a thing in any clip: the patch of the picture that moves most vanishes, is duplicated, or teleports."""

from __future__ import annotations

import cv2
import numpy as np

from benchmarks.certificate.clips import Footage

START = 1 / 3  # fraction of the clip after which the fault happens
TELEPORTED = 0.25  # side of the patch that teleports, as a share of the frame's shorter side
APART = 0.35  # distance of a duplicate from its original, as a share of the frame's width


def vanishing_patch(footage: Footage, dose: float, rng: np.random.RandomState) -> np.ndarray:
    """The moving patch replaced by the background from a third of the clip on.

    `dose` is the side of the patch as a share of the frame's shorter side; the background is the median over time.
    """
    frames, side = footage.frames.copy(), _side(footage, dose)
    background = _background(footage)
    for t, (x, y) in enumerate(moving_path(footage, side), start=first_changed(len(footage.frames))):
        _paste(frames[t], background[y : y + side, x : x + side], x, y)
    return frames


def duplicated_patch(footage: Footage, dose: float, rng: np.random.RandomState) -> np.ndarray:
    """A copy of the moving patch, beside it and moving with it, from a third of the clip on. `dose` is its side."""
    frames, side = footage.frames.copy(), _side(footage, dose)
    path = moving_path(footage, side)
    offset = _offset(path, footage, side, APART)
    for t, (x, y) in enumerate(path, start=first_changed(len(footage.frames))):
        _paste(frames[t], footage.frames[t, y : y + side, x : x + side], x + offset, y)
    return frames


def teleporting_patch(footage: Footage, dose: float, rng: np.random.RandomState) -> np.ndarray:
    """The moving patch elsewhere from a third of the clip on: `dose` times the frame's width to the side."""
    frames, side = footage.frames.copy(), _side(footage, TELEPORTED)
    path, background = moving_path(footage, side), _background(footage)
    offset = _offset(path, footage, side, dose)
    for t, (x, y) in enumerate(path, start=first_changed(len(footage.frames))):
        _paste(frames[t], background[y : y + side, x : x + side], x, y)
        _paste(frames[t], footage.frames[t, y : y + side, x : x + side], x + offset, y)
    return frames


def moving_path(footage: Footage, side: int) -> list[tuple[int, int]]:
    """Where the patch that moves most is, from `first_changed` on.

    What moves is what differs from the median over time, weighted by a Gaussian of a quarter of the patch's side. The
    patch begins at its maximum over the picture and moves by at most half a side from frame to frame.

    Returns:
        Column and row of its upper left corner, one per frame.
    """
    background, (height, width) = _background(footage).astype(np.float32), footage.frames.shape[1:3]
    path: list[tuple[int, int]] = []
    for frame in footage.frames[first_changed(len(footage.frames)) :]:
        difference = np.abs(frame - background).sum(axis=-1)
        # A weight, and not the sum over the patch, puts what moves into its middle.
        moving = cv2.GaussianBlur(difference, (0, 0), side / 4, borderType=cv2.BORDER_CONSTANT)
        moving = moving[side // 2 : height - side + side // 2 + 1, side // 2 : width - side + side // 2 + 1]
        x, y = path[-1] if path else (0, 0)
        left, top = (max(x - side // 2, 0), max(y - side // 2, 0)) if path else (0, 0)
        near = moving[top : y + side // 2 + 1, left : x + side // 2 + 1] if path else moving
        row, column = divmod(int(near.argmax()), near.shape[1])
        path.append((left + column, top + row))
    return path


def first_changed(count: int) -> int:
    """Number of the first faulty frame of a clip of `count` frames."""
    return max(1, round(START * (count - 1)))


def _side(footage: Footage, share: float) -> int:
    return max(4, round(share * min(footage.frames.shape[1:3])))


def _background(footage: Footage) -> np.ndarray:
    """The median over time of the clip and what follows, uint8 (H, W, 3)."""
    return np.median(np.concatenate([footage.frames, footage.after]), axis=0).astype(np.uint8)


def _offset(path: list[tuple[int, int]], footage: Footage, side: int, share: float) -> int:
    """A horizontal distance of `share` of the width, towards the side with more room."""
    width = footage.frames.shape[2]
    middle = float(np.mean([x for x, _ in path])) + side / 2
    return round(share * width) * (1 if middle < width / 2 else -1)


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
