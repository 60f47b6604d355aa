"""Clips of the tabletop world with one planted fault each, to calibrate judges and measures: the fault is known.

`plant(scene, fault, dose)` returns the frames and the prompt by which they are judged. `FAULTS` gives the rubric that
must detect each fault, its doses, and the function that plants it. Two kinds: edits of the scene (`FaultyScene`: objects,
hands or the camera do what the physical world does not do), and of the clip (another action, or pixels that change in a way
that no camera and no light explains).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import cv2
import numpy as np

from cosmos_exp.tabletop.geometry import Camera, Shape, Triple, aimed_camera, subtract
from cosmos_exp.tabletop.render import make_room
from cosmos_exp.tabletop.scene import Clip, Scene, object_shapes
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


# Changes the state of a frame in place: (scene, state, fraction of the clip). Each `_…(scene, state, fraction)` below is one.
Edit = Callable[["FaultyScene", Staged, float], None]


@dataclass(frozen=True, kw_only=True)
class FaultyScene(Scene):
    """A scene in which `edit` changes the state of every frame, with strength `dose`."""

    edit: Edit
    dose: float

    def state(self, index: int) -> Staged:
        """As `Scene.state`, with the fault."""
        state = Staged(**vars(self.clean(index)), appearance=self.appearance)
        self.edit(self, state, index / max(self.num_frames - 1, 1))
        clean = self.clean(index)
        for name, spot in clean.spots.items():
            state.centers[name] = _plus(clean.centers[name], subtract(state.spots[name], spot))
        return state

    def camera(self, index: int, name: str = "head") -> Camera:
        """As `Scene.camera`; with a camera jump, turned by `dose` pixels from the middle of the clip on."""
        view = super().camera(index, name)
        if self.edit is not _camera_jump or 2 * index < self.num_frames:
            return view
        side = self.dose / view.focal * (1 if self.seed % 4 < 2 else -1)
        target = _plus(_plus(view.position, view.forward), _times(view.right, side))
        return aimed_camera(view.position, target, self.size, view.focal)

    def clean(self, index: int) -> State:
        """The state without the fault."""
        return super().state(index)

    def _shapes(self, state: Staged) -> list[Shape]:
        shapes = []
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
        others = object_shapes(replace(obj, color=name), spot)
        shapes = [replace(a, color=_between(a.color, b.color, share)) for a, b in zip(shapes, others, strict=True)]
    return scaled(shapes, spot, state.scale.get(obj.name, 1.0))


def scaled(shapes: list[Shape], origin: Triple, factor: float) -> list[Shape]:
    """Shapes enlarged by `factor` about the point `origin`."""
    if factor == 1:
        return shapes
    larger = []
    for shape in shapes:
        center, end = _between(origin, shape.center, factor), _between(origin, shape.end, factor)
        larger.append(replace(shape, center=center, end=end, size=_times(shape.size, factor)))
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
    return _plus(a, _times(subtract(b, a), share))


def _plus(a: Triple, b: Triple) -> Triple:
    return a[0] + b[0], a[1] + b[1], a[2] + b[2]


def _times(a: Triple, factor: float) -> Triple:
    return a[0] * factor, a[1] * factor, a[2] * factor


def rise(fraction: float, start: float, end: float) -> float:
    """0 up to `start`, 1 from `end` on, linear in between."""
    return min(max((fraction - start) / (end - start), 0.0), 1.0)


def victim(scene: Scene) -> SceneObject:
    """The object that a fault of one object changes: the moved one and a resting one in alternation of seeds."""
    return scene.objects[(scene.seed // 2) % 2]


def free_direction(scene: Scene, obj: SceneObject, distance: float) -> Triple:
    """The displacement by `distance` metres that leads `obj` farthest from everything else on the table."""
    ways = ((1.0, 0.0), (-1.0, 0.0), (0.0, 1.0), (0.0, -1.0), (0.6, 0.8), (0.6, -0.8), (-0.6, 0.8), (-0.6, -0.8))

    def room(way: tuple[float, float]) -> float:
        x, y = obj.place[0] + distance * way[0], obj.place[1] + distance * way[1]
        gaps = [0.27 - abs(x), y + 0.10, 0.23 - y]
        for other in scene.objects + scene.containers:
            if other.name != obj.name:
                gaps.append(((x - other.place[0]) ** 2 + (y - other.place[1]) ** 2) ** 0.5 - other.radius)
        return min(gaps)

    along, across = max(ways, key=room)
    return distance * along, distance * across, 0.0


def _dropped(scene, state, fraction):
    """The object is dropped before the container."""
    if fraction > DROP:
        x, y, z = scene.clean(round(DROP * (scene.num_frames - 1))).spots[scene.objects[0].name]
        fallen = 0.08 * (fraction - DROP) * (scene.num_frames - 1)
        state.spots[scene.objects[0].name] = (x, y, max(z - fallen, 0.0))


def _vanishing_object(scene, state, fraction):
    """The carried object disappears."""
    if fraction > DROP:
        state.spots[scene.objects[0].name] = (0.0, 0.0, -5.0)


def _teleport(scene, state, fraction):
    """The object is at the goal from the third frame on."""
    early = round(fraction * (scene.num_frames - 1)) < 2
    place, goal = scene.objects[0].place, scene.containers[0].place
    state.spots[scene.objects[0].name] = (*place, 0.0) if early else (*goal, 0.012)


def _other_look(scene, state, fraction):
    """Grippers turn into hands, hands into grippers."""
    if fraction > PHASES[0] / 2:
        state.appearance = APPEARANCES[1 - APPEARANCES.index(scene.appearance)]


def _changing_size(scene, state, fraction):
    """An object grows or shrinks."""
    state.scale[victim(scene).name] = 1 + (scene.dose - 1) * rise(fraction, 0.25, 0.75)


def _sliding_object(scene, state, fraction):
    """A resting object slides over the table, untouched."""
    obj = scene.objects[1]
    start = (*obj.place, 0.0)
    end = _plus(start, free_direction(scene, obj, scene.dose))
    state.spots[obj.name] = _between(start, end, rise(fraction, 0.25, 0.75))


def _sliding_container(scene, state, fraction):
    """The goal slides during the carry; the hand puts the object where the container will be."""
    obj = scene.containers[0]
    start = (*obj.place, 0.0)
    end = _plus(start, free_direction(scene, obj, scene.dose))
    later = replace(scene, containers=(replace(obj, place=end[:2]), *scene.containers[1:])).moment(fraction)
    state.hands, state.spots, state.centers = later.hands, later.spots, later.centers
    state.spots[obj.name] = _between(start, end, rise(fraction, 0.2, 0.65))


def _third_arm(scene, state, fraction):
    """An arm reaches in from the middle of the near edge, `dose` metres beyond the edge of the picture, and stays."""
    tip = (0.0, -0.34 + (0.09 + scene.dose) * rise(fraction, 0.1, 0.4), 0.08)
    side = -1.0 if scene.hand == "left" else 1.0
    by = (-side * 0.36 - side * 0.02, 0.0, 0.0)  # from the acting arm's shoulder to the middle
    arm = replace(state, hands={scene.hand: (subtract(tip, by), 1.0)})
    state.extra += moved(scene.arm_shapes(scene.hand, arm), by)


def _floating_object(scene, state, fraction):
    """A resting object rises and stays in the air."""
    obj = scene.objects[1]
    state.spots[obj.name] = (*obj.place, scene.dose * rise(fraction, 0.25, 0.6))


def _gliding_object(scene, state, fraction):
    """The object glides `dose` of the way to the goal along the table, and both hands rest."""
    obj, goal = scene.objects[0], scene.containers[0].place
    state.hands[scene.hand] = scene.with_hand(other_hand(scene.hand)).moment(fraction).hands[scene.hand]
    share = scene.dose * rise(fraction, PHASES[1], PHASES[2])
    state.spots[obj.name] = _between((*obj.place, 0.0), (*goal, 0.012), share)


def _splitting_object(scene, state, fraction):
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


def _detached_arm(scene, state, fraction):
    """The arm is missing behind the acting hand."""
    state.cut = scene.dose * rise(fraction, 0.1, 0.3)


def _vanishing_arm(scene, state, fraction):
    """The acting arm is missing for `dose` frames of the carry."""
    if abs(fraction - MIDDLE) * (scene.num_frames - 1) < scene.dose / 2:
        state.hidden.add(scene.hand)


def _swelling_hand(scene, state, fraction):
    """The acting hand grows."""
    state.swell = 1 + (scene.dose - 1) * rise(fraction, 0.2, 0.6)


def _color_swap(scene, state, fraction):
    """Two objects exchange their colours."""
    a, b = scene.objects[:2]
    share = scene.dose * rise(fraction, 0.4, 0.6)
    state.color.update({a.name: (b.color, share), b.name: (a.color, share)})


def _sinking_object(scene, state, fraction):
    """A resting object sinks into the table."""
    obj = scene.objects[1]
    state.spots[obj.name] = (*obj.place, -scene.dose * rise(fraction, 0.25, 0.75))


def _doubled_hand(scene, state, fraction):
    """A copy of the acting arm separates from it, up to `dose` metres to the middle of the table."""
    apart = scene.dose * rise(fraction, 0.15, 0.4)
    if apart:
        inwards = apart if scene.hand == "left" else -apart
        state.extra += moved(scene.arm_shapes(scene.hand, state), (inwards, 0.0, 0.0))


def _levitating_object(scene, state, fraction):
    """The object rises again after the hand has let it go."""
    x, y, z = state.spots[scene.objects[0].name]
    state.spots[scene.objects[0].name] = (x, y, z + scene.dose * rise(fraction, PHASES[3], 1.0))


def _shape_change(scene, state, fraction):
    """An object becomes one of another kind, halfway."""
    if fraction > 0.5:
        obj = victim(scene)
        state.kind[obj.name] = OBJECTS[(OBJECTS.index(obj.kind) + 1) % len(OBJECTS)]


def _absent_arm(scene, state, fraction):
    """The acting arm is not drawn at all; `see_through` blends this clip with the clean one."""
    state.hidden.add(scene.hand)


def _camera_jump(scene, state, fraction):
    """The camera turns between two frames, see `FaultyScene.camera`; the scene stays as it is."""


# Faults of a rendered clip: (clip: Clip, dose: float) -> frames (T, H, W, 3) of 0 to 255, of any type.


def wrong_hand(clip, dose):
    """The other hand does the task (robot only: its prompt names the hand)."""
    return clip.scene.with_hand(other_hand(clip.scene.hand)).clip().frames


def wrong_object(clip, dose):
    """Another object is moved."""
    moved, resting, *others = clip.scene.objects
    return replace(clip.scene, objects=(resting, moved, *others)).clip().frames


def _rises(clip: Clip, start: float, end: float) -> np.ndarray:
    """`rise` at each frame."""
    return np.array([rise(t / max(len(clip.frames) - 1, 1), start, end) for t in range(len(clip.frames))])


def _mixed(frames: np.ndarray, others: np.ndarray, shares: np.ndarray) -> np.ndarray:
    """Frames (T, H, W, 3) with a share (T,) of other ones, float32."""
    shares = shares.astype(np.float32)[:, None, None, None]
    return (1 - shares) * frames + shares * others


def frozen(clip, dose):
    """The first frame, held."""
    return np.repeat(clip.frames[:1], len(clip.frames), axis=0)


def reversed_time(clip, dose):
    """The clip played backwards."""
    return clip.frames[::-1]


def noise(clip, dose):
    """Gaussian noise with a standard deviation of `dose` grey levels."""
    grain = np.random.RandomState(clip.scene.seed % 2**32).standard_normal(clip.frames.shape) * dose
    return np.floor(np.clip(clip.frames + grain, 0, 255))


def blur(clip, dose):
    """Gaussian blur with a standard deviation of `dose` pixels."""
    return np.stack([cv2.GaussianBlur(f, (0, 0), dose) for f in clip.frames])


def fade(clip, dose):
    """The colour of the moved object drifts towards the wood's over the first half, up to the share `dose` of it."""
    frames, wood = clip.frames.astype(np.float32), np.array(TABLE_TONE, np.float32)
    visible = clip.labels == clip.scene.objects[0].label
    for t, frame in enumerate(frames):
        part = dose * min(2 * t / max(len(frames) - 1, 1), 1.0)
        frame[visible[t]] = (1 - part) * frame[visible[t]] + part * wood
    return frames


