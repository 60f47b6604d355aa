"""The still part of a picture: does the table stay as it is where no arm, no thing and no shadow is?"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np

from cosmos_exp.tabletop.arms import Outlines, grown

EDGE = 2  # pixels at the border that the alignment may invent
_CUBE = np.ones((3, 3), np.uint8)


@dataclass(frozen=True)
class StillSeen:
    """Changes that no arm, thing or shadow explains.

    excess (T,): changed pixels of the table. shade (T,): the same, pixels that became darker or brighter without a new
    hue, where no shadow falls. lasting: pixels that belong to either in two fifths of the frames. tone (T,): mean
    absolute difference of the smoothed table to the first frame, grey levels. gain (T,): median brightness factor of the
    table; both nan where little of it is free.
    """

    excess: np.ndarray
    shade: np.ndarray
    lasting: int
    tone: np.ndarray
    gain: np.ndarray


def watch_still(flat: np.ndarray, changes: np.ndarray, places: np.ndarray, arms: Outlines, top: int) -> StillSeen:
    """Compare the still part of all frames with the first one.

    Args:
        flat: uint8 (T, H, W, 3), aligned frames.
        changes: bool (T, H, W), pixels that differ from the first frame, without shadows.
        places: bool (T, H, W), where things are and where they were in the first frame.
        top: row of the table's far edge.
    """
    table = np.zeros(changes.shape[1:], bool)
    table[top + EDGE : -EDGE, EDGE:-EDGE] = True
    excess, shade, seen = np.zeros(len(flat)), np.zeros(len(flat)), np.zeros(changes.shape[1:])
    for t in range(1, len(flat)):
        odd = _without_specks(changes[t] & ~arms.covered[t] & ~places[t] & table)
        free = table & ~arms.covered[t] & ~arms.shadows[t] & ~grown(places[t], 13)
        dark = _without_specks(_shaded(flat[t], flat[0]) & free)
        excess[t], shade[t] = odd.sum(), dark.sum()
        seen += odd | dark
    tone, gain = _tone_and_gain(flat, table & ~arms.covered.any(0) & ~places.any(0), arms.shadows)
    lasting = int((seen >= 0.4 * len(flat)).sum())
    return StillSeen(excess, shade, lasting, tone, gain)


def _without_specks(mask: np.ndarray) -> np.ndarray:
    return cv2.morphologyEx(mask.astype(np.uint8), cv2.MORPH_OPEN, _CUBE) > 0


def _shaded(frame: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Return bool (H, W): pixels a quarter darker or a third brighter than in the first frame, of the same hue."""
    a, b = frame.astype(np.float32) + 1, first.astype(np.float32) + 1
    total, before = a.sum(-1), b.sum(-1)
    turn = np.abs(a / total[..., None] - b / before[..., None]).max(-1)
    return ((total < 0.75 * before) | (total > 1.33 * before)) & (turn < 0.03)


def _tone_and_gain(flat: np.ndarray, free: np.ndarray, shadows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    tone, gain = np.full(len(flat), np.nan), np.full(len(flat), np.nan)
    smooth = [cv2.GaussianBlur(f, (0, 0), 3).astype(np.float32) for f in flat]
    for t, frame in enumerate(flat):
        lit = free & ~shadows[t]
        if lit.sum() > 100:
            tone[t] = np.abs(smooth[t] - smooth[0])[lit].mean()
            gain[t] = np.median(frame[lit].sum(-1) / (flat[0][lit].sum(-1) + 1.0))
    return tone, gain
