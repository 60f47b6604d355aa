"""Clips of the tabletop world with one planted fault each, to calibrate judges and measures: the fault is known.

`plant(scene, fault, dose)` returns the frames and the prompt by which they are judged. `FAULTS` gives the rubric that
must detect each fault, and its doses. Three kinds: another action or clip (`plant`), faults of the scene (`FaultyScene`, one
function of `EDITS` each: objects, hands or the camera do what the physical world does not do), and faults of the picture
(`PICTURE_FAULTS`: pixels change in a way that no camera and no light explains).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields, replace

import cv2
import numpy as np

from cosmos_exp.tabletop.geometry import Camera, Shape, Triple, aimed_camera
from cosmos_exp.tabletop.render import make_room
from cosmos_exp.tabletop.scene import Scene, object_shapes
from cosmos_exp.tabletop.world import (
    APPEARANCES,
    HANDS,
    LABELS,
    OBJECTS,
    PHASES,
    TABLE_TONE,
    SceneObject,
    State,
    other_hand,
)


@dataclass(frozen=True)
class Fault:
    """What is planted and how strong.

    rubric: physics or instruction, the rubric that must detect it. doses: from weak to strong, in `unit`; (1.0,) for a
    fault without degrees. dose: the one of the judge's table. x: a factor of the size.
    """

    rubric: str
    doses: tuple[float, ...]
    dose: float
    unit: str
    what: str


def _plain(rubric: str, what: str) -> Fault:
    return Fault(rubric, (1.0,), 1.0, "", what)


def _graded(doses: tuple[float, ...], dose: float, unit: str, what: str) -> Fault:
    return Fault("physics", doses, dose, unit, what)


# Names as in recorded benchmark results.
FAULTS: dict[str, Fault] = {
    "wrong hand": _plain("instruction", "the other hand does the task (robot only: its prompt names the hand)"),
    "wrong object": _plain("instruction", "another object is moved"),
    "dropped": _plain("instruction", "the object is dropped before the container"),
    "frozen": _plain("instruction", "the first frame is held"),
    "reversed": _plain("instruction", "the clip is played backwards"),
    "vanishing object": _plain("physics", "the carried object disappears"),
    "teleport": _plain("physics", "the object is at the goal from the third frame on"),
    "hand of the other look": _plain("physics", "grippers turn into hands, hands into grippers"),
    "fading object": _graded((0.2, 0.4, 0.6), 0.6, "share", "the moved object's colour drifts to the wood's"),
    "noise": _graded((5.0, 10.0, 25.0), 25.0, "grey levels", "Gaussian noise, standard deviation"),
    "blur": _graded((0.5, 1.0, 2.0), 2.0, "px", "Gaussian blur, standard deviation"),
    # Known blind spots of the judge of 2026-11-23.
    "growing object": _graded((1.1, 1.25, 1.5, 2.0), 1.5, "x", "an object grows"),
    "sliding object": _graded((0.02, 0.04, 0.08), 0.08, "m", "a resting object slides over the table, untouched"),
    "third arm": _graded((0.1, 0.2, 0.3), 0.2, "m", "a third arm reaches in from the near edge"),
    "floating object": _graded((0.02, 0.04, 0.08), 0.08, "m", "a resting object rises and stays in the air"),
    "melting": _graded((0.75, 1.5, 2.5, 4.0), 2.5, "px", "a region of 40 px flows, largest displacement"),
    "gliding object": _graded((0.25, 0.5, 1.0), 1.0, "share", "the object glides towards the goal, the hands rest"),
    "camera jump": _graded((2.0, 4.0, 8.0, 16.0), 8.0, "px", "the camera turns between two frames"),
    # The second list, written before the judge was changed.
    "shrinking object": _graded((0.85, 0.7, 0.5), 0.7, "x", "an object shrinks"),
    "sliding container": _graded((0.02, 0.04, 0.08), 0.08, "m", "the goal slides over the table, untouched"),
    "splitting object": _graded((0.03, 0.06, 0.1), 0.1, "m", "an object becomes two, which drift apart"),
    "detached arm": _graded((0.2, 0.35, 0.5), 0.35, "share", "the arm is missing behind the acting hand"),
    "vanishing arm": _graded((2.0, 4.0, 6.0), 4.0, "frames", "the acting arm is missing, the object is carried on"),
    "swelling hand": _graded((1.25, 1.5, 2.0), 2.0, "x", "the acting hand grows"),
    "colour swap": _graded((0.25, 0.5, 1.0), 1.0, "share", "two objects exchange their colours"),
    "background change": _graded((0.25, 0.5, 1.0), 0.5, "share", "the wood of the table turns into another"),
    "sinking object": _graded((0.015, 0.03, 0.05), 0.03, "m", "a resting object sinks into the table"),
    "doubled hand": _graded((0.06, 0.12, 0.18), 0.12, "m", "a copy of the acting arm separates from it"),
    "brightness flicker": _graded((0.05, 0.1, 0.2), 0.1, "share", "frames are brighter and darker in alternation"),
    "levitating object": _graded((0.03, 0.06, 0.12), 0.12, "m", "the object rises after its release"),
    "shape change": _plain("physics", "an object becomes one of another kind, halfway"),
    "growing stain": _graded((3.0, 6.0, 9.0), 6.0, "px", "a dark stain grows on the table, radius"),
    "see-through arm": _graded((0.25, 0.5, 0.75), 0.5, "share", "the acting arm becomes transparent"),
    "trails": _graded((0.3, 0.5, 0.7), 0.7, "share", "each frame keeps a share of the one before"),
}


def plant(scene: Scene, fault: str, dose: float | None = None) -> tuple[np.ndarray, str]:
    """Render a scene with a fault.

    Args:
        dose: strength in the fault's unit; None: that of `FAULTS`.

    Returns:
        Frames, uint8 (T, H, W, 3), and the prompt that the clip should have followed.

    Raises:
        KeyError: a fault that does not exist.
    """
    strength = FAULTS[fault].dose if dose is None else dose
    if fault in PICTURE_FAULTS:
        return PICTURE_FAULTS[fault](scene, strength), scene.prompt
    if fault == "wrong hand":
        return scene.with_hand(other_hand(scene.hand)).clip().frames, scene.prompt
    if fault == "wrong object":
        swapped = replace(scene, objects=(scene.objects[1], scene.objects[0], *scene.objects[2:]))
        return swapped.clip().frames, scene.prompt
    return FaultyScene.of(scene, fault, strength).clip().frames, scene.prompt


DROP = 0.6 * PHASES[1] + 0.4 * PHASES[2]  # fraction of the clip: 40 % of the carry, before the container is reached
MIDDLE = 0.5 * (PHASES[1] + PHASES[2])  # half of the carry
# The parts of an arm along the line from the shoulder to the palm; these shapes come first in the list of a hand's shapes.
ARM_PARTS = {"robot": ((0.0, 1.0),), "human": ((0.0, 0.66), (0.66, 1.0))}


@dataclass
class Staged(State):
    """A state with what a fault changes besides it.

    appearance: of the hands.
    scale: object -> factor about the centre of its base. kind, color: object -> another kind, or another colour and its
    share. extra: further shapes. hidden: hands that are not drawn. cut: the fraction of each arm, nearest the palm,
    that is missing; swell: factor of the acting hand about its grasp point.
    """

    appearance: str
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
        same = {field.name: getattr(scene, field.name) for field in fields(scene)}
        return cls(**same, fault=fault, dose=dose)

    def state(self, index: int) -> Staged:
        """As `Scene.state`, with the fault."""
        state = Staged(**vars(super().state(index)), appearance=self.appearance)
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
        for obj in self.containers + self.objects:
            shapes += staged_shapes(obj, state)
        for hand in HANDS:
            if hand not in state.hidden:
                shapes += self.arm_shapes(hand, state)
        return shapes + state.extra

    def arm_shapes(self, hand: str, state: Staged) -> list[Shape]:
        """The shapes of an arm with its hand, with a cut or a swelling."""
        shapes = self.hand_shapes(hand, state, state.appearance)
        parts = ARM_PARTS[state.appearance]
        arm, palm = shapes[: len(parts)], shapes[len(parts) :]
        if hand == self.hand and state.swell != 1:
            palm = scaled(palm, state.hands[hand][0], state.swell)
        if hand == self.hand and state.cut:
            arm = _shortened(arm, parts, 1 - state.cut)
        return arm + palm


def staged_shapes(obj: SceneObject, state: Staged) -> list[Shape]:
    """The shapes of an object in this frame."""
    spot = state.spots[obj.name]
    shapes = object_shapes(replace(obj, kind=state.kind.get(obj.name, obj.kind)), spot)
    if obj.name in state.color:
        name, share = state.color[obj.name]
        other = object_shapes(replace(obj, color=name), spot)
        for number, shape in enumerate(other):
            shapes[number] = replace(shapes[number], color=_between(shapes[number].color, shape.color, share))
    return scaled(shapes, spot, state.scale.get(obj.name, 1.0))


def scaled(shapes: list[Shape], origin: Triple, factor: float) -> list[Shape]:
    """Shapes enlarged by `factor` about the point `origin`."""
    if factor == 1:
        return shapes
    larger = []
    for shape in shapes:
        center, end = _between(origin, shape.center, factor), _between(origin, shape.end, factor)
        larger.append(replace(shape, center=center, end=end, size=_between((0.0, 0.0, 0.0), shape.size, factor)))
    return larger


def moved(shapes: list[Shape], by: Triple) -> list[Shape]:
    """Shapes displaced by a vector in metres."""
    return [replace(s, center=_plus(s.center, by), end=_plus(s.end, by)) for s in shapes]


def _shortened(arm: list[Shape], parts: tuple[tuple[float, float], ...], end: float) -> list[Shape]:
    """Capsules that cover `parts` of an arm, cut where the arm reaches the fraction `end`."""
    kept = []
    for shape, (start, stop) in zip(arm, parts, strict=True):
        if start < end:
            along = min((end - start) / (stop - start), 1.0)
            kept.append(replace(shape, end=_between(shape.center, shape.end, along)))
    return kept


def _between(a: Triple, b: Triple, share: float) -> Triple:
    return a[0] + (b[0] - a[0]) * share, a[1] + (b[1] - a[1]) * share, a[2] + (b[2] - a[2]) * share


def _plus(a: Triple, b: Triple) -> Triple:
    return a[0] + b[0], a[1] + b[1], a[2] + b[2]


def rise(fraction: float, start: float, end: float) -> float:
    """0 up to `start`, 1 from `end` on, linear in between."""
    return min(max((fraction - start) / (end - start), 0.0), 1.0)


def victim(scene: Scene) -> SceneObject:
    """The object that a fault of one object changes: the moved one and a resting one in alternation of seeds."""
    return scene.objects[(scene.seed // 2) % 2]


def free_direction(scene: Scene, obj: SceneObject, distance: float) -> Triple:
    """The displacement by `distance` metres that leads `obj` farthest from everything else on the table."""
    ways = ((1.0, 0.0), (-1.0, 0.0), (0.0, 1.0), (0.0, -1.0), (0.6, 0.8), (0.6, -0.8), (-0.6, 0.8), (-0.6, -0.8))
    best, most = (0.0, 0.0, 0.0), -np.inf
    for along, across in ways:
        by = (distance * along, distance * across, 0.0)
        x, y = obj.place[0] + by[0], obj.place[1] + by[1]
        room = min(0.27 - abs(x), y + 0.10, 0.23 - y)
        for other in scene.objects + scene.containers:
            if other.name != obj.name:
                gap = ((x - other.place[0]) ** 2 + (y - other.place[1]) ** 2) ** 0.5 - other.radius
                room = min(room, gap)
        if room > most:
            best, most = by, room
    return best


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
    obj = scene.objects[1]
    way = free_direction(scene, obj, scene.dose)
    state.spots[obj.name] = _between((*obj.place, 0.0), _plus((*obj.place, 0.0), way), rise(fraction, 0.25, 0.75))


def _sliding_container(scene: FaultyScene, state: Staged, fraction: float) -> None:
    """The goal slides during the carry; the hand puts the object where the container will be."""
    obj = scene.containers[0]
    start = (*obj.place, 0.0)
    end = _plus(start, free_direction(scene, obj, scene.dose))
    shifted = replace(obj, place=end[:2])
    index = round(fraction * (scene.num_frames - 1))
    later = replace(scene, containers=(shifted, *scene.containers[1:])).clean(index)
    state.hands, state.spots, state.centers = later.hands, later.spots, later.centers
    state.spots[obj.name] = _between(start, end, rise(fraction, 0.2, 0.65))


def _third_arm(scene: FaultyScene, state: Staged, fraction: float) -> None:
    """An arm reaches in from the middle of the near edge, `dose` metres beyond the edge of the picture, and stays."""
    tip = (0.0, -0.34 + (0.09 + scene.dose) * rise(fraction, 0.1, 0.4), 0.08)
    side = -1.0 if scene.hand == "left" else 1.0
    by = (-side * 0.36 - side * 0.02, 0.0, 0.0)  # from the acting arm's shoulder to the middle
    arm = replace(state, hands={scene.hand: (_plus(tip, (-by[0], 0.0, 0.0)), 1.0)})
    state.extra += moved(scene.arm_shapes(scene.hand, arm), by)


def _floating_object(scene: FaultyScene, state: Staged, fraction: float) -> None:
    obj = scene.objects[1]
    state.spots[obj.name] = (*obj.place, scene.dose * rise(fraction, 0.25, 0.6))


def _gliding_object(scene: FaultyScene, state: Staged, fraction: float) -> None:
    """The object glides `dose` of the way to the goal along the table, and both hands rest."""
    obj, goal = scene.objects[0], scene.containers[0].place
    index = round(fraction * (scene.num_frames - 1))
    resting = replace(scene, hand=other_hand(scene.hand)).clean(index).hands[scene.hand]
    state.hands[scene.hand] = resting
    share = scene.dose * rise(fraction, PHASES[1], PHASES[2])
    state.spots[obj.name] = _between((*obj.place, 0.0), (*goal, 0.012), share)


def _splitting_object(scene: FaultyScene, state: Staged, fraction: float) -> None:
    """An object becomes two of half its volume, which drift `dose` metres apart."""
    obj, apart = victim(scene), rise(fraction, 0.3, 0.7)
    if apart == 0:
        return
    x, y, z = state.spots[obj.name]
    state.scale[obj.name] = 0.5 ** (1 / 3)
    half = 0.5 * scene.dose * apart
    state.spots[obj.name] = (x + half, y, z)
    state.extra += staged_shapes(obj, state)
    state.spots[obj.name] = (x - half, y, z)


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
    obj = scene.objects[1]
    state.spots[obj.name] = (*obj.place, -scene.dose * rise(fraction, 0.25, 0.75))


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
        obj = victim(scene)
        state.kind[obj.name] = OBJECTS[(OBJECTS.index(obj.kind) + 1) % len(OBJECTS)]


def _absent_arm(scene: FaultyScene, state: Staged, fraction: float) -> None:
    """The acting arm is not drawn at all; `see_through` blends this clip with the clean one."""
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


def _rises(scene: Scene, start: float, end: float) -> list[float]:
    """`rise` at each frame."""
    return [rise(t / max(scene.num_frames - 1, 1), start, end) for t in range(scene.num_frames)]


def frozen(scene: Scene, dose: float) -> np.ndarray:
    """The first frame, held."""
    return np.repeat(scene.clip().frames[:1], scene.num_frames, axis=0)


def reversed_time(scene: Scene, dose: float) -> np.ndarray:
    """The clip played backwards."""
    return scene.clip().frames[::-1].copy()


def noise(scene: Scene, dose: float) -> np.ndarray:
    """Gaussian noise with a standard deviation of `dose` grey levels."""
    frames = scene.clip().frames
    grain = np.random.RandomState(scene.seed % 2**32).standard_normal(frames.shape) * dose
    return np.clip(frames + grain, 0, 255).astype(np.uint8)


def blur(scene: Scene, dose: float) -> np.ndarray:
    """Gaussian blur with a standard deviation of `dose` pixels."""
    return np.stack([cv2.GaussianBlur(f, (0, 0), dose) for f in scene.clip().frames])


def fade(scene: Scene, dose: float) -> np.ndarray:
    """The colour of the moved object drifts towards the wood's over the first half, up to the share `dose` of it."""
    clip = scene.clip()
    frames, wood = clip.frames.astype(np.float32), np.array(TABLE_TONE, np.float32)
    visible = clip.labels == scene.objects[0].label
    for t, frame in enumerate(frames):
        part = dose * min(2 * t / max(len(frames) - 1, 1), 1.0)
        frame[visible[t]] = (1 - part) * frame[visible[t]] + part * wood
    return frames.round().astype(np.uint8)