def melting(clip, dose):
    """A region of 40 pixels about an object flows: a smooth random displacement grows to `dose` pixels at its maximum.

    The region is about the resting object or about the container in alternation of seeds. It moves with the picture.
    """
    scene, (height, width) = clip.scene, clip.scene.size
    obj = scene.objects[1] if (scene.seed // 2) % 2 else scene.containers[0]
    field = np.random.RandomState(scene.seed % 2**32).standard_normal((2, height, width)).astype(np.float32)
    field = np.stack([cv2.GaussianBlur(f, (0, 0), 5.0) for f in field])
    y, x = np.mgrid[:height, :width].astype(np.float32)
    out = []
    for frame, center, share in zip(clip.frames, clip.tracks[obj.name], _rises(clip, 0.1, 0.8), strict=True):
        near = np.clip(1.5 - np.hypot(x - center[0], y - center[1]) / 20, 0, 1).astype(np.float32)
        shift = field * near
        shift *= np.float32(dose * share / max(float(np.hypot(*shift).max()), 1e-6))
        out.append(cv2.remap(frame, x + shift[0], y + shift[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE))
    return np.stack(out)


def background_change(clip, dose):
    """The table's wood turns into another one, by a share of `dose`."""
    other = replace(clip.scene, room=make_room(clip.scene.texture_seed + 1)).clip().frames
    table = (clip.labels == LABELS["table"])[..., None]
    return np.where(table, _mixed(clip.frames, other, dose * _rises(clip, 0.3, 0.7)), clip.frames)


def growing_stain(clip, dose):
    """A dark stain on the free table grows to a radius of `dose` pixels. Objects and hands cover it."""
    height, width = clip.scene.size
    table = np.all(clip.labels == LABELS["table"], axis=0).astype(np.uint8)
    table[[0, -1]], table[:, [0, -1]] = 0, 0
    spot = np.unravel_index(int(cv2.distanceTransform(table, cv2.DIST_L2, 5).argmax()), table.shape)
    y, x = np.mgrid[:height, :width]
    frames = clip.frames.astype(np.float32)
    for t, radius in enumerate(dose * _rises(clip, 0.2, 0.7)):
        if radius == 0:
            continue
        cover = np.clip(radius - np.hypot(x - spot[1], y - spot[0]) + 0.5, 0, 1) * (clip.labels[t] == LABELS["table"])
        frames[t] *= 1 - 0.5 * cover[..., None].astype(np.float32)
    return frames


def flicker(clip, dose):
    """Every other frame brighter by the share `dose`, the others darker by it; the first frame as it is."""
    gains = np.ones(len(clip.frames))
    gains[1::2], gains[2::2] = 1 - dose, 1 + dose
    return np.clip(clip.frames * gains[:, None, None, None], 0, 255)


def see_through(clip, dose):
    """The acting arm becomes transparent by the share `dose` while it works."""
    without = FaultyScene(**vars(clip.scene), edit=_absent_arm, dose=1.0).clip().frames
    return _mixed(clip.frames, without, dose * _rises(clip, 0.1, 0.35))


def trails(clip, dose):
    """Each frame keeps the share `dose` of the frame shown before it, so that what moves leaves a trail."""
    out = [clip.frames[0].astype(np.float32)]
    for frame in clip.frames[1:]:
        out.append(dose * out[-1] + (1 - dose) * frame)
    return np.stack(out)


@dataclass(frozen=True)
class Fault:
    """What is planted and how strong.

    rubric: physics or instruction, the rubric that must detect it. doses: from weak to strong, in `unit`; (1.0,) for a
    fault without degrees. dose: the one of the judge's table. x: a factor of the size. edit: of the scene. change: of a
    rendered clip; (clip, dose) -> frames (T, H, W, 3) of 0 to 255, rounded afterwards. A fault has one of the two.
    """

    doses: tuple[float, ...] = (1.0,)
    dose: float = 1.0
    unit: str = ""
    edit: Edit | None = None
    change: Callable[[Clip, float], np.ndarray] | None = None
    rubric: str = "physics"


# Names as in recorded benchmark results.
FAULTS = {
    "wrong hand": Fault(rubric="instruction", change=wrong_hand),
    "wrong object": Fault(rubric="instruction", change=wrong_object),
    "dropped": Fault(rubric="instruction", edit=_dropped),
    "frozen": Fault(rubric="instruction", change=frozen),
    "reversed": Fault(rubric="instruction", change=reversed_time),
    "vanishing object": Fault(edit=_vanishing_object),
    "teleport": Fault(edit=_teleport),
    "hand of the other look": Fault(edit=_other_look),
    "fading object": Fault((0.2, 0.4, 0.6), 0.6, "share", change=fade),
    "noise": Fault((5.0, 10.0, 25.0), 25.0, "grey levels", change=noise),
    "blur": Fault((0.5, 1.0, 2.0), 2.0, "px", change=blur),
    # Known blind spots of the judge of 2026-11-23.
    "growing object": Fault((1.1, 1.25, 1.5, 2.0), 1.5, "x", _changing_size),
    "sliding object": Fault((0.02, 0.04, 0.08), 0.08, "m", _sliding_object),
    "third arm": Fault((0.1, 0.2, 0.3), 0.2, "m", _third_arm),
    "floating object": Fault((0.02, 0.04, 0.08), 0.08, "m", _floating_object),
    "melting": Fault((0.75, 1.5, 2.5, 4.0), 2.5, "px", change=melting),
    "gliding object": Fault((0.25, 0.5, 1.0), 1.0, "share", _gliding_object),
    "camera jump": Fault((2.0, 4.0, 8.0, 16.0), 8.0, "px", _camera_jump),
    # The second list, written before the judge was changed.
    "shrinking object": Fault((0.85, 0.7, 0.5), 0.7, "x", _changing_size),
    "sliding container": Fault((0.02, 0.04, 0.08), 0.08, "m", _sliding_container),
    "splitting object": Fault((0.03, 0.06, 0.1), 0.1, "m", _splitting_object),
    "detached arm": Fault((0.2, 0.35, 0.5), 0.35, "share", _detached_arm),
    "vanishing arm": Fault((2.0, 4.0, 6.0), 4.0, "frames", _vanishing_arm),
    "swelling hand": Fault((1.25, 1.5, 2.0), 2.0, "x", _swelling_hand),
    "colour swap": Fault((0.25, 0.5, 1.0), 1.0, "share", _color_swap),
    "background change": Fault((0.25, 0.5, 1.0), 0.5, "share", change=background_change),
    "sinking object": Fault((0.015, 0.03, 0.05), 0.03, "m", _sinking_object),
    "doubled hand": Fault((0.06, 0.12, 0.18), 0.12, "m", _doubled_hand),
    "brightness flicker": Fault((0.05, 0.1, 0.2), 0.1, "share", change=flicker),
    "levitating object": Fault((0.03, 0.06, 0.12), 0.12, "m", _levitating_object),
    "shape change": Fault(edit=_shape_change),
    "growing stain": Fault((3.0, 6.0, 9.0), 6.0, "px", change=growing_stain),
    "see-through arm": Fault((0.25, 0.5, 0.75), 0.5, "share", change=see_through),
    "trails": Fault((0.3, 0.5, 0.7), 0.7, "share", change=trails),
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
    planted = FAULTS[fault]
    strength = planted.dose if dose is None else dose
    if planted.edit:
        return FaultyScene(**vars(scene), edit=planted.edit, dose=strength).clip().frames, scene.prompt
    return planted.change(scene.clip(), strength).round().astype(np.uint8), scene.prompt
