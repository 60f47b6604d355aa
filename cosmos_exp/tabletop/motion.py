"""What moves when: the phases of a pick-and-place clip, and where hands and things are at a time.

Time is a fraction of the clip, 0 at the first frame and 1 at the last.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from cosmos_exp.tabletop.layout import Thing
from cosmos_exp.tabletop.vectors import Triple
from cosmos_exp.tabletop.vocabulary import HANDS, other_hand

GRASP_HEIGHT = 0.035  # metres
# Fractions of the clip at which each phase ends: reach, close, carry, open. The rest is the way back.
PHASES = (0.30, 0.36, 0.74, 0.80)


@dataclass
class State:
    """Where everything is in one frame, in metres.

    hands: hand -> grasp point and opening (1 open, 0 closed). spots: thing -> centre of its base.
    centers: thing or hand -> the point that is tracked. appearance: human or robot hands.
    """

    hands: dict[str, tuple[Triple, float]]
    spots: dict[str, Triple]
    centers: dict[str, Triple]
    appearance: str


def state_at(
    fraction: float,
    *,
    hand: str,
    objects: tuple[Thing, ...],
    containers: tuple[Thing, ...],
    sway: tuple[float, ...],
    appearance: str,
) -> State:
    """The state at `fraction` of a clip in which `hand` moves the first object into the first container.

    Args:
        sway: the first two numbers are the phases of the left and the right hand at rest.
    """
    thing, goal, other = objects[0], containers[0], other_hand(hand)
    rest = {h: _rest_point(h, fraction, sway[HANDS.index(h)]) for h in HANDS}
    tip, opening, held = _moving_hand(fraction, rest[hand], thing.place, goal.place)
    if held:
        spot = (tip[0], tip[1], tip[2] - GRASP_HEIGHT)
    elif fraction > PHASES[2]:
        spot = (*goal.place, 0.012)
    else:
        spot = (*thing.place, 0.0)
    hands = {hand: (tip, opening), other: (rest[other], 1.0)}
    spots = {t.name: (*t.place, 0.0) for t in objects + containers} | {thing.name: spot}
    middle = {t.name: 0.03 if t in objects else 0.015 for t in objects + containers}
    centers = {n: (s[0], s[1], s[2] + middle[n]) for n, s in spots.items()}
    return State(hands, spots, centers | {h: hands[h][0] for h in HANDS}, appearance)


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


def _rest_point(hand: str, fraction: float, phase: float) -> Triple:
    """Where a hand waits: visible at the lower left or right, with a small periodic motion."""
    side = -1.0 if hand == "left" else 1.0
    sway = round(math.sin(math.pi * (fraction * 1.2 + phase)), 9)
    return side * (0.215 + 0.006 * sway), -0.155 + 0.004 * sway, 0.06 + 0.004 * sway
