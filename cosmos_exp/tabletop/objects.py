"""Follows each object of the first frame through a video (its place, size and colour, and whether a hand is at it), and asks
whether the table stays as it is where no arm, no object and no shadow is."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cv2
import numpy as np

from cosmos_exp.tabletop.arms import Outlines, first_camera
from cosmos_exp.tabletop.geometry import Camera
from cosmos_exp.tabletop.masks import grown, parts_of, shrunk, without_specks

NEAR = 24  # pixels between grasp point and centre of an object: a hand that may hold it
CONTAINER = 0.0056  # square metres across the line of sight; objects have at most 0.0050, containers at least 0.0070
FASTEST = 17.0  # pixels per frame; a larger step is a jump or a confusion of two objects, no drift
Part = tuple[int, tuple[float, float]]  # area in pixels and centre of a connected part


@dataclass(frozen=True)
class Track:
    """What is measured in each of T frames.

    centers (T, 2) and bottoms (T,): pixels, nan when not visible. areas (T,): pixels. widths, heights (T,): standard
    deviations along both axes, pixels. second (T,): area of the next largest part of the colour, apart from arms.
    hues (T, 2): median chromaticity. clear (T,): no arm and no resting hand touches it. away (T,): no hand is within NEAR.
    """

    centers: np.ndarray
    bottoms: np.ndarray
    areas: np.ndarray
    widths: np.ndarray
    heights: np.ndarray
    second: np.ndarray
    hues: np.ndarray
    clear: np.ndarray
    away: np.ndarray


@dataclass(frozen=True)
class ObjectChange:
    """How an object differs at the end, in the last frames in which no arm touches it, from the first frame.

    container: from its size. partly: a resting hand touches it in the first frame and may hide a part. drift: largest
    displacement over frames in which no hand is near, pixels. reach: smallest distance to a grasp point, pixels, inf
    without one. shift: displacement at the end, pixels; down: downwards. size, width, height: natural logarithms of the
    factors by which it grew, for the distance from the camera. second: growth of the next largest part of its colour,
    fraction of its area. hue: chromaticity distance. lift: how far it ends above the grasp point of the hand that was last
    near its end, pixels; nan without one. early: see `_early`. All but the first four are nan if no frame at the end
    shows it.
    """

    container: bool
    partly: bool
    drift: float
    reach: float
    shift: float = np.nan
    down: float = np.nan
    size: float = np.nan
    width: float = np.nan
    height: float = np.nan
    second: float = np.nan
    hue: float = np.nan
    lift: float = np.nan
    early: float = np.nan


def watch_objects(
    flat: np.ndarray,
    objects: dict[str, Part],
    before: dict[str, np.ndarray],
    hands: np.ndarray,
    arms: Outlines,
    top: int,
) -> dict[str, ObjectChange]:
    """Follow all objects.

    Args:
        flat: uint8 (T, H, W, 3), aligned frames.
        objects: colour -> area and centre in the first frame.
        before: colour -> bool (H, W), its pixels in the first frame.
        hands: bool (H, W), where hands rest.
        top: row of the table's far edge.
    """
    taken = hands.copy()
    for color in objects:
        taken |= grown(before[color], 5)
    taken[: top + 2] = True
    rgb = flat.astype(np.float32)
    chromaticity = rgb[..., :2] / (rgb.sum(-1, keepdims=True) + 1e-3)
    table = np.median(chromaticity[0][~taken], axis=0) if (~taken).any() else np.full(2, 1 / 3)
    camera, out = first_camera(flat.shape[1:3]), {}
    for color, (_, center) in objects.items():
        part = _part_at(before[color] & ~hands, center)
        inner = shrunk(part)
        if inner.sum() < 6:
            inner = part
        masks = _masks(chromaticity, table, np.median(chromaticity[0][inner], axis=0))
        if color == "white":
            masks &= flat.min(-1) > 130
        masks[:, :top], masks[0] = False, masks[0] & ~hands
        track, container = follow(masks, chromaticity, center, arms, hands, camera)
        out[color] = summary(track, container, arms.tips, camera)
    return out


def _part_at(mask: np.ndarray, center: tuple[float, float]) -> np.ndarray:
    """Return bool (H, W): the connected part of `mask` whose centre is nearest to `center`."""
    labels, areas, centers = parts_of(mask)
    if not len(areas):
        return mask
    return labels == 1 + np.linalg.norm(centers - center, axis=1).argmin()


def _masks(chromaticity: np.ndarray, table: np.ndarray, color: np.ndarray) -> np.ndarray:
    """Return bool (T, H, W): pixels whose chromaticity is nearer to an object's than to the table's, without specks."""
    way = color - table
    along = ((chromaticity - table) @ way) / max(float(way @ way), 1e-6)
    beside = np.abs((chromaticity - table) @ np.array([-way[1], way[0]])) / max(float(way @ way) ** 0.5, 1e-3)
    return np.stack([without_specks(mask) for mask in (along > 0.5) & (beside < 0.07)])


def summary(track: Track, container: bool, tips: np.ndarray, camera: Camera) -> ObjectChange:
    """How an object differs at the end from the first frame.

    Args:
        tips: (T, 2, 2), pixel positions of the grasp points, nan at rest.
    """
    distance = np.linalg.norm(track.centers[:, None] - tips, axis=-1)
    reach = float(np.nanmin(distance, initial=np.inf))
    seen = ObjectChange(container, not track.clear[0], _drift(track, container), reach)
    count = len(track.areas)
    whole = track.clear & (track.areas > 0.25 * track.areas[0])
    whole[: max(count - 5, 1)] = False
    last = np.flatnonzero(whole)
    if not len(last) or not track.areas[0]:
        return seen
    end = np.median(track.centers[last], axis=0)
    near = _depth(camera, end[0], float(np.median(track.bottoms[last])))
    scale = _depth(camera, track.centers[0][0], track.bottoms[0]) / near
    return replace(
        seen,
        shift=float(np.linalg.norm(end - track.centers[0])),
        down=float(end[1] - track.centers[0][1]),
        size=_log(np.median(track.areas[last]) / (track.areas[0] * scale**2)) / 2,
        width=_log(np.median(track.widths[last]) / (track.widths[0] * scale)),
        height=_log(np.median(track.heights[last]) / (track.heights[0] * scale)),
        second=float((np.median(track.second[last]) - track.second[0]) / track.areas[0]),
        hue=float(np.linalg.norm(np.median(track.hues[last], axis=0) - track.hues[0])),
        lift=_lift(end, tips),
        early=_early(track, end, tips),
    )


def _early(track: Track, end: np.ndarray, tips: np.ndarray) -> float:
    """Smallest distance, pixels, of a grasp point to the place `end` up to the frame after the thing came there to stay.

    Inf if no hand had come by then; nan if the object has not moved, or no two frames in a row show it there.
    """
    if np.linalg.norm(end - track.centers[0]) < 9:
        return float("nan")
    there = (np.linalg.norm(track.centers - end, axis=1) < 4.5) & (track.areas < 1.8 * track.areas[0])
    there &= track.areas > 0.6 * min(track.areas[-1] or np.inf, track.areas[0])
    stays = np.flatnonzero(there[1:-1] & (there[2:] | np.append(there[3:], False)))
    if not len(stays):
        return float("nan")
    before = tips[: stays[0] + 3].reshape(-1, 2)
    return float(np.nanmin(np.linalg.norm(before - end, axis=1), initial=np.inf))


def _lift(end: np.ndarray, tips: np.ndarray) -> float:
    """Height of `end` in the picture above the median of the last four grasp points within 30 pixels of it."""
    near = tips[np.linalg.norm(tips - end, axis=-1) < 30]
    return float(np.median(near[-4:, 1]) - end[1]) if len(near) else float("nan")


def _log(ratio: float) -> float:
    return float(np.log(max(ratio, 0.02)))


def follow(
    masks: np.ndarray,
    chromaticity: np.ndarray,
    start: tuple[float, float],
    arms: Outlines,
    hands: np.ndarray,
    camera: Camera,
) -> tuple[Track, bool]:
    """The track of an object (of a container: of its convex hull), and whether it is a container."""
    count, container, place = len(masks), False, np.array(start)
    centers, hues = np.full((2, count, 2), np.nan)
    bottoms, widths, heights = np.full((3, count), np.nan)
    areas, second = np.zeros((2, count))
    clear = np.zeros(count, bool)
    for t, mask in enumerate(masks):
        whole = areas[0] if t else np.inf
        chosen, second[t] = _choose(mask, place, whole, arms.arms[t])
        if chosen is None:
            continue
        hues[t] = np.median(chromaticity[t][chosen], axis=0)
        y, x = np.nonzero(chosen)
        if t == 0:
            container = len(x) * (_depth(camera, x.mean(), y.max()) / camera.focal) ** 2 > CONTAINER
        if container:
            chosen = _filled(chosen)
            y, x = np.nonzero(chosen)
        areas[t], centers[t] = len(x), (x.mean(), y.mean())
        bottoms[t], widths[t], heights[t] = np.percentile(y, 97), x.std(), y.std()
        clear[t] = not ((grown(chosen, 5) & grown(arms.arms[t], 5)) | (grown(chosen, 3) & hands)).any()
        place = centers[t]
    gaps = np.linalg.norm(centers[:, None] - arms.tips, axis=-1)
    away = ~(np.where(np.isnan(gaps), np.inf, gaps).min(1) < NEAR)
    if arms.veiled:
        for t in range(count):
            away[t] &= _changed_near(arms.loose[t], centers[t]) < 12
    return Track(centers, bottoms, areas, widths, heights, second, hues, clear, away), container


def _changed_near(loose: np.ndarray, center: np.ndarray) -> int:
    """Number of changed pixels within 12 pixels of a centre; 0 if the centre is unknown."""
    if np.isnan(center[0]):
        return 0
    x, y = max(int(center[0]), 0), max(int(center[1]), 0)
    return int(loose[max(y - 12, 0) : y + 13, max(x - 12, 0) : x + 13].sum())


def _choose(mask: np.ndarray, place: np.ndarray, whole: float, arms: np.ndarray) -> tuple[np.ndarray | None, float]:
    """The part of `mask` that is the object last seen at `place`, and the area of the next largest part beside arms.

    Parts that are much larger than the object are sleeves. Among the others size counts, less with the distance.
    """
    labels, areas, centers = parts_of(mask)
    gaps = np.linalg.norm(centers - place, axis=1)
    worth = np.minimum(areas, whole) / (20 + gaps)
    if not np.isfinite(whole):
        worth = 1 / (1 + gaps)
    worth[(areas < 10) | (areas >= 3 * whole)] = 0
    if worth.max(initial=0) == 0:
        return None, 0.0
    best = 1 + worth.argmax()
    taken = np.append(labels[arms], best)
    return labels == best, float(areas[~np.isin(1 + np.arange(len(areas)), taken)].max(initial=0))


def _filled(mask: np.ndarray) -> np.ndarray:
    """The convex hull of bool (H, W): a container keeps it when an object is put in."""
    hull = cv2.convexHull(np.argwhere(mask)[:, ::-1].astype(np.int32))
    return cv2.fillConvexPoly(np.zeros(mask.shape, np.uint8), hull, 1) > 0


def _depth(camera: Camera, x: float, y: float) -> float:
    """Distance along the camera's axis, metres, of the table at a pixel."""
    u, v = (x - (camera.width - 1) / 2) / camera.focal, (y - (camera.height - 1) / 2) / camera.focal
    slope = camera.right[2] * u + camera.down[2] * v + camera.forward[2]
    return float(-camera.position[2] / min(slope, -1e-3))


