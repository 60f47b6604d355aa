"""What can be seen in a video of the tabletop world: where each coloured thing is, where arms are, which side moved.

Pixels only, and the world's general knowledge: the seven colours, where hands rest. Nothing of the clip's truth.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

from cosmos_exp.tabletop.scene import COLORS, HANDS, LABELS, SKIN, SLEEVES, TABLE_TONE, Scene

WOOD = (TABLE_TONE, (172, 128, 84), (200, 156, 112), (240, 214, 172), (96, 60, 36), (70, 44, 26))
WALL = ((176, 184, 188),)
# Shares of red and green that a lit or shaded surface keeps. White is a colour of its own: neutral and bright.
_REFERENCES = [COLORS[c] for c in COLORS if c != "white"] + [*WOOD, *SKIN, *SLEEVES, *WALL]
_NAMES = [c for c in COLORS if c != "white"] + [""] * (len(_REFERENCES) - len(COLORS) + 1)
NEUTRAL, WHITE_FROM, DARK = 0.024, 178, 48
SMALLEST = 10  # pixels of a thing
MAX_REACH = 0.055  # in shares of red and green: farther from every reference is no named colour
FADED_REACH = 0.11  # a thing known from the first frame is still there this far from its colour, faded


def color_masks(frame: np.ndarray, reaches: tuple[float, ...]) -> list[dict[str, np.ndarray]]:
    """For each reach boolean (H, W) by named colour: pixels within it of that hue, whatever their brightness."""
    rgb = frame.astype(np.float32)
    total = rgb.sum(-1) + 1e-3
    share = rgb[..., :2] / total[..., None]
    table = np.array([[c[0] / sum(c), c[1] / sum(c)] for c in _REFERENCES], np.float32)
    distance = ((share[:, :, None] - table) ** 2).sum(-1)
    best, nearest = distance.argmin(-1), distance.min(-1)
    white = (np.abs(share - 1 / 3).max(-1) < NEUTRAL) & (rgb.min(-1) > WHITE_FROM)
    named = {n: (best == i) & (total > 110) for i, n in enumerate(_NAMES) if n}
    return [{n: m & (nearest < reach**2) for n, m in named.items()} | {"white": white.copy()} for reach in reaches]


def neutral(frame: np.ndarray) -> np.ndarray:
    """Boolean (H, W): black, grey or steel, as grippers are; brighter than white's limit is left out."""
    rgb = frame.astype(np.float32)
    spread = rgb.max(-1) - rgb.min(-1)
    return (spread < 10 + 0.08 * rgb.max(-1)) & (rgb.max(-1) < WHITE_FROM)


def black(frame: np.ndarray) -> np.ndarray:
    """Boolean (H, W): as dark as the robot's arm; the darkest sleeve is half as bright again."""
    return neutral(frame) & (frame.max(-1) < DARK)


def largest(mask: np.ndarray, near: tuple[float, float] | None = None, reach: float = 1e9) -> tuple[int, tuple] | None:
    """Area and centre (x, y) of the largest connected part, or the largest within `reach` pixels of `near`."""
    count, _, stats, centers = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    best = None
    for i in range(1, count):
        area, center = int(stats[i, cv2.CC_STAT_AREA]), (float(centers[i][0]), float(centers[i][1]))
        if near is not None and (center[0] - near[0]) ** 2 + (center[1] - near[1]) ** 2 > reach**2:
            continue
        if area >= SMALLEST and (best is None or area > best[0]):
            best = (area, center)
    return best


@cache
def rest_masks(look: str, size: tuple[int, int]) -> dict[str, np.ndarray]:
    """Where the world's hands rest in a first frame: pixels that a hand covers in most scenes."""
    scenes = [Scene.sample(50_000_000 + k, look, size=size, num_frames=1).clip().labels[0] for k in range(6)]
    return {h: np.mean([s == LABELS[h] for s in scenes], axis=0) > 0.6 for h in HANDS}


def seen_look(first: np.ndarray) -> str:
    """robot or human, by the share of neutral pixels where hands rest."""
    size = first.shape[:2]
    place = rest_masks("robot", size)["left"] | rest_masks("robot", size)["right"]
    return "robot" if neutral(first)[place].mean() > 0.6 else "human"


