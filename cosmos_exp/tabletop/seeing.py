"""Observations from a video of the tabletop world: where each coloured thing is, where arms are, which side moved.

Only pixels and general knowledge of the world are used (its seven colours, where hands rest), not the ground truth of
the clip.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

from cosmos_exp.tabletop.alignment import aligned
from cosmos_exp.tabletop.arms import Outlines, fit_arms
from cosmos_exp.tabletop.scene import Scene
from cosmos_exp.tabletop.still import StillSeen, watch_still
from cosmos_exp.tabletop.things import ThingSeen, watch_things
from cosmos_exp.tabletop.vectors import Triple
from cosmos_exp.tabletop.vocabulary import COLORS, HANDS, LABELS, SKIN, SLEEVES, TABLE_TONE

Point = tuple[float, float]  # x, y in pixels
Part = tuple[int, Point]  # area in pixels and centre of a connected part
Masks = dict[str, np.ndarray]  # bool (H, W) by colour or hand

WOOD = (TABLE_TONE, (172, 128, 84), (200, 156, 112), (240, 214, 172), (96, 60, 36), (70, 44, 26))
WALL = ((176, 184, 188),)
# Colours are compared by chromaticity, r / (r + g + b) and g / (r + g + b), which light and shade leave unchanged.
# White is treated separately: neutral and bright.
_REFERENCES: list[Triple] = [COLORS[c] for c in COLORS if c != "white"] + [*WOOD, *SKIN, *SLEEVES, *WALL]
_NAMES = [c for c in COLORS if c != "white"] + [""] * (len(_REFERENCES) - len(COLORS) + 1)
NEUTRAL, WHITE_FROM, DARK = 0.024, 178, 48  # chromaticity distance from grey; grey levels
SMALLEST = 10  # pixels; smaller parts are ignored
MAX_REACH = 0.055  # largest chromaticity distance from a reference at which a pixel has that colour
FADED_REACH = 0.11  # the same for a thing known from the first frame whose colour may have faded


def color_masks(frame: np.ndarray, reaches: tuple[float, ...]) -> list[Masks]:
    """Return one dictionary per reach: colour -> bool (H, W), the pixels within that chromaticity distance.

    Args:
        frame: uint8 (H, W, 3).
        reaches: chromaticity distances.
    """
    r, g, b = (np.ascontiguousarray(frame[..., k]).astype(np.float32) for k in range(3))
    total = r + g + b + 1e-3
    red, green = r / total, g / total
    distance = np.stack([(red - c[0] / sum(c)) ** 2 + (green - c[1] / sum(c)) ** 2 for c in _REFERENCES])
    best, nearest = distance.argmin(0), distance.min(0)
    grey = np.maximum(np.abs(red - 1 / 3), np.abs(green - 1 / 3)) < NEUTRAL
    white = grey & (np.minimum(np.minimum(r, g), b) > WHITE_FROM)
    named = {n: (best == i) & (total > 110) for i, n in enumerate(_NAMES) if n}
    return [{n: m & (nearest < reach**2) for n, m in named.items()} | {"white": white.copy()} for reach in reaches]


def neutral(frame: np.ndarray) -> np.ndarray:
    """Return bool (H, W): black, grey or steel pixels, the colours of grippers. White is excluded."""
    rgb = frame.astype(np.float32)
    spread = rgb.max(-1) - rgb.min(-1)
    return (spread < 10 + 0.08 * rgb.max(-1)) & (rgb.max(-1) < WHITE_FROM)


def black(frame: np.ndarray) -> np.ndarray:
    """Return bool (H, W): pixels as dark as the robot's arm. The darkest sleeve is 1.5 times as bright."""
    return neutral(frame) & (frame.max(-1) < DARK)


def largest(mask: np.ndarray) -> Part | None:
    """Return area and centre of the largest connected part of bool (H, W); None if all are below SMALLEST."""
    count, _, stats, centers = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=8)
    best: Part | None = None
    for i in range(1, count):
        area, center = int(stats[i, cv2.CC_STAT_AREA]), (float(centers[i][0]), float(centers[i][1]))
        if area >= SMALLEST and (best is None or area > best[0]):
            best = (area, center)
    return best


@cache
def rest_masks(appearance: str, size: tuple[int, int]) -> Masks:
    """Where each hand rests in a first frame: hand -> bool (H, W), pixels that it covers in most scenes."""
    scenes = [Scene.sample(50_000_000 + k, appearance, size=size, num_frames=1).clip().labels[0] for k in range(6)]
    return {h: np.mean([s == LABELS[h] for s in scenes], axis=0) > 0.6 for h in HANDS}


