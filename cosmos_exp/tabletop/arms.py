"""Where the two arms of the world can be in a picture, and which pose explains the pixels that have changed.

The judge knows the head camera's first pose, the shoulders and the size of arms and hands: knowledge of the world, not
of a clip. From them it draws the outline and the shadow of each arm for a grid of grasp points.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cache

import cv2
import numpy as np

from cosmos_exp.tabletop.geometry import Camera, Shape, Triple
from cosmos_exp.tabletop.masks import grown, shrunk
from cosmos_exp.tabletop.render import LIGHT
from cosmos_exp.tabletop.scene import Scene, human_hand, robot_hand
from cosmos_exp.tabletop.world import HANDS, SKIN, SLEEVES

STEP, HEIGHT, GRIP = 0.025, 0.08, 0.03  # metres: spacing and height of the grasp points, half width of the grip
COARSE = 2  # poses are compared at half the size
LEAST, SECOND = 18.0, 90.0  # coarse pixels that the pose of the first arm, and of a second one, must explain
REST = (0.215, -0.155, 0.06)  # metres: the right hand's grasp point at rest; the left hand's is its mirror image
UNSEEN_COST = 0.12  # of a pixel of the outline that has not changed


@dataclass(frozen=True)
class Poses:
    """Outlines of one hand's arm for N grasp points.

    tips: (N, 2), pixels. outlines, shadows: bool (N, H, W). coarse: float32 (N, h * w), outlines at half the size.
    """

    tips: np.ndarray
    outlines: np.ndarray
    shadows: np.ndarray
    coarse: np.ndarray


@cache
def first_camera(size: tuple[int, int]) -> Camera:
    """The head camera at the first frame; it is the same in every scene."""
    return Scene.sample(0, "robot", size=size).camera(0)


@cache
def poses(appearance: str, size: tuple[int, int]) -> dict[str, Poses]:
    """The poses of each hand for pictures of height and width `size`."""
    camera, out = first_camera(size), {}
    for hand in HANDS:
        tips, outlines, shadows, coarse = [], [], [], []
        for x in np.arange(-0.35, 0.351, STEP):
            for y in np.arange(-0.2, 0.301, STEP):
                tip = (float(x), float(y), HEIGHT)
                shapes = _hand_shapes(appearance, hand, tip)
                outline = _drawn(shapes, camera)
                if outline.sum() < 40:
                    continue
                tips.append(camera.project(tip)[:2])
                outlines.append(outline)
                shadows.append(_drawn([_fallen(shape) for shape in shapes], camera))
                coarse.append(_small(outline))
        out[hand] = Poses(np.array(tips), np.stack(outlines), np.stack(shadows), np.stack(coarse))
    return out


def _hand_shapes(appearance: str, hand: str, tip: Triple) -> list[Shape]:
    if appearance == "robot":
        return robot_hand(hand, tip, 0.5, GRIP)
    return human_hand(hand, tip, 0.5, GRIP, SKIN[0], SLEEVES[0])


def _fallen(shape: Shape) -> Shape:
    """The shape projected onto the table along the light, as a flat body of the same outline."""

    def fall(p: Triple) -> Triple:
        return p[0] - LIGHT[0] * p[2] / LIGHT[2], p[1] - LIGHT[1] * p[2] / LIGHT[2], 0.0

    return Shape(shape.kind, fall(shape.center), shape.size, shape.color, shape.label, end=fall(shape.end))


def _drawn(shapes: list[Shape], camera: Camera) -> np.ndarray:
    """Return bool (H, W): the filled outlines of spheres, capsules and boxes."""
    image = np.zeros((camera.height, camera.width), np.uint8)
    for shape in shapes:
        points = []
        if shape.kind == "box":
            sx, sy, sz = shape.size
            x, y, z = shape.center
            for i, j, k in itertools.product((-1, 1), repeat=3):
                points.append(camera.project((x + i * sx, y + j * sy, z + k * sz))[:2])
        else:
            for center, radius in shape.balls():
                u, v, depth = camera.project(center)
                r = camera.focal * radius / max(depth, 0.05)
                for angle in np.linspace(0, 2 * np.pi, 12, endpoint=False):
                    points.append((u + r * np.cos(angle), v + r * np.sin(angle)))
        hull = cv2.convexHull(np.round(np.array(points) * 8).astype(np.int32))
        cv2.fillConvexPoly(image, hull, 1, lineType=cv2.LINE_8, shift=3)
    return image.astype(bool)


@dataclass(frozen=True)
class Outlines:
    """Where arms have been found. T frames.

    tips: (T, 2, 2), pixel position of the left and the right grasp point,
    nan at rest. arms: bool (T, H, W), their outlines. covered: the outlines and the rest positions that they left, with
    a margin. shadows: bool (T, H, W), where their shadows fall, with a margin. missing: (T,), fraction of the outlines
    that has not changed although an arm would show there. unlike: (T,), fraction of the arms' pixels whose colour the
    resting hands do not have; nan without an arm. extended: (T,), largest distance of a grasp point from its rest
    position, pixels; 0 without an arm. loose: bool (T, H, W), changed pixels that are no object's.
    veiled: whether hands may have the colour of the table, so that their grasp point is uncertain.
    """

    tips: np.ndarray
    arms: np.ndarray
    covered: np.ndarray
    shadows: np.ndarray
    missing: np.ndarray
    unlike: np.ndarray
    extended: np.ndarray
    loose: np.ndarray
    veiled: bool


def hand_colors(first: np.ndarray, rest: dict[str, np.ndarray], least: float) -> np.ndarray:
    """Return bool (11, 11, 11): cells of 24 grey levels with a colour of the resting hands, and their neighbours.

    Args:
        least: smallest fraction of the hands' pixels in a cell.
    """
    cells = first[shrunk(rest["left"] | rest["right"])].astype(np.int32) // 24
    count = np.zeros((11, 11, 11))
    np.add.at(count, tuple(cells.T), 1)
    known = count >= max(least * len(cells), 1)
    for axis in range(3):
        known = known | np.roll(known, 1, axis) | np.roll(known, -1, axis)
    return known


def fit_arms(
    flat: np.ndarray, changes: np.ndarray, places: np.ndarray, rest: dict[str, np.ndarray], appearance: str, top: int
) -> Outlines:
    """Find the pose of each arm that explains the changed pixels of each frame.

    Args:
        flat: uint8 (T, H, W, 3), aligned frames.
        changes: bool (T, H, W), pixels that differ from the first frame.
        places: bool (T, H, W), pixels of objects, which no arm has to explain.
        rest: hand -> bool (H, W), where it rests.
        top: row of the table's far edge.
    """
    known, colors = poses(appearance, flat.shape[1:3]), hand_colors(flat[0], rest, 0.004)
    common = hand_colors(flat[0], rest, 0.04)
    like = common[tuple(np.moveaxis(flat[0].astype(np.int32) // 24, -1, 0))]
    camera = first_camera(flat.shape[1:3])
    home = np.array([camera.project((side * REST[0], *REST[1:]))[:2] for side in (-1, 1)])
    veiled = appearance == "human"
    length = len(flat)
    tips, unlike, missing = np.full((length, 2, 2), np.nan), np.full(length, np.nan), np.zeros(length)
    arms, covered, shadows = np.zeros((3, *changes.shape), bool)
    left = {}  # where the shadow of each hand was at rest
    for hand, place in zip(HANDS, home, strict=True):
        left[hand] = grown(_rest_shadow(known[hand], place), 11)
    for t in range(length):
        fitted = _fit(changes[t] & ~places[t], places[t], rest, like, known, veiled)
        for hand, index in fitted.items():
            tips[t, HANDS.index(hand)] = known[hand].tips[index]
            arms[t] |= known[hand].outlines[index]
            covered[t] |= grown(rest[hand], 5) | left[hand]
            shadows[t] |= left[hand] | grown(known[hand].shadows[index], 15)
        if not fitted:
            continue
        covered[t] |= grown(arms[t], 7)
        shown = arms[t] & ~places[t] & ~like
        for hand in fitted:
            shown &= ~grown(rest[hand], 3)
        shown[:top] = False
        if shown.sum() > 40:
            missing[t] = float((shown & ~changes[t]).sum() / shown.sum())
        inner = shrunk(arms[t] & ~places[t]) & changes[t]
        if inner.sum() >= 60:
            unlike[t] = 1 - float(colors[tuple((flat[t][inner].astype(np.int32) // 24).T)].mean())
    away = np.linalg.norm(tips - home, axis=-1)
    extended = _steady(np.where(np.isnan(away), 0, away).max(1))
    return Outlines(tips, arms, covered, shadows, missing, unlike, extended, changes & ~places, veiled)


def _steady(values: np.ndarray) -> np.ndarray:
    """Median of three successive frames of (T,): a pose that is found in one frame only is none."""
    padded = np.pad(values, 1, mode="edge")
    return np.median(np.stack([padded[:-2], values, padded[2:]]), axis=0)


def _rest_shadow(known: Poses, home: np.ndarray) -> np.ndarray:
    """Return bool (H, W): the shadow of the pose nearest to the grasp point `home` of the resting hand."""
    return known.shadows[int(np.linalg.norm(known.tips - home, axis=1).argmin())]


def _fit(
    change: np.ndarray,
    objects: np.ndarray,
    rest: dict[str, np.ndarray],
    like: np.ndarray,
    known: dict[str, Poses],
    veiled: bool,
) -> dict[str, int]:
    """The number of the pose in `Poses` of each hand whose arm explains a part of `change`.

    A pose gains the changed pixels that it covers and pays for the others, but less for those whose colour in the first
    frame is a hand's: an arm in front of them may be no change.
    """
    free, open_cost = _small(change), 1 - 0.7 * _small(like)
    out: dict[str, int] = {}
    for enough in (LEAST, SECOND):
        gains = {}
        for hand in HANDS:
            if hand in out:
                continue
            cost = (1 - np.minimum(free + _small(rest[hand]) + _small(objects), 1)) * open_cost
            # The place that a hand has left changes wherever the hand is; of a veiled one there may be no more to see.
            new = free if veiled else free * (1 - _small(rest[hand]))
            gains[hand] = known[hand].coarse @ (new - UNSEEN_COST * cost)
        best = max(gains, key=lambda hand: gains[hand].max())
        if gains[best].max() < enough:
            break
        out[best] = int(gains[best].argmax())
        free = free * (1 - np.minimum(known[best].coarse[out[best]] * 2, 1))
    return out


def _small(mask: np.ndarray) -> np.ndarray:
    """Float32 (h * w,): `mask` at half the size."""
    return cv2.resize(mask.astype(np.float32), None, fx=1 / COARSE, fy=1 / COARSE, interpolation=cv2.INTER_AREA).ravel()