def horizon(first: np.ndarray) -> int:
    """The row where the table begins: the first row most of whose pixels have the wood's hue."""
    rgb = first.astype(np.float32)
    share = rgb[..., 0] / (rgb.sum(-1) + 1e-3)
    rows = np.flatnonzero((share > 0.39).mean(1) > 0.5)
    return int(rows[0]) if len(rows) else 0


def aligned(frames: np.ndarray) -> np.ndarray:
    """Every frame warped onto the first by the homography of its matched keypoints: the sway taken out."""
    sift, matcher = cv2.SIFT_create(contrastThreshold=0.02), cv2.BFMatcher()  # type: ignore[attr-defined]
    grey = [cv2.cvtColor(f, cv2.COLOR_RGB2GRAY) for f in frames]
    points, descriptors = sift.detectAndCompute(grey[0], None)
    out, height, width = [frames[0]], *frames.shape[1:3]
    for index in range(1, len(frames)):
        own, found = sift.detectAndCompute(grey[index], None)
        warp = None
        if descriptors is not None and found is not None and len(found) > 8 and len(descriptors) > 8:
            pairs = matcher.knnMatch(found, descriptors, k=2)
            good = [m for m, n in pairs if m.distance < 0.75 * n.distance]
            if len(good) >= 8:
                a = np.array([own[m.queryIdx].pt for m in good], np.float32)
                b = np.array([points[m.trainIdx].pt for m in good], np.float32)
                warp, kept = cv2.findHomography(a, b, cv2.USAC_MAGSAC, 1.5)
                shift = None if warp is None else _corner_shift(warp, width, height)
                if shift is None or shift > 16 or kept.sum() < 8:  # no sway is that large: matches were wrong
                    warp = None
        out.append(
            frames[index]
            if warp is None
            else cv2.warpPerspective(frames[index], warp, (width, height), borderMode=cv2.BORDER_REPLICATE)
        )
    return np.stack(out)


def _corner_shift(warp: np.ndarray, width: int, height: int) -> float:
    corners = np.array([[[0, 0], [width, 0], [0, height], [width, height]]], np.float32)
    return float(np.abs(cv2.perspectiveTransform(corners, warp) - corners).max())


@dataclass(frozen=True)
class Seen:
    """What `look_at` found. T frames, coordinates in pixels of the first frame.

    things: colour -> (area, centre) in the first frame. areas (T,) and centers (T, 2; nan when unseen) by colour.
    faded_areas, faded_centers: the same, where its hue may have drifted.
    arms: bool (T, H, W), pixels of arms that are not where they rested. side_frames: frames in which a left or right
    arm reaches out. robot_share (T,): share of pixels as black as the robot's arm in what reaches out; nan if nothing.
    rest_change: by hand, share of its resting place that is changed (T,). appeared: colours that come without having
    been in the first frame. sharpness, grain: see `_picture`. change: mean difference to the first frame, grey levels.
    """

    look: str
    things: dict[str, tuple[int, tuple[float, float]]]
    areas: dict[str, np.ndarray]
    centers: dict[str, np.ndarray]
    faded_areas: dict[str, np.ndarray]
    faded_centers: dict[str, np.ndarray]
    arms: np.ndarray
    side_frames: dict[str, int]
    robot_share: np.ndarray
    rest_change: dict[str, np.ndarray]
    appeared: dict[str, int]
    sharpness: float
    grain: float
    change: float


