"""The words and colours of the tabletop world: what prompts, label pictures and the rule judge have in common."""

from __future__ import annotations

from cosmos_exp.tabletop.vectors import Triple

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
