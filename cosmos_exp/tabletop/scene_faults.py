"""Faults of the scene: things, hands or the camera do what the physical world does not do.

`FaultyScene` renders them. Each function of `EDITS` changes one frame's staging; `dose` is the strength of the fault in
the unit that `faults.FAULTS` gives.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace

from cosmos_exp.tabletop.appearance import human_hand, robot_hand, thing_shapes
from cosmos_exp.tabletop.camera import Camera, aimed_camera
from cosmos_exp.tabletop.layout import Thing
from cosmos_exp.tabletop.motion import PHASES, State
from cosmos_exp.tabletop.scene import Scene
from cosmos_exp.tabletop.shapes import Shape
from cosmos_exp.tabletop.vectors import Triple
from cosmos_exp.tabletop.vocabulary import APPEARANCES, HANDS, OBJECTS, other_hand

DROP = 0.6 * PHASES[1] + 0.4 * PHASES[2]  # fraction of the clip: 40 % of the carry, before the container is reached
MIDDLE = 0.5 * (PHASES[1] + PHASES[2])  # half of the carry
# The parts of an arm along the line from the shoulder to the palm; these shapes come first in the list of a hand's shapes.
ARM_PARTS = {"robot": ((0.0, 1.0),), "human": ((0.0, 0.66), (0.66, 1.0))}


@dataclass
class Staged(State):
    """A state with what a fault changes besides it.

    scale: thing -> factor about the centre of its base. kind, color: thing -> another kind, or another colour and its
    share. extra: further shapes. hidden: hands that are not drawn. cut: the fraction of each arm, nearest the palm,
    that is missing; swell: factor of the acting hand about its grasp point.
    """

    scale: dict[str, float] = field(default_factory=dict)
    kind: dict[str, str] = field(default_factory=dict)
    color: dict[str, tuple[str, float]] = field(default_factory=dict)
    extra: list[Shape] = field(default_factory=list)
    hidden: set[str] = field(default_factory=set)
    cut: float = 0.0
    swell: float = 1.0


@dataclass(frozen=True)
class FaultyScene(Scene):
    """A scene in which `fault` happens with strength `dose`."""

    fault: str = ""
    dose: float = 1.0

    @classmethod
    def of(cls, scene: Scene, fault: str, dose: float) -> FaultyScene:
        """`scene` with a fault."""
        return cls(**{f.name: getattr(scene, f.name) for f in fields(scene)}, fault=fault, dose=dose)

    def state(self, index: int) -> Staged:
        """As `Scene.state`, with the fault."""
        state = Staged(**vars(super().state(index)))
        if self.fault in EDITS:
            before = dict(state.spots)
            EDITS[self.fault](self, state, index / max(self.num_frames - 1, 1))
            for name, (x, y, z) in before.items():
                by = (state.spots[name][0] - x, state.spots[name][1] - y, state.spots[name][2] - z)
                state.centers[name] = _plus(self.clean(index).centers[name], by)
        return state

    def camera(self, index: int, name: str = "head") -> Camera:
        """As `Scene.camera`; with a camera jump, turned by `dose` pixels from the middle of the clip on."""
        view = super().camera(index, name)
        if self.fault != "camera jump" or 2 * index < self.num_frames:
            return view
        side = self.dose / view.focal * (1 if self.seed % 4 < 2 else -1)
        p, f, r = view.position, view.forward, view.right
        target = (p[0] + f[0] + side * r[0], p[1] + f[1] + side * r[1], p[2] + f[2] + side * r[2])
        return aimed_camera(p, target, self.size, view.focal)

    def clean(self, index: int) -> State:
        """The state without the fault."""
        return super().state(index)

    def _shapes(self, state: State) -> list[Shape]:
        assert isinstance(state, Staged)
        shapes: list[Shape] = []
        for thing in self.containers + self.objects:
            shapes += staged_shapes(thing, state)
        for hand in HANDS:
            if hand not in state.hidden:
                shapes += self.arm_shapes(hand, state)
        return shapes + state.extra

    def arm_shapes(self, hand: str, state: Staged) -> list[Shape]:
        """The shapes of an arm with its hand, with a cut or a swelling."""
        tip, opening = state.hands[hand]
        grip = self.objects[0].radius
        if state.appearance == "robot":
            shapes = robot_hand(hand, tip, opening, grip)
        else:
            shapes = human_hand(hand, tip, opening, grip, self.skin, self.sleeve)
        parts = ARM_PARTS[state.appearance]
        arm, palm = shapes[: len(parts)], shapes[len(parts) :]
        if hand == self.hand and state.swell != 1:
            palm = scaled(palm, tip, state.swell)
        if hand == self.hand and state.cut:
            arm = [_shortened(s, p, 1 - state.cut) for s, p in zip(arm, parts, strict=True) if p[0] < 1 - state.cut]
        return arm + palm


def staged_shapes(thing: Thing, state: Staged) -> list[Shape]:
    """The shapes of a thing in this frame."""
    spot = state.spots[thing.name]
    shapes = thing_shapes(replace(thing, kind=state.kind.get(thing.name, thing.kind)), spot)
    if thing.name in state.color:
        name, share = state.color[thing.name]
        other = thing_shapes(replace(thing, color=name), spot)
        shapes = [replace(a, color=_between(a.color, b.color, share)) for a, b in zip(shapes, other, strict=True)]
    return scaled(shapes, spot, state.scale.get(thing.name, 1.0))


def scaled(shapes: list[Shape], origin: Triple, factor: float) -> list[Shape]:
    """Shapes enlarged by `factor` about the point `origin`."""
    if factor == 1:
        return shapes
    return [
        replace(
            s,
            center=_between(origin, s.center, factor),
            end=_between(origin, s.end, factor),
            size=_between((0.0, 0.0, 0.0), s.size, factor),
        )
        for s in shapes
    ]


def moved(shapes: list[Shape], by: Triple) -> list[Shape]:
    """Shapes displaced by a vector in metres."""
    return [replace(s, center=_plus(s.center, by), end=_plus(s.end, by)) for s in shapes]


def _shortened(arm: Shape, part: tuple[float, float], end: float) -> Shape:
    """A capsule that covers `part` of an arm, cut where the arm reaches the fraction `end`."""
    along = min((end - part[0]) / (part[1] - part[0]), 1.0)
    return replace(arm, end=_between(arm.center, arm.end, along))


def _between(a: Triple, b: Triple, share: float) -> Triple:
    return a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share, a[2] + (b[2] - a[2]) * share


def _plus(a: Triple, b: Triple) -> Triple:
    return a[0] + b[0], a[1] + b[1], a[2] + b[2]


def rise(fraction: float, start: float, end: float) -> float:
    """0 up to `start`, 1 from `end` on, linear in between."""
    return min(max((fraction - start) / (end - start), 0.0), 1.0)


def victim(scene: Scene) -> Thing:
    """The object that a fault of one object changes: the moved one and a resting one in alternation of seeds."""
    return scene.objects[(scene.seed // 2) % 2]


def free_direction(scene: Scene, thing: Thing, distance: float) -> Triple:
    """The displacement by `distance` metres that leads `thing` farthest from everything else on the table."""
    others = [t for t in scene.objects + scene.containers if t.name != thing.name]

    def room(by: Triple) -> float:
        x, y = thing.place[0] + by[0], thing.place[1] + by[1]
        gaps = [((x - t.place[0]) ** 2 + (y - t.place[1]) ** 2) ** 0.5 - t.radius for t in others]
        return min(*gaps, 0.27 - abs(x), y + 0.10, 0.23 - y)

    ways = ((1.0, 0.0), (-1.0, 0.0), (0.0, 1.0), (0.0, -1.0), (0.6, 0.8), (0.6, -0.8), (-0.6, 0.8), (-0.6, -0.8))
    return max(((distance * x, distance * y, 0.0) for x, y in ways), key=room)


def _dropped(scene: FaultyScene, state: Staged, fraction: float) -> None:
    if fraction > DROP:
        x, y, z = scene.clean(round(DROP * (scene.num_frames - 1))).spots[scene.objects[0].name]
        fallen = 0.08 * (fraction - DROP) * (scene.num_frames - 1)
        state.spots[scene.objects[0].name] = (x, y, max(z - fallen, 0.0))


def _vanishing_object(scene: FaultyScene, state: Staged, fraction: float) -> None:
    if fraction > DROP:
        state.spots[scene.objects[0].name] = (0.0, 0.0, -5.0)


def _teleport(scene: FaultyScene, state: Staged, fraction: float) -> None:
    early = round(fraction * (scene.num_frames - 1)) < 2
    place, goal = scene.objects[0].place, scene.containers[0].place
    state.spots[scene.objects[0].name] = (*place, 0.0) if early else (*goal, 0.012)


def _other_look(scene: FaultyScene, state: Staged, fraction: float) -> None:
    if fraction > PHASES[0] / 2:
        state.appearance = APPEARANCES[1 - APPEARANCES.index(scene.appearance)]


def _changing_size(scene: FaultyScene, state: Staged, fraction: float) -> None:
    state.scale[victim(scene).name] = 1 + (scene.dose - 1) * rise(fraction, 0.25, 0.75)


def _sliding_object(scene: FaultyScene, state: Staged, fraction: float) -> None:
    thing = scene.objects[1]
    way = free_direction(scene, thing, scene.dose)
    state.spots[thing.name] = _between((*thing.place, 0.0), _plus((*thing.place, 0.0), way), rise(fraction, 0.25, 0.75))


def _sliding_container(scene: FaultyScene, state: Staged, fraction: float) -> None:
    """The goal slides during the carry; the hand puts the object where the container will be."""
    thing = scene.containers[0]
    start = (*thing.place, 0.0)
    end = _plus(start, free_direction(scene, thing, scene.dose))
    shifted = replace(thing, place=end[:2])
    index = round(fraction * (scene.num_frames - 1))
    later = replace(scene, containers=(shifted, *scene.containers[1:])).clean(index)
    state.hands, state.spots, state.centers = later.hands, later.spots, later.centers
    state.spots[thing.name] = _between(start, end, rise(fraction, 0.2, 0.65))


def _third_arm(scene: FaultyScene, state: Staged, fraction: float) -> None:
    """An arm reaches in from the middle of the near edge, `dose` metres beyond the edge of the picture, and stays."""
    tip = (0.0, -0.34 + (0.09 + scene.dose) * rise(fraction, 0.1, 0.4), 0.08)
    side = -1.0 if scene.hand == "left" else 1.0
    by = (-side * 0.36 - side * 0.02, 0.0, 0.0)  # from the acting arm's shoulder to the middle
    arm = replace(state, hands={scene.hand: (_plus(tip, (-by[0], 0.0, 0.0)), 1.0)})
    state.extra += moved(scene.arm_shapes(scene.hand, arm), by)


def _floating_object(scene: FaultyScene, state: Staged, fraction: float) -> None:
    thing = scene.objects[1]
    state.spots[thing.name] = (*thing.place, scene.dose * rise(fraction, 0.25, 0.6))


def _gliding_object(scene: FaultyScene, state: Staged, fraction: float) -> None:
    """The object glides `dose` of the way to the goal along the table, and both hands rest."""
    thing, goal = scene.objects[0], scene.containers[0].place
    index = round(fraction * (scene.num_frames - 1))
    resting = replace(scene, hand=other_hand(scene.hand)).clean(index).hands[scene.hand]
    state.hands[scene.hand] = resting
    share = scene.dose * rise(fraction, PHASES[1], PHASES[2])
    state.spots[thing.name] = _between((*thing.place, 0.0), (*goal, 0.012), share)


def _splitting_object(scene: FaultyScene, state: Staged, fraction: float) -> None:
    """An object becomes two of half its volume, which drift `dose` metres apart."""
    thing, apart = victim(scene), rise(fraction, 0.3, 0.7)
    if apart == 0:
        return
    x, y, z = state.spots[thing.name]
    state.scale[thing.name] = 0.5 ** (1 / 3)
    half = 0.5 * scene.dose * apart
    state.spots[thing.name] = (x + half, y, z)
    state.extra += staged_shapes(thing, state)
    state.spots[thing.name] = (x - half, y, z)


def _detached_arm(scene: FaultyScene, state: Staged, fraction: float) -> None:
    state.cut = scene.dose * rise(fraction, 0.1, 0.3)


def _vanishing_arm(scene: FaultyScene, state: Staged, fraction: float) -> None:
    """The acting arm is missing for `dose` frames of the carry."""
    if abs(fraction - MIDDLE) * (scene.num_frames - 1) < scene.dose / 2:
        state.hidden.add(scene.hand)


def _swelling_hand(scene: FaultyScene, state: Staged, fraction: float) -> None:
    state.swell = 1 + (scene.dose - 1) * rise(fraction, 0.2, 0.6)


def _color_swap(scene: FaultyScene, state: Staged, fraction: float) -> None:
    a, b = scene.objects[:2]
    share = scene.dose * rise(fraction, 0.4, 0.6)
    state.color.update({a.name: (b.color, share), b.name: (a.color, share)})


def _sinking_object(scene: FaultyScene, state: Staged, fraction: float) -> None:
    thing = scene.objects[1]
    state.spots[thing.name] = (*thing.place, -scene.dose * rise(fraction, 0.25, 0.75))


def _doubled_hand(scene: FaultyScene, state: Staged, fraction: float) -> None:
    """A copy of the acting arm separates from it, up to `dose` metres to the middle of the table."""
    apart = scene.dose * rise(fraction, 0.15, 0.4)
    if apart:
        inwards = apart if scene.hand == "left" else -apart
        state.extra += moved(scene.arm_shapes(scene.hand, state), (inwards, 0.0, 0.0))


def _levitating_object(scene: FaultyScene, state: Staged, fraction: float) -> None:
    """The object rises again after the hand has let it go."""
    x, y, z = state.spots[scene.objects[0].name]
    state.spots[scene.objects[0].name] = (x, y, z + scene.dose * rise(fraction, PHASES[3], 1.0))


def _shape_change(scene: FaultyScene, state: Staged, fraction: float) -> None:
    if fraction > 0.5:
        thing = victim(scene)
        state.kind[thing.name] = OBJECTS[(OBJECTS.index(thing.kind) + 1) % len(OBJECTS)]


def _absent_arm(scene: FaultyScene, state: Staged, fraction: float) -> None:
    """The acting arm is not drawn at all; `picture_faults.see_through` blends this clip with the clean one."""
    state.hidden.add(scene.hand)


EDITS: dict[str, Callable[[FaultyScene, Staged, float], None]] = {
    "dropped": _dropped,
    "vanishing object": _vanishing_object,
    "teleport": _teleport,
    "hand of the other look": _other_look,
    "growing object": _changing_size,
    "shrinking object": _changing_size,
    "sliding object": _sliding_object,
    "sliding container": _sliding_container,
    "third arm": _third_arm,
    "floating object": _floating_object,
    "gliding object": _gliding_object,
    "splitting object": _splitting_object,
    "detached arm": _detached_arm,
    "vanishing arm": _vanishing_arm,
    "swelling hand": _swelling_hand,
    "colour swap": _color_swap,
    "sinking object": _sinking_object,
    "doubled hand": _doubled_hand,
    "levitating object": _levitating_object,
    "shape change": _shape_change,
    "absent arm": _absent_arm,
}
