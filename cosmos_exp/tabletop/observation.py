"""Observations from a video of the tabletop world: the camera's motion, where each coloured object is, which side moved.

Only pixels and general knowledge of the world are used (its seven colours, where hands rest), not the ground truth of
the clip.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

from cosmos_exp.tabletop.arms import Outlines, fit_arms
from cosmos_exp.tabletop.geometry import Triple
from cosmos_exp.tabletop.masks import grown, parts_of, without_specks
from cosmos_exp.tabletop.objects import ObjectChange, TableChange, watch_objects, watch_table
from cosmos_exp.tabletop.scene import Scene
from cosmos_exp.tabletop.world import COLORS, HANDS, LABELS, SKIN, SLEEVES, TABLE_TONE

Point = tuple[float, float]  # x, y in pixels
Part = tuple[int, Point]  # area in pixels and centre of a connected part
Masks = dict[str, np.ndarray]  # bool (H, W) by colour or hand

WOOD = (TABLE_TONE, (172, 128, 84), (200, 156, 112), (240, 214, 172), (96, 60, 36), (70, 44, 26))
WALL = ((176, 184, 188),)
# Colours are compared by chromaticity, r / (r + g + b) and g / (r + g + b), which light and shade leave unchanged.
# White is treated separately: neutral and bright.
HUES = [name for name in COLORS if name != "white"]
_REFERENCES: list[Triple] = [*(COLORS[name] for name in HUES), *WOOD, *SKIN, *SLEEVES, *WALL]
NEUTRAL, WHITE_FROM, DARK = 0.024, 178, 48  # chromaticity distance from grey; grey levels
SMALLEST = 10  # pixels; smaller parts are ignored
MAX_REACH = 0.055  # largest chromaticity distance from a reference at which a pixel has that colour
FADED_REACH = 0.11  # the same for an object known from the first frame whose colour may have faded


def color_masks(frame: np.ndarray, reaches: tuple[float, ...]) -> list[Masks]:
    """Return one dictionary per reach: colour -> bool (H, W), the pixels within that chromaticity distance.

    Args:
        frame: uint8 (H, W, 3).
        reaches: chromaticity distances.
    """
    r, g, b = np.ascontiguousarray(frame.transpose(2, 0, 1)).astype(np.float32)
    total = r + g + b + 1e-3
    red, green = r / total, g / total
    distance = np.empty((len(_REFERENCES), *red.shape), np.float32)
    for index, color in enumerate(_REFERENCES):
        distance[index] = (red - color[0] / sum(color)) ** 2 + (green - color[1] / sum(color)) ** 2
    best, nearest = distance.argmin(0), distance.min(0)
    grey = np.maximum(np.abs(red - 1 / 3), np.abs(green - 1 / 3)) < NEUTRAL
    white = grey & (np.minimum(np.minimum(r, g), b) > WHITE_FROM)
    out = []
    for reach in reaches:
        masks = {}
        for index, name in enumerate(HUES):
            masks[name] = (best == index) & (total > 110) & (nearest < reach**2)
        masks["white"] = white.copy()
        out.append(masks)
    return out


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
    _, areas, centers = parts_of(mask)
    if areas.max(initial=0) < SMALLEST:
        return None
    x, y = centers[areas.argmax()].tolist()
    return int(areas.max()), (x, y)


@cache
def rest_masks(appearance: str, size: tuple[int, int]) -> Masks:
    """Where each hand rests in a first frame: hand -> bool (H, W), pixels that it covers in most scenes."""
    labels = []
    for k in range(6):
        labels.append(Scene.sample(50_000_000 + k, appearance, size=size, num_frames=1).clip().labels[0])
    return {hand: np.mean(np.stack(labels) == LABELS[hand], axis=0) > 0.6 for hand in HANDS}


def observed_appearance(first: np.ndarray) -> str:
    """Return robot or human, by the fraction of neutral pixels where hands rest in uint8 (H, W, 3)."""
    rest = rest_masks("robot", first.shape[:2])
    return "robot" if neutral(first)[rest["left"] | rest["right"]].mean() > 0.6 else "human"


def horizon(first: np.ndarray) -> int:
    """The row of the table's far edge: the first row most of whose pixels have the hue of the wood."""
    rgb = first.astype(np.float32)
    red = rgb[..., 0] / (rgb.sum(-1) + 1e-3)
    rows = np.flatnonzero((red > 0.39).mean(1) > 0.5)
    return int(rows[0]) if len(rows) else 0


