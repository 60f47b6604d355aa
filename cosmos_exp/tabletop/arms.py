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


@dataclass(frozen=True)
class ArmPose:
    """An arm that has left its rest position. index: number of its pose in `Poses`. gain: coarse pixels explained."""

    hand: str
    index: int
    gain: float


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

    count: (T,), arms out of their rest position. tips: (T, 2, 2), pixel position of the left and the right grasp point,
    nan at rest. arms: bool (T, H, W), their outlines. covered: the outlines and the rest positions that they left, with
    a margin. shadows: bool (T, H, W), where their shadows fall, with a margin. missing: (T,), fraction of the outlines
    that has not changed although an arm would show there. unlike: (T,), fraction of the arms' pixels whose colour the
    resting hands do not have; nan without an arm. extended: (T,), largest distance of a grasp point from its rest
    position, pixels; 0 without an arm. loose: bool (T, H, W), changed pixels that are no object's.
    veiled: whether hands may have the colour of the table, so that their grasp point is uncertain.
    """

    count: np.ndarray
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
    place = cv2.erode((rest["left"] | rest["right"]).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
    cells = first[place].astype(np.int32) // 24
    count = np.zeros((11, 11, 11))
    np.add.at(count, tuple(cells.T), 1)
    return _with_neighbours(count >= max(least * len(cells), 1))


def _with_neighbours(cells: np.ndarray) -> np.ndarray:
    """Cells and their neighbours along each axis, in turn."""
    for axis in range(3):
        cells = cells | np.roll(cells, 1, axis) | np.roll(cells, -1, axis)
    return cells


def grown(mask: np.ndarray, size: int) -> np.ndarray:
    """Return bool (H, W): `mask` dilated by a square of `size` pixels."""
    return cv2.dilate(mask.astype(np.uint8), np.ones((size, size), np.uint8)) > 0


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
    camera = first_camera((flat.shape[1], flat.shape[2]))
    left_home, right_home = (-REST[0], REST[1], REST[2]), REST
    home = np.array([camera.project(left_home)[:2], camera.project(right_home)[:2]])
    veiled = appearance == "human"
    count, length = np.zeros(len(flat), int), len(flat)
    tips, missing, unlike = np.full((length, 2, 2), np.nan), np.zeros(length), np.full(length, np.nan)
    arms, covered, shadows = np.zeros((3, *changes.shape), bool)
    left = {}  # where the shadow of each hand was at rest
    for hand, place in zip(HANDS, home, strict=True):
        left[hand] = grown(_rest_shadow(known[hand], place), 11)
    for t in range(length):
        found = _fit(changes[t] & ~places[t], places[t], rest, like, known, veiled)
        count[t] = len(found)
        for arm in found:
            tips[t, HANDS.index(arm.hand)] = known[arm.hand].tips[arm.index]
            arms[t] |= known[arm.hand].outlines[arm.index]
            covered[t] |= grown(rest[arm.hand], 5) | left[arm.hand]
            shadows[t] |= left[arm.hand]
            shadows[t] |= grown(known[arm.hand].shadows[arm.index], 15)
        if not found:
            continue
        covered[t] |= grown(arms[t], 7)
        shown = arms[t] & ~places[t] & ~like
        for arm in found:
            shown &= ~grown(rest[arm.hand], 3)
        shown[:top] = False
        if shown.sum() > 40:
            missing[t] = float((shown & ~changes[t]).sum() / shown.sum())
        inner = cv2.erode((arms[t] & ~places[t]).astype(np.uint8), np.ones((3, 3), np.uint8)) > 0
        inner &= changes[t]
        if inner.sum() >= 60:
            unlike[t] = 1 - float(colors[tuple((flat[t][inner].astype(np.int32) // 24).T)].mean())
    away = np.linalg.norm(tips - home, axis=-1)
    extended = _steady(np.where(np.isnan(away), 0, away).max(1))
    return Outlines(count, tips, arms, covered, shadows, missing, unlike, extended, changes & ~places, veiled)


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
) -> list[ArmPose]:
    """The poses, at most one per hand, that explain `change`; the better one first.

    A pose gains the changed pixels that it covers and pays for the others, but less for those whose colour in the first
    frame is a hand's: an arm in front of them may be no change.
    """
    free, open_cost = _small(change), 1 - 0.7 * _small(like)
    out: list[ArmPose] = []
    for _ in HANDS:
        best: ArmPose | None = None
        for hand in HANDS:
            if out and hand == out[0].hand:
                continue
            cost = (1 - np.minimum(free + _small(rest[hand]) + _small(objects), 1)) * open_cost
            # The place that a hand has left changes wherever the hand is; of a veiled one there may be no more to see.
            new = free if veiled else free * (1 - _small(rest[hand]))
            gains = known[hand].coarse @ (new - UNSEEN_COST * cost)
            index = int(gains.argmax())
            if best is None or gains[index] > best.gain:
                best = ArmPose(hand, index, float(gains[index]))
        enough = SECOND if out else LEAST
        if best is None or best.gain < enough:
            break
        out.append(best)
        free = free * (1 - np.minimum(known[best.hand].coarse[best.index] * 2, 1))
    return out


def _small(mask: np.ndarray) -> np.ndarray:
    """Float32 (h * w,): `mask` at half the size."""
    return cv2.resize(mask.astype(np.float32), None, fx=1 / COARSE, fy=1 / COARSE, interpolation=cv2.INTER_AREA).ravel()