def melting(scene: Scene, dose: float) -> np.ndarray:
    """A region of 40 pixels about an object flows: a smooth random displacement grows to `dose` pixels at its maximum.

    The region is about the resting object or about the container in alternation of seeds. It moves with the picture.
    """
    clip = scene.clip()
    height, width = scene.size
    obj = scene.objects[1] if (scene.seed // 2) % 2 else scene.containers[0]
    field = np.random.RandomState(scene.seed % 2**32).standard_normal((2, height, width)).astype(np.float32)
    field = np.stack([cv2.GaussianBlur(f, (0, 0), 5.0) for f in field])
    y, x = np.mgrid[:height, :width].astype(np.float32)
    out = []
    for frame, center, share in zip(clip.frames, clip.tracks[obj.name], _rises(scene, 0.1, 0.8), strict=True):
        near = np.clip(1.5 - np.hypot(x - center[0], y - center[1]) / 20, 0, 1).astype(np.float32)
        shift = field * near
        shift *= np.float32(dose * share / max(float(np.hypot(*shift).max()), 1e-6))
        out.append(cv2.remap(frame, x + shift[0], y + shift[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))
    return np.stack(out)


def background_change(scene: Scene, dose: float) -> np.ndarray:
    """The table's wood turns into another one, by a share of `dose`."""
    clip = scene.clip()
    other = replace(scene, room=make_room(scene.texture_seed + 1)).clip().frames.astype(np.float32)
    share = (dose * np.array(_rises(scene, 0.3, 0.7))).astype(np.float32)[:, None, None, None]
    mixed = (1 - share) * clip.frames + share * other
    table = (clip.labels == LABELS["table"])[..., None]
    return np.where(table, mixed, clip.frames).round().astype(np.uint8)


def growing_stain(scene: Scene, dose: float) -> np.ndarray:
    """A dark stain on the free table grows to a radius of `dose` pixels. Objects and hands cover it."""
    clip = scene.clip()
    height, width = scene.size
    table = np.all(clip.labels == LABELS["table"], axis=0).astype(np.uint8)
    table[[0, -1]], table[:, [0, -1]] = 0, 0
    spot = np.unravel_index(int(cv2.distanceTransform(table, cv2.DIST_L2, 5).argmax()), table.shape)
    y, x = np.mgrid[:height, :width]
    frames = clip.frames.astype(np.float32)
    for t, share in enumerate(_rises(scene, 0.2, 0.7)):
        radius = dose * share
        if radius == 0:
            continue
        cover = np.clip(radius - np.hypot(x - spot[1], y - spot[0]) + 0.5, 0, 1) * (clip.labels[t] == LABELS["table"])
        frames[t] *= 1 - 0.5 * cover[..., None].astype(np.float32)
    return frames.round().astype(np.uint8)


def flicker(scene: Scene, dose: float) -> np.ndarray:
    """Every other frame brighter by the share `dose`, the others darker by it; the first frame as it is."""
    gains = np.ones(scene.num_frames)
    gains[1::2], gains[2::2] = 1 - dose, 1 + dose
    return np.clip(scene.clip().frames * gains[:, None, None, None], 0, 255).round().astype(np.uint8)


def see_through(scene: Scene, dose: float) -> np.ndarray:
    """The acting arm becomes transparent by the share `dose` while it works."""
    without = FaultyScene.of(scene, "absent arm", 1.0).clip().frames.astype(np.float32)
    share = (dose * np.array(_rises(scene, 0.1, 0.35))).astype(np.float32)[:, None, None, None]
    return ((1 - share) * scene.clip().frames + share * without).round().astype(np.uint8)


def trails(scene: Scene, dose: float) -> np.ndarray:
    """Each frame keeps the share `dose` of the frame shown before it, so that what moves leaves a trail."""
    out = [scene.clip().frames[0].astype(np.float32)]
    for frame in scene.clip().frames[1:]:
        out.append(dose * out[-1] + (1 - dose) * frame)
    return np.stack(out).round().astype(np.uint8)


PICTURE_FAULTS: dict[str, Callable[[Scene, float], np.ndarray]] = {
    "frozen": frozen,
    "reversed": reversed_time,
    "noise": noise,
    "blur": blur,
    "fading object": fade,
    "melting": melting,
    "background change": background_change,
    "growing stain": growing_stain,
    "brightness flicker": flicker,
    "see-through arm": see_through,
    "trails": trails,
}