def _drift(track: Track, container: bool) -> float:
    """Largest displacement, pixels, within a span of frames in which no hand is near the object and it is visible."""
    large = np.where(track.clear, 0.7, 0.9 if container else 0.85)
    visible = (track.areas >= large * track.areas[0]) & (track.areas < 1.6 * track.areas[0])
    if not track.clear[0]:  # the resting hand in front of it, or its absence, shifts its centre
        return 0.0
    longest = 0.0
    span: list[int] = []
    for t in range(len(visible) + 1):
        if t < len(visible) and track.away[t]:
            if visible[t]:
                step = np.linalg.norm(track.centers[t] - track.centers[span[-1]]) / (t - span[-1]) if span else 0
                if step > FASTEST:
                    span = []
                span.append(t)
            continue
        longest, span = max(longest, _extent(track.centers[span])), []
    return longest


def _extent(points: np.ndarray) -> float:
    """Largest distance between means of successive points (N, 2); of two points 0.7 times their distance."""
    if len(points) < 3:
        return 0.7 * float(np.linalg.norm(points[-1] - points[0])) if len(points) == 2 else 0.0
    means = (points[1:] + points[:-1]) / 2
    return float(np.linalg.norm(means[:, None] - means[None], axis=-1).max())


EDGE = 2  # pixels at the border that the alignment may invent