@dataclass(frozen=True)
class Observation:
    """Observations of `observe`. T frames; coordinates are pixels of the first frame.

    objects: colour -> area and centre in the first frame. tracks: colour -> (T, 3), area and centre of the largest part
    of the colour; 0 and nan when not visible. faded: the same with the wider colour tolerance FADED_REACH.
    hands: bool (H, W), where hands rest. arms: bool (T, H, W), pixels of arms outside their rest position. side_frames:
    number of frames in which a left or right arm reaches out. robot_fraction (T,): fraction of the pixels reaching out
    that are as black as the robot's arm; nan when nothing reaches out.
    appeared: colour -> number of frames, for colours that the first frame does not show.
    camera_step: largest shift of the picture from one frame to the next, pixels; unaligned: fraction of the frames
    without a homography. outlines, watched, still: see `arms.Outlines`, `objects.ObjectChange`, `objects.TableChange`.
    sharpness, grain: see `_sharpness_and_grain`.
    """

    appearance: str
    objects: dict[str, Part]
    tracks: dict[str, np.ndarray]
    faded: dict[str, np.ndarray]
    hands: np.ndarray
    arms: np.ndarray
    side_frames: dict[str, int]
    robot_fraction: np.ndarray
    appeared: dict[str, int]
    camera_step: float
    unaligned: float
    outlines: Outlines
    watched: dict[str, ObjectChange]
    still: TableChange
    sharpness: float
    grain: float


def changed(frame: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Return bool (H, W): pixels that differ from the first frame by more than a one-pixel shift or a shadow."""
    around = np.ones((5, 5), np.uint8)
    low, high = cv2.erode(first, around), cv2.dilate(first, around)
    far = (cv2.subtract(low, frame).astype(int) + cv2.subtract(frame, high)).sum(-1) > 36  # both saturate at 0
    # A shadow that appears or disappears keeps the chromaticity and takes two fifths of the light.
    a, b = frame.astype(np.float32) + 1, first.astype(np.float32) + 1
    ratio = a.sum(-1) / b.sum(-1)
    shift = np.abs(a / a.sum(-1, keepdims=True) - b / b.sum(-1, keepdims=True)).max(-1)
    shade = ((ratio > 0.48) & (ratio < 0.7)) | ((ratio > 1.45) & (ratio < 2.1))
    return far & ~(shade & (shift < 0.025))


def observe(frames: np.ndarray) -> Observation:
    """Collect all observations from uint8 (T, H, W, 3), T >= 2."""
    flat, shifts = aligned(frames)
    first, top = flat[0], horizon(flat[0])
    appearance = observed_appearance(first)
    rest = rest_masks(appearance, first.shape[:2])
    masks: list[Masks] = []
    faded: list[Masks] = []
    for frame in flat:
        near, wide = color_masks(frame, (MAX_REACH, FADED_REACH))
        for mask in [*near.values(), *wide.values()]:
            mask[:top] = False
        masks.append(near)
        faded.append(wide)
    hands = grown(rest["left"] | rest["right"], 5)
    objects = {}
    for color, mask in masks[0].items():
        part = largest(mask & ~hands)
        if part is not None:
            objects[color] = part
    changes, arms, places = np.zeros((3, *flat.shape[:3]), bool)
    sides: list[str | None] = []
    robot = np.full(len(flat), np.nan)
    for t, frame in enumerate(flat):
        changes[t] = changed(frame, first)
        arms[t] = _arm_mask(changes[t], masks[t], masks[0], objects)
        places[t] = _places(faded[t], faded[0], objects)
        sides.append(_side(arms[t]))
        if sides[t] is not None:
            robot[t] = black(frame)[arms[t]].mean()
    outlines = fit_arms(flat, changes, places, rest, appearance, top)
    watched = watch_objects(flat, objects, faded[0], hands, outlines, top)
    still = watch_table(flat, changes, places, outlines, top)
    sharpness, grain = _sharpness_and_grain(frames)
    return Observation(
        appearance=appearance,
        objects=objects,
        tracks=_tracks(masks, objects),
        faded=_tracks(faded, objects),
        hands=hands,
        arms=arms,
        side_frames={hand: sides.count(hand) for hand in HANDS},
        robot_fraction=robot,
        appeared=_appeared(masks, objects, hands, arms),
        camera_step=float(np.nanmax(shifts)) if np.isfinite(shifts).any() else np.nan,
        unaligned=float(np.isnan(shifts).mean()),
        outlines=outlines,
        watched=watched,
        still=still,
        sharpness=sharpness,
        grain=grain,
    )


def _tracks(masks: list[Masks], objects: dict[str, Part]) -> dict[str, np.ndarray]:
    """`Observation.tracks`."""
    tracks = {}
    for color in objects:
        rows = []
        for of_frame in masks:
            area, center = largest(of_frame[color]) or (0, (np.nan, np.nan))
            rows.append((area, *center))
        tracks[color] = np.array(rows)
    return tracks


def _places(masks: Masks, before: Masks, objects: dict[str, Part]) -> np.ndarray:
    """Return bool (H, W): where objects are in a frame and where they were in the first one, with their edges."""
    places = np.zeros(masks["white"].shape, bool)
    for color in objects:
        places |= grown(masks[color], 3) | grown(before[color], 5)
    return places


def _arm_mask(change: np.ndarray, masks: Masks, before: Masks, objects: dict[str, Part]) -> np.ndarray:
    """Return bool (H, W): changed parts of 30 pixels or more that are no object.

    Args:
        change: bool (H, W), see `changed`.
        masks, before: colour masks of `frame` and of the first frame.
    """
    arm = change.copy()
    for color in objects:  # neither an object nor the place that it left is an arm
        arm &= ~masks[color] & ~grown(before[color], 3)
    labels, areas, _ = parts_of(without_specks(arm))
    return np.isin(labels, 1 + np.flatnonzero(areas >= 30))


def _side(arm: np.ndarray) -> str | None:
    """The side from which the largest arm reaches in, by its lowest pixels; None without an arm."""
    labels, areas, _ = parts_of(arm)
    if areas.max(initial=0) < 60:
        return None
    y, x = np.nonzero(labels == 1 + areas.argmax())
    return "left" if x[y >= y.max() - 3].mean() < arm.shape[1] / 2 else "right"


def _appeared(masks: list[Masks], objects: dict[str, Part], hands: np.ndarray, arms: np.ndarray) -> dict[str, int]:
    """Number of frames by colour, for colours that form a part in at least three frames but not in the first."""
    counts = {}
    for color in COLORS:
        count = 0
        for mask, arm in zip(masks, arms, strict=True):
            count += largest(mask[color] & ~hands & ~arm) is not None
        if color not in objects and count >= 3:
            counts[color] = count
    return counts


def _sharpness_and_grain(frames: np.ndarray) -> tuple[float, float]:
    """Mean gradient and grain of the frames after the first, in grey levels.

    Grain is the median absolute Laplacian; a median is not affected by edges.
    """
    edges, grain = [], []
    for frame in frames[1:]:
        grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY).astype(np.float32)
        gradient = np.abs(cv2.Sobel(grey, cv2.CV_32F, 1, 0)) + np.abs(cv2.Sobel(grey, cv2.CV_32F, 0, 1))
        edges.append(float(np.mean(gradient)))
        grain.append(float(np.median(np.abs(cv2.Laplacian(grey, cv2.CV_32F)))))
    return float(np.median(edges)), float(np.median(grain))


Features = tuple[Sequence[cv2.KeyPoint], np.ndarray | None]  # keypoints and their descriptors; None without keypoints
LARGEST = 48  # pixels; a larger shift of a corner means wrong matches


def aligned(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Every frame warped onto the first, and how far the picture shifts from frame to frame.

    The warp is the homography of matched SIFT keypoints. A frame without a plausible homography is kept as it is.

    Args:
        frames: uint8 (T, H, W, 3).

    Returns:
        uint8 (T, H, W, 3), and (T - 1,): median shift of four points of the table between two frames, pixels; nan where
        one of the two frames has no homography.
    """
    sift, matcher = cv2.SIFT_create(contrastThreshold=0.02), cv2.BFMatcher()  # type: ignore[attr-defined]
    features = []
    for frame in frames:
        features.append(sift.detectAndCompute(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), None))
    out, height, width = [frames[0]], *frames.shape[1:3]
    corners = [[[0.3, 0.35], [0.3, 0.8], [0.7, 0.35], [0.7, 0.8]]]
    points = (np.array(corners) * (width, height)).astype(np.float32)
    places = [points[0]]
    for index in range(1, len(frames)):
        warp = _homography(features[index], features[0], matcher, width, height)
        if warp is None:
            out.append(frames[index])
            places.append(np.full((4, 2), np.nan))
            continue
        out.append(cv2.warpPerspective(frames[index], warp, (width, height), borderMode=cv2.BORDER_REPLICATE))
        places.append(cv2.perspectiveTransform(points, warp)[0])
    steps = np.linalg.norm(np.diff(without_outliers(np.stack(places)), axis=0), axis=-1)
    return np.stack(out), np.median(steps, axis=-1)


