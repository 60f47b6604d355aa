"""Which objects and containers a scene has and where they are at the start."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from cosmos_exp.tabletop.vocabulary import COLORS, CONTAINERS, FIRST_CONTAINER_LABEL, FIRST_OBJECT_LABEL, OBJECTS


@dataclass(frozen=True)
class Thing:
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


def place_things(rng: np.random.RandomState) -> tuple[tuple[Thing, ...], tuple[Thing, ...]]:
    """Draw two or three objects and one or two containers, all of different colours and without overlap.

    Returns:
        Objects and containers. The first of each are the ones that the prompt names.
    """
    num_objects, num_containers = 2 + int(rng.uniform() < 0.25), 1 + int(rng.uniform() < 0.3)
    colors = [list(COLORS)[i] for i in rng.permutation(len(COLORS))]
    placed: list[Thing] = []
    for index in range(num_containers + num_objects):
        is_container = index < num_containers
        kinds = CONTAINERS if is_container else OBJECTS
        kind = kinds[rng.randint(3)]
        radius = round(float(rng.uniform(0.066, 0.078) if is_container else rng.uniform(0.027, 0.033)), 6)
        angle = float(rng.uniform(-0.5, 0.5))
        for _ in range(400):
            x, y = float(rng.uniform(-0.26, 0.26)), float(rng.uniform(-0.09, 0.22))
            if all((x - t.place[0]) ** 2 + (y - t.place[1]) ** 2 > (radius + t.radius + 0.03) ** 2 for t in placed):
                break
        label = FIRST_CONTAINER_LABEL + index if is_container else FIRST_OBJECT_LABEL + index - num_containers
        turn = (round(math.cos(angle), 9), round(math.sin(angle), 9))
        placed.append(Thing(kind, colors[index], (round(x, 6), round(y, 6)), radius, turn, label))
    return tuple(placed[num_containers:]), tuple(placed[:num_containers])