@dataclass(frozen=True)
class TableChange:
    """Changes that no arm, object or shadow explains.

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


def watch_table(flat: np.ndarray, changes: np.ndarray, places: np.ndarray, arms: Outlines, top: int) -> TableChange:
    """Compare the still part of all frames with the first one.

    Args:
        flat: uint8 (T, H, W, 3), aligned frames.
        changes: bool (T, H, W), pixels that differ from the first frame, without shadows.
        places: bool (T, H, W), where objects are and where they were in the first frame.
        top: row of the table's far edge.
    """
    table = np.zeros(changes.shape[1:], bool)
    table[top + EDGE : -EDGE, EDGE:-EDGE] = True
    (excess, shade), often = np.zeros((2, len(flat))), np.zeros(changes.shape[1:])
    for t in range(1, len(flat)):
        odd = without_specks(changes[t] & ~arms.covered[t] & ~places[t] & table)
        free = table & ~arms.covered[t] & ~arms.shadows[t] & ~grown(places[t], 13)
        dark = without_specks(_shaded(flat[t], flat[0]) & free)
        excess[t], shade[t] = odd.sum(), dark.sum()
        often += odd | dark
    tone, gain = _tone_and_gain(flat, table & ~arms.covered.any(0) & ~places.any(0), arms.shadows)
    lasting = int((often >= 0.4 * len(flat)).sum())
    return TableChange(excess, shade, lasting, tone, gain)


def _shaded(frame: np.ndarray, first: np.ndarray) -> np.ndarray:
    """Return bool (H, W): pixels a quarter darker or a third brighter than in the first frame, of the same hue."""
    a, b = frame.astype(np.float32) + 1, first.astype(np.float32) + 1
    total, before = a.sum(-1), b.sum(-1)
    turn = np.abs(a / total[..., None] - b / before[..., None]).max(-1)
    return ((total < 0.75 * before) | (total > 1.33 * before)) & (turn < 0.03)


def _tone_and_gain(flat: np.ndarray, free: np.ndarray, shadows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    tone, gain = np.full((2, len(flat)), np.nan)
    first = cv2.GaussianBlur(flat[0], (0, 0), 3).astype(np.float32)
    for t, frame in enumerate(flat):
        lit = free & ~shadows[t]
        if lit.sum() > 100:
            smooth = cv2.GaussianBlur(frame, (0, 0), 3).astype(np.float32)
            tone[t] = np.abs(smooth - first)[lit].mean()
            gain[t] = np.median(frame[lit].sum(-1) / (flat[0][lit].sum(-1) + 1.0))
    return tone, gain