def seen_appearance(first: np.ndarray) -> str:
    """Return robot or human, by the fraction of neutral pixels where hands rest in uint8 (H, W, 3)."""
    size = first.shape[:2]
    place = rest_masks("robot", size)["left"] | rest_masks("robot", size)["right"]
    return "robot" if neutral(first)[place].mean() > 0.6 else "human"


def horizon(first: np.ndarray) -> int:
    """The row of the table's far edge: the first row most of whose pixels have the hue of the wood."""
    rgb = first.astype(np.float32)
    red = rgb[..., 0] / (rgb.sum(-1) + 1e-3)
    rows = np.flatnonzero((red > 0.39).mean(1) > 0.5)
    return int(rows[0]) if len(rows) else 0


@dataclass(frozen=True)
class Seen:
    """Observations of `probe_video`. T frames; coordinates are pixels of the first frame.

    things: colour -> area and centre in the first frame. areas (T,) and centers (T, 2; nan when not visible) by colour.
    faded_areas, faded_centers: the same with the wider colour tolerance FADED_REACH.
    hands: bool (H, W), where hands rest. arms: bool (T, H, W), pixels of arms outside their rest position. side_frames: number of frames in which a left or
    right arm reaches out. robot_fraction (T,): fraction of the pixels reaching out that are as black as the robot's
    arm; nan when nothing reaches out. rest_change: hand -> (T,), fraction of its rest position that has changed.
    appeared: colour -> number of frames, for colours that the first frame does not show.
    camera_step: largest shift of the picture from one frame to the next, pixels; unaligned: fraction of the frames
    without a homography. outlines, watched, still: see `arms.Outlines`, `things.ThingSeen`, `still.StillSeen`.
    sharpness, grain: see `_sharpness_and_grain`. change: mean absolute difference to the first frame, grey levels.
    """

    appearance: str
    things: dict[str, Part]
    areas: dict[str, np.ndarray]
    centers: dict[str, np.ndarray]
    faded_areas: dict[str, np.ndarray]
    faded_centers: dict[str, np.ndarray]
    hands: np.ndarray
    arms: np.ndarray
    side_frames: dict[str, int]
    robot_fraction: np.ndarray
    rest_change: dict[str, np.ndarray]
    appeared: dict[str, int]
    camera_step: float
    unaligned: float
    outlines: Outlines
    watched: dict[str, ThingSeen]
    still: StillSeen
    sharpness: float
    grain: float
    change: float


