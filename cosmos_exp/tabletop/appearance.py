"""What things and hands look like: their shapes and colours for the renderer."""

from __future__ import annotations

from cosmos_exp.tabletop.layout import Thing
from cosmos_exp.tabletop.shapes import Shape
from cosmos_exp.tabletop.vectors import Triple
from cosmos_exp.tabletop.vocabulary import COLORS, LABELS


def thing_shapes(thing: Thing, spot: Triple) -> list[Shape]:
    """The shapes of an object or container whose base is centred at `spot` (metres)."""
    color, r, label = COLORS[thing.color], thing.radius, thing.label
    x, y, z = spot
    if thing.kind == "block":
        return [Shape("box", (x, y, z + r * 0.9), (r * 0.9, r * 0.9, r * 0.9), color, label, turn=thing.turn)]
    if thing.kind == "ball":
        return [Shape("sphere", (x, y, z + r), (r, 0, 0), color, label)]
    if thing.kind == "can":
        return [
            Shape("cylinder", (x, y, z), (r * 0.85, 0.07, 0), color, label),
            Shape("cylinder", (x, y, z + 0.025), (r * 0.86, 0.02, 0), _darker(color, 0.72), label),
        ]
    if thing.kind == "plate":
        light = (min(color[0] * 1.12 + 8, 255), min(color[1] * 1.12 + 8, 255), min(color[2] * 1.12 + 8, 255))
        return [
            Shape("cylinder", (x, y, z), (r, 0.008, 0), color, label),
            Shape("cylinder", (x, y, z), (r * 0.7, 0.0095, 0), light, label),
        ]
    if thing.kind == "bowl":
        return [Shape("tube", (x, y, z), (r, 0.036, 0.008), color, label)]
    return _tray_shapes(thing, spot)


def _tray_shapes(thing: Thing, spot: Triple) -> list[Shape]:
    """A flat box with four low walls."""
    color, r, label = COLORS[thing.color], thing.radius, thing.label
    x, y, z = spot
    cos, sin = thing.turn
    shapes = [Shape("box", (x, y, z + 0.004), (r, r * 0.8, 0.004), color, label, turn=thing.turn)]
    for i, j in ((0.0, 1), (0.0, -1), (1, 0.0), (-1, 0.0)):
        dx, dy = i * r, j * r * 0.8
        half = (0.005, r * 0.8, 0.013) if i else (r, 0.005, 0.013)
        at = (x + cos * dx - sin * dy, y + sin * dx + cos * dy, z + 0.013)
        shapes.append(Shape("box", at, half, _darker(color, 0.86), label, turn=thing.turn))
    return shapes


def _darker(color: Triple, factor: float) -> Triple:
    return color[0] * factor, color[1] * factor, color[2] * factor


def _shoulder(hand: str) -> Triple:
    return (-0.36 if hand == "left" else 0.36, -0.44, 0.16)


def robot_hand(hand: str, tip: Triple, opening: float, grip: float) -> list[Shape]:
    """Black arm, grey palm, and two fingers left and right of the grasp point.

    Args:
        tip: grasp point in metres.
        opening: 1 open, 0 closed.
        grip: half the distance between the closed fingers, metres.
    """
    label, x, y, z = LABELS[hand], *tip
    black, grey, steel = (34, 35, 38), (118, 121, 126), (160, 163, 168)
    gap = grip + 0.006 + 0.022 * opening
    palm = (x, y - 0.035, z + 0.055)
    shapes = [
        Shape("capsule", _shoulder(hand), (0.030, 0, 0), black, label, end=palm),
        Shape("box", palm, (0.040, 0.018, 0.018), grey, label),
    ]
    for side in (-1.0, 1.0):
        knuckle, end = (x + side * gap, y - 0.026, z + 0.045), (x + side * gap, y + 0.004, z - 0.012)
        shapes.append(Shape("capsule", knuckle, (0.0085, 0, 0), steel, label, end=end))
    return shapes


def human_hand(hand: str, tip: Triple, opening: float, grip: float, skin: Triple, sleeve: Triple) -> list[Shape]:
    """Sleeve, forearm, round palm, a thumb on the inner side and three fingers on the outer side.

    Args:
        tip, opening, grip: as in `robot_hand`.
        skin, sleeve: colours, RGB of 0 to 255.
    """
    label, x, y, z = LABELS[hand], *tip
    inner = 1.0 if hand == "left" else -1.0
    gap = grip + 0.004 + 0.020 * opening
    palm, s = (x - inner * 0.008, y - 0.036, z + 0.050), _shoulder(hand)
    cuff = (s[0] + (palm[0] - s[0]) * 0.66, s[1] + (palm[1] - s[1]) * 0.66, s[2] + (palm[2] - s[2]) * 0.66)
    shapes = [
        Shape("capsule", s, (0.036, 0, 0), sleeve, label, end=cuff),
        Shape("capsule", cuff, (0.024, 0, 0), skin, label, end=palm),
        Shape("sphere", palm, (0.034, 0, 0), skin, label),
    ]
    thumb = (x + inner * gap, y - 0.004, z - 0.004)
    shapes.append(Shape("capsule", palm, (0.0105, 0, 0), skin, label, end=thumb))
    for k in range(3):
        end = (x - inner * gap, y + 0.018 - 0.016 * k, z - 0.006)
        knuckle = (palm[0] - inner * 0.022, palm[1] + 0.022 - 0.014 * k, palm[2])
        shapes.append(Shape("capsule", knuckle, (0.0095, 0, 0), skin, label, end=end))
    return shapes
