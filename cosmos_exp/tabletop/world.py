"""The tabletop world in words and numbers: its vocabulary and colours, what is on the table, and how the action goes.

Time is a fraction of the clip, 0 at the first frame and 1 at the last.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from cosmos_exp.tabletop.geometry import Triple

COLORS: dict[str, Triple] = {
    "red": (208, 44, 40),
    "green": (52, 158, 66),
    "blue": (46, 92, 208),
    "yellow": (236, 200, 46),
    "orange": (238, 128, 30),
    "purple": (138, 66, 172),
    "white": (232, 232, 228),
}
OBJECTS = ("block", "ball", "can")
CONTAINERS = ("bowl", "tray", "plate")
HANDS = ("left", "right")
APPEARANCES = ("human", "robot")
TABLE_TONE: Triple = (186, 142, 98)  # of the wood, before the shade of a scene is added
SKIN: tuple[Triple, ...] = ((236, 190, 160), (214, 160, 124), (176, 120, 86), (128, 84, 58), (92, 60, 44))
SLEEVES: tuple[Triple, ...] = ((70, 84, 128), (150, 52, 60), (90, 120, 90), (180, 170, 150), (60, 60, 66))
LABELS = {"table": 0, "wall": 1, "left": 2, "right": 3}  # values in label pictures
FIRST_OBJECT_LABEL = 10
FIRST_CONTAINER_LABEL = 20


def other_hand(hand: str) -> str:
    """Return left for right and right for left."""
    return HANDS[1 - HANDS.index(hand)]


@dataclass(frozen=True)
class SceneObject:
    """An object or container on the table."""

    kind: str
    color: str
    place: tuple[float, float]  # x, y at the start, metres
    radius: float  # metres
    turn: tuple[float, float]  # cosine and sine of its rotation about z
    label: int  # value in label pictures

    @property
    def name(self) -> str:
        """The name in prompts, e.g. `red block`."""
        return f"{self.color} {self.kind}"


def place_objects(rng: np.random.RandomState) -> tuple[tuple[SceneObject, ...], tuple[SceneObject, ...]]:
    """Draw two or three objects and one or two containers, all of different colours and without overlap.

    Returns:
        Objects and containers. The first of each are the ones that the prompt names.
    """
    num_objects, num_containers = 2 + int(rng.uniform() < 0.25), 1 + int(rng.uniform() < 0.3)
    colors = [list(COLORS)[i] for i in rng.permutation(len(COLORS))]
    placed: list[SceneObject] = []
    for index in range(num_containers + num_objects):
        if index < num_containers:
            kinds, radii, label = CONTAINERS, (0.066, 0.078), FIRST_CONTAINER_LABEL + index
        else:
            kinds, radii, label = OBJECTS, (0.027, 0.033), FIRST_OBJECT_LABEL + index - num_containers
        kind = kinds[rng.randint(3)]
        radius = round(float(rng.uniform(*radii)), 6)
        angle = float(rng.uniform(-0.5, 0.5))
        for _ in range(400):
            x, y = float(rng.uniform(-0.26, 0.26)), float(rng.uniform(-0.09, 0.22))
            if all((x - t.place[0]) ** 2 + (y - t.place[1]) ** 2 > (radius + t.radius + 0.03) ** 2 for t in placed):
                break
        turn = (round(math.cos(angle), 9), round(math.sin(angle), 9))
        placed.append(SceneObject(kind, colors[index], (round(x, 6), round(y, 6)), radius, turn, label))
    return tuple(placed[num_containers:]), tuple(placed[:num_containers])


GRASP_HEIGHT = 0.035  # metres
# Fractions of the clip at which each phase ends: reach, close, carry, open. The rest is the way back.
PHASES = (0.30, 0.36, 0.74, 0.80)


@dataclass
class State:
    """Where everything is in one frame, in metres.

    hands: hand -> grasp point and opening (1 open, 0 closed). spots: object -> centre of its base.
    centers: object or hand -> the point that is tracked.
    """

    hands: dict[str, tuple[Triple, float]]
    spots: dict[str, Triple]
    centers: dict[str, Triple]


def state_at(
    fraction: float, hand: str, objects: tuple[SceneObject, ...], containers: tuple[SceneObject, ...]
) -> State:
    """The state at `fraction` of a clip in which `hand` moves the first object into the first container."""
    obj, goal, other = objects[0], containers[0], other_hand(hand)
    rest = {"left": _rest_point("left", fraction), "right": _rest_point("right", fraction)}
    tip, opening, held = _moving_hand(fraction, rest[hand], obj.place, goal.place)
    if held:
        spot = (tip[0], tip[1], tip[2] - GRASP_HEIGHT)
    elif fraction > PHASES[2]:
        spot = (*goal.place, 0.012)
    else:
        spot = (*obj.place, 0.0)
    hands = {hand: (tip, opening), other: (rest[other], 1.0)}
    spots: dict[str, Triple] = {}
    centers: dict[str, Triple] = {}
    for group, middle in ((objects, 0.03), (containers, 0.015)):  # height of their middle in metres
        for placed in group:
            x, y, z = spot if placed is obj else (*placed.place, 0.0)
            spots[placed.name] = (x, y, z)
            centers[placed.name] = (x, y, z + middle)
    centers[hand], centers[other] = tip, rest[other]
    return State(hands, spots, centers)


def _moving_hand(
    fraction: float, rest: Triple, object_place: tuple[float, float], goal_place: tuple[float, float]
) -> tuple[Triple, float, bool]:
    """Grasp point, opening, and whether the hand holds the object."""
    start, end = (*object_place, GRASP_HEIGHT), (*goal_place, GRASP_HEIGHT + 0.012)
    p_reach, p_close, p_carry, p_open = PHASES
    if fraction <= p_reach:
        return _arc(rest, start, _ease(fraction / p_reach), 0.05), 1.0, False
    if fraction <= p_close:
        return start, 1.0 - _ease((fraction - p_reach) / (p_close - p_reach)), False
    if fraction <= p_carry:
        return _arc(start, end, _ease((fraction - p_close) / (p_carry - p_close)), 0.11), 0.0, True
    if fraction <= p_open:
        return end, _ease((fraction - p_carry) / (p_open - p_carry)), False
    return _arc(end, rest, _ease((fraction - p_open) / (1 - p_open)), 0.06), 1.0, False


def _ease(x: float) -> float:
    """Smoothstep 3 x^2 - 2 x^3 of x clamped to [0, 1]."""
    x = min(max(x, 0.0), 1.0)
    return x * x * (3 - 2 * x)


def _arc(a: Triple, b: Triple, fraction: float, height: float) -> Triple:
    """The point at `fraction` of a parabola from a to b that rises `height` metres above the straight line."""
    up = 4 * fraction * (1 - fraction) * height
    return (
        a[0] + (b[0] - a[0]) * fraction + 0.0,
        a[1] + (b[1] - a[1]) * fraction + 0.0,
        a[2] + (b[2] - a[2]) * fraction + up,
    )


def _rest_point(hand: str, fraction: float) -> Triple:
    """Where a hand waits: visible at the lower left or right, with a small periodic motion."""
    side = -1.0 if hand == "left" else 1.0
    sway = round(math.sin(math.pi * (fraction * 1.2)), 9)
    return side * (0.215 + 0.006 * sway), -0.155 + 0.004 * sway, 0.06 + 0.004 * sway