def changed(frame: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Return bool (H, W): pixels that differ from the first frame by more than a one-pixel shift or a shadow."""
    low, high = (op(first, np.ones((5, 5), np.uint8)).astype(np.int32) for op in (cv2.erode, cv2.dilate))
    value = frame.astype(np.int32)
    outside = np.maximum(low - value, 0) + np.maximum(value - high, 0)
    far = outside.sum(-1) > 36
    # A shadow that appears or disappears keeps the chromaticity and takes two fifths of the light.
    a, b = frame.astype(np.float32) + 1, first.astype(np.float32) + 1
    ratio = a.sum(-1) / b.sum(-1)
    shift = np.abs(a / a.sum(-1, keepdims=True) - b / b.sum(-1, keepdims=True)).max(-1)
    shade = ((ratio > 0.48) & (ratio < 0.7)) | ((ratio > 1.45) & (ratio < 2.1))
    return far & ~(shade & (shift < 0.025))


def probe_video(frames: np.ndarray) -> Seen:
    """Collect all observations from uint8 (T, H, W, 3), T >= 2."""
    flat, shifts = aligned(frames)
    first, top = flat[0], horizon(flat[0])
    appearance = seen_appearance(first)
    rest = rest_masks(appearance, first.shape[:2])
    masks: list[Masks] = []
    faded: list[Masks] = []
    for frame in flat:
        near, wide = color_masks(frame, (MAX_REACH, FADED_REACH))
        masks.append(near)
        faded.append(wide)
    for of_frame in masks + faded:
        for mask in of_frame.values():
            mask[:top] = False
    hands = cv2.dilate((rest["left"] | rest["right"]).astype(np.uint8), np.ones((5, 5))) > 0
    things = {c: part for c, mask in masks[0].items() if (part := largest(mask & ~hands)) is not None}
    changes = np.stack([changed(f, first) for f in flat])
    arms = np.stack([_arm_mask(c, m, masks[0], things) for c, m in zip(changes, masks, strict=True)])
    places = np.stack([_places(m, faded[0], things) for m in faded])
    outlines = fit_arms(flat, changes, places, rest, appearance, top)
    watched = watch_things(flat, things, faded[0], hands, outlines, top)
    still = watch_still(flat, changes, places, outlines, top)
    sides = [_side(a) for a in arms]
    robot = [np.nan if s is None else black(f)[a].mean() for f, a, s in zip(flat, arms, sides, strict=True)]
    areas, centers = _tracks(masks, things)
    faded_areas, faded_centers = _tracks(faded, things)
    sharpness, grain = _sharpness_and_grain(frames)
    return Seen(
        appearance=appearance,
        things=things,
        areas=areas,
        centers=centers,
        faded_areas=faded_areas,
        faded_centers=faded_centers,
        hands=hands,
        arms=arms,
        side_frames={h: sides.count(h) for h in HANDS},
        robot_fraction=np.array(robot),
        rest_change={h: np.array([c[rest[h]].mean() for c in changes]) for h in HANDS},
        appeared=_appeared(masks, things, hands, arms),
        camera_step=float(np.nanmax(shifts)) if np.isfinite(shifts).any() else np.nan,
        unaligned=float(np.isnan(shifts).mean()),
        outlines=outlines,
        watched=watched,
        still=still,
        sharpness=sharpness,
        grain=grain,
        change=float(np.abs(flat[1:].astype(int) - first).mean()),
    )


def _tracks(masks: list[Masks], things: dict[str, Part]) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Area (T,) and centre (T, 2) of the largest part of each thing's colour, by colour."""
    areas = {c: np.zeros(len(masks)) for c in things}
    centers = {c: np.full((len(masks), 2), np.nan) for c in things}
    for color in things:
        for t, mask in enumerate(masks):
            found = largest(mask[color])
            if found:
                areas[color][t], centers[color][t] = found[0], found[1]
    return areas, centers


def _places(masks: Masks, before: Masks, things: dict[str, Part]) -> np.ndarray:
    """Return bool (H, W): where things are in a frame and where they were in the first one, with their edges."""
    now, start = np.zeros(next(iter(masks.values())).shape, bool), np.zeros(next(iter(masks.values())).shape, bool)
    for color in things:
        now |= masks[color]
        start |= before[color]
    near = cv2.dilate(now.astype(np.uint8), np.ones((3, 3), np.uint8))
    edges = cv2.dilate(start.astype(np.uint8), np.ones((5, 5), np.uint8))
    return (near > 0) | (edges > 0)


def _arm_mask(change: np.ndarray, masks: Masks, before: Masks, things: dict[str, Part]) -> np.ndarray:
    """Return bool (H, W): changed parts of 30 pixels or more that are no thing.

    Args:
        change: bool (H, W), see `changed`.
        masks, before: colour masks of `frame` and of the first frame.
    """
    arm = change.copy()
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
    """The side from which the largest arm reaches in, by its lowest pixels; None without an arm."""
    count, labels, stats, _ = cv2.connectedComponentsWithStats(arm.astype(np.uint8), connectivity=8)
    if count < 2:
        return None
    i = 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())
    if stats[i, cv2.CC_STAT_AREA] < 60:
        return None
    y, x = np.nonzero(labels == i)
    return "left" if x[y >= y.max() - 3].mean() < arm.shape[1] / 2 else "right"


def _appeared(masks: list[Masks], things: dict[str, Part], hands: np.ndarray, arms: np.ndarray) -> dict[str, int]:
    """Number of frames by colour, for colours that form a part in at least three frames but not in the first."""
    counts = {}
    for color in COLORS:
        if color not in things:
            n = sum(largest(m[color] & ~hands & ~a) is not None for m, a in zip(masks, arms, strict=True))
            if n >= 3:
                counts[color] = n
    return counts


def _sharpness_and_grain(frames: np.ndarray) -> tuple[float, float]:
    """Mean gradient and grain of the frames after the first, in grey levels.

    Grain is the median absolute Laplacian; a median is not affected by edges.
    """
    grey = [cv2.cvtColor(f, cv2.COLOR_RGB2GRAY).astype(np.float32) for f in frames]
    edges = [
        float(np.mean(np.abs(cv2.Sobel(g, cv2.CV_32F, 1, 0)) + np.abs(cv2.Sobel(g, cv2.CV_32F, 0, 1)))) for g in grey
    ]
    grain = [float(np.median(np.abs(cv2.Laplacian(g, cv2.CV_32F)))) for g in grey]
    return float(np.median(edges[1:])), float(np.median(grain[1:]))