def without_outliers(places: np.ndarray) -> np.ndarray:
    """Median of three successive frames of (T, ...): one wrong homography is no jump, and a jump stays one."""
    padded = np.concatenate([places[:1], places, places[-1:]])
    windows = np.stack([padded[:-2], places, padded[2:]])
    known = ~np.isnan(windows).any(axis=0)
    return np.where(known, np.median(windows, axis=0), places)


def _homography(
    features: Features, first: Features, matcher: cv2.BFMatcher, width: int, height: int
) -> np.ndarray | None:
    """3x3 homography from a frame to the first; None with too few matches or an implausible shift."""
    (keypoints, descriptors), (first_keypoints, first_descriptors) = features, first
    if descriptors is None or first_descriptors is None or min(len(descriptors), len(first_descriptors)) <= 8:
        return None
    here, there = [], []
    for best, second in matcher.knnMatch(descriptors, first_descriptors, k=2):
        if best.distance < 0.75 * second.distance:
            here.append(keypoints[best.queryIdx].pt)
            there.append(first_keypoints[best.trainIdx].pt)
    if len(here) < 8:
        return None
    warp, kept = cv2.findHomography(np.array(here, np.float32), np.array(there, np.float32), cv2.USAC_MAGSAC, 1.5)
    if warp is None or _corner_shift(warp, width, height) > LARGEST or kept.sum() < 8:
        return None
    return warp


def _corner_shift(warp: np.ndarray, width: int, height: int) -> float:
    """Largest shift of a picture corner along one axis, in pixels."""
    corners = np.array([[[0, 0], [width, 0], [0, height], [width, height]]], np.float32)
    return float(np.abs(cv2.perspectiveTransform(corners, warp) - corners).max())