def changed(frame: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Boolean (H, W): unlike the first frame, also unlike it moved by a pixel, and more than a shadow on it."""
    low, high = (op(first, np.ones((5, 5), np.uint8)).astype(np.int32) for op in (cv2.erode, cv2.dilate))
    value = frame.astype(np.int32)
    outside = np.maximum(low - value, 0) + np.maximum(value - high, 0)
    far = outside.sum(-1) > 36
    # A shadow that comes or goes keeps the shares of the colours and takes two fifths of the light.
    a, b = frame.astype(np.float32) + 1, first.astype(np.float32) + 1
    ratio = a.sum(-1) / b.sum(-1)
    shares = np.abs(a / a.sum(-1, keepdims=True) - b / b.sum(-1, keepdims=True)).max(-1)
    shade = ((ratio > 0.48) & (ratio < 0.7)) | ((ratio > 1.45) & (ratio < 2.1))
    return far & ~(shade & (shares < 0.025))


def look_at(frames: np.ndarray) -> Seen:
    """Look at uint8 (T, H, W, 3)."""
    flat = aligned(frames)
    first, top = flat[0], horizon(flat[0])
    look = seen_look(first)
    rest = rest_masks(look, first.shape[:2])
    masks, faded = map(list, zip(*(color_masks(f, (MAX_REACH, FADED_REACH)) for f in flat), strict=True))
    for of_frame in masks + faded:
        for mask in of_frame.values():
            mask[:top] = False
    hands = cv2.dilate((rest["left"] | rest["right"]).astype(np.uint8), np.ones((5, 5))) > 0
    things = {}
    for color, mask in masks[0].items():
        found = largest(mask & ~hands)
        if found:
            things[color] = found
    arms = np.stack([_arm_mask(f, first, m, masks[0], things) for f, m in zip(flat, masks, strict=True)])
    sides = [_side(a) for a in arms]
    share = np.array([np.nan if s is None else black(f)[a].mean() for f, a, s in zip(flat, arms, sides, strict=True)])
    return Seen(
        look,
        things,
        *_tracks(masks, things),
        *_tracks(faded, things),
        arms,
        {h: sides.count(h) for h in HANDS},
        share,
        {h: np.array([changed(f, first)[rest[h]].mean() for f in flat]) for h in HANDS},
        _appeared(masks, things, hands, arms),
        *_picture(frames),
        float(np.abs(flat[1:].astype(int) - first).mean()),
    )


def _tracks(masks: list[dict], things: dict) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    areas = {c: np.zeros(len(masks)) for c in things}
    centers = {c: np.full((len(masks), 2), np.nan) for c in things}
    for color in things:
        for t, mask in enumerate(masks):
            found = largest(mask[color])
            if found:
                areas[color][t], centers[color][t] = found[0], found[1]
    return areas, centers


def _arm_mask(frame: np.ndarray, first: np.ndarray, masks: dict, before: dict, things: dict) -> np.ndarray:
    arm = changed(frame, first)
    for color in things:  # neither a thing nor the place that it left is an arm
        arm &= ~masks[color] & ~(cv2.dilate(before[color].astype(np.uint8), np.ones((3, 3))) > 0)
    arm = cv2.morphologyEx(arm.astype(np.uint8), cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    count, labels, stats, _ = cv2.connectedComponentsWithStats(arm, connectivity=8)
    keep = np.zeros_like(arm, bool)
    for i in range(1, count):
        if stats[i, cv2.CC_STAT_AREA] >= 30:
            keep |= labels == i
    return keep


def _side(arm: np.ndarray) -> str | None:
    """Which side the largest arm comes from: where its lowest pixels are."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(arm.astype(np.uint8), connectivity=8)
    if count < 2:
        return None
    i = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    if stats[i, cv2.CC_STAT_AREA] < 60:
        return None
    y, x = np.nonzero(labels == i)
    return "left" if x[y >= y.max() - 3].mean() < arm.shape[1] / 2 else "right"


def _appeared(masks: list[dict], things: dict, hands: np.ndarray, arms: np.ndarray) -> dict[str, int]:
    """Colours seen as a thing in three frames or more that the first frame does not show."""
    counts = {}
    for color in COLORS:
        if color not in things:
            n = sum(largest(m[color] & ~hands & ~a) is not None for m, a in zip(masks, arms, strict=True))
            if n >= 3:
                counts[color] = n
    return counts


def _picture(frames: np.ndarray) -> tuple[float, float]:
    """Mean gradient and grain of the later frames in grey levels (grain is a median, so edges do not count)."""
    grey = [cv2.cvtColor(f, cv2.COLOR_RGB2GRAY).astype(np.float32) for f in frames]
    edges = [
        float(np.mean(np.abs(cv2.Sobel(g, cv2.CV_32F, 1, 0)) + np.abs(cv2.Sobel(g, cv2.CV_32F, 0, 1)))) for g in grey
    ]
    grain = [float(np.median(np.abs(cv2.Laplacian(g, cv2.CV_32F)))) for g in grey]
    return float(np.median(edges[1:])), float(np.median(grain[1:]))
