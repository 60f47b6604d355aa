"""What happens on the table when two hands follow given trajectories: a hand grasps what it closes on, carries it, lets go.

    outcome = roll_out(scene, actions)      # actions (T, 8) as in tabletop.idm
    outcome.success                         # the named hand has put the named object into the named container

The rules are those of `world.state_at`, read as physics, and the sizes are those of the gripper in `scene.robot_hand`. Not
modelled: a hand or a carried object that knocks against something, bouncing, rolling, and joint limits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from cosmos_exp.tabletop.geometry import Triple
from cosmos_exp.tabletop.scene import Scene
from cosmos_exp.tabletop.world import HANDS, SceneObject

SUBSTEPS = 8  # between two frames; positions and openings are interpolated linearly
SHUT = 0.5  # opening at which a closing hand grips, and an opening one lets go
# Open fingers are 0.0195 m wider than the object on each side (0.028 less their radius, 0.0085): beyond, they hit it.
GRASP_REACH = 0.0195  # metres, horizontally
HIGHEST_GRASP = 0.060  # metres: the ends of the fingers, 0.012 below, are then at the top of the lowest object
LOWEST_HAND = 0.0205  # metres: the fingers touch the table, which stops them
HIGHEST_DROP = 0.10  # metres: from higher up the object is taken to tumble out


@dataclass(frozen=True)
class Outcome:
    """What a pair of trajectories did.

    moved: the hand with the longer way. grasped: (hand, object) in order. misses: hand -> horizontal distance in metres
    between its grasp point and the named object when it first closed; nan if it never did. place: where the named object
    is at the end. released: whether it was let go, and not from above HIGHEST_DROP. carrier: the hand that carried it last.
    """

    scene: Scene
    moved: str
    grasped: tuple[tuple[str, str], ...]
    misses: dict[str, float]
    place: tuple[float, float]
    released: bool
    carrier: str | None

    @property
    def right_hand(self) -> bool:
        """Whether the named hand is the one that moved."""
        return self.moved == self.scene.hand

    @property
    def object_grasped(self) -> bool:
        """Whether the named hand has gripped the named object."""
        return (self.scene.hand, self.scene.objects[0].name) in self.grasped

    @property
    def placed(self) -> bool:
        """Whether the named object is in the named container, by whichever hand."""
        return self.released and inside(self.place, self.scene.containers[0])

    @property
    def success(self) -> bool:
        """Whether the named hand has put the named object into the named container."""
        return self.placed and self.carrier == self.scene.hand


@dataclass
class _Table:
    """The changing state: where objects are, what each hand holds with which offset, and what has happened."""

    spots: dict[str, Triple] = field(default_factory=dict)
    held: dict[str, tuple[str, Triple]] = field(default_factory=dict)
    grasped: list[tuple[str, str]] = field(default_factory=list)
    drops: dict[str, float] = field(default_factory=dict)  # object -> height from which it was last let go
    carriers: dict[str, str] = field(default_factory=dict)


def roll_out(scene: Scene, actions: np.ndarray) -> Outcome:
    """Let both hands follow `actions`, (T, 8) in the order of `tabletop.idm.ACTIONS`, on the table of `scene`."""
    fine = _interpolated(np.asarray(actions, np.float64).reshape(len(actions), len(HANDS), 4))
    fine[..., 2] = np.maximum(fine[..., 2], LOWEST_HAND)
    table, named = _Table(), scene.objects[0].name
    for obj in scene.objects:
        table.spots[obj.name] = (*obj.place, 0.0)
    shut = dict(zip(HANDS, (fine[0, :, 3] < SHUT).tolist(), strict=True))
    misses = dict.fromkeys(HANDS, float("nan"))
    for step in fine.tolist():
        for hand, (*tip, opening) in zip(HANDS, step, strict=True):
            closes, shut[hand] = opening < SHUT and not shut[hand], opening < SHUT
            if closes:
                if np.isnan(misses[hand]):
                    misses[hand] = _apart(tip, table.spots[named])
                _grasp(table, hand, tip)
            _carry(table, hand, tip, shut[hand])
    way = np.linalg.norm(np.diff(fine[..., :3], axis=0), axis=-1).sum(0)
    return Outcome(
        scene=scene,
        moved=HANDS[int(way.argmax())],
        grasped=tuple(table.grasped),
        misses=misses,
        place=table.spots[named][:2],
        released=not _is_held(table, named) and table.drops.get(named, np.inf) <= HIGHEST_DROP,
        carrier=table.carriers.get(named),
    )


def inside(place: tuple[float, float], container: SceneObject) -> bool:
    """Whether the centre of an object's base is within a container's outline: a circle, or the tray's turned rectangle."""
    dx, dy = place[0] - container.place[0], place[1] - container.place[1]
    if container.kind != "tray":
        return float(np.hypot(dx, dy)) <= container.radius
    cos, sin = container.turn
    along, across = cos * dx + sin * dy, cos * dy - sin * dx
    return abs(along) <= container.radius and abs(across) <= 0.8 * container.radius


def _interpolated(actions: np.ndarray) -> np.ndarray:
    """(T, hands, 4) with SUBSTEPS steps between two frames."""
    old, new = np.arange(len(actions)), np.linspace(0, len(actions) - 1, (len(actions) - 1) * SUBSTEPS + 1)
    flat = actions.reshape(len(actions), -1)
    return np.stack([np.interp(new, old, column) for column in flat.T], axis=1).reshape(len(new), *actions.shape[1:])


def _apart(tip: Sequence[float], spot: Triple) -> float:
    return float(np.hypot(tip[0] - spot[0], tip[1] - spot[1]))


def _grasp(table: _Table, hand: str, tip: Sequence[float]) -> None:
    """The hand grips the nearest free object between its fingers. Fingers centre it along x."""
    if hand in table.held:
        return
    near = []
    for name, spot in table.spots.items():
        is_between_fingers = _apart(tip, spot) <= GRASP_REACH and tip[2] - spot[2] <= HIGHEST_GRASP
        if is_between_fingers and not _is_held(table, name):
            near.append((_apart(tip, spot), name))
    if near:
        name = min(near)[1]
        _, y, z = table.spots[name]
        table.held[hand] = (name, (0.0, y - tip[1], z - tip[2]))
        table.grasped.append((hand, name))


def _is_held(table: _Table, name: str) -> bool:
    return any(held == name for held, _ in table.held.values())


def _carry(table: _Table, hand: str, tip: Sequence[float], shut: bool) -> None:
    """What the hand holds follows it; what an open hand holds falls straight down."""
    if hand not in table.held:
        return
    name, offset = table.held[hand]
    x, y, z = np.add(tip, offset).tolist()
    table.carriers[name] = hand
    table.spots[name] = (x, y, max(z, 0.0) if shut else 0.0)
    if not shut:
        table.drops[name] = z
        del table.held[hand]
