"""The tabletop world: a head camera looks at a table, and one hand moves one object into one container.

    scene = Scene.sample(seed=7, appearance="robot")  # layout, colours, which hand
    clip = scene.clip()                               # frames uint8 (17, 96, 160, 3) and the ground truth
    other = scene.with_hand("left").clip()            # the same first frame, the other hand

Everything is determined by the seed. There are two appearances: `human` (skin, sleeves, many tones; the prompt does
not name the hand) and `robot` (black and grey two-finger grippers; the prompt names the hand, and that hand moves).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np

from cosmos_exp.tabletop.geometry import Camera, Shape, Triple, aimed_camera
from cosmos_exp.tabletop.render import Room, make_room, render
from cosmos_exp.tabletop.world import COLORS, HANDS, LABELS, SKIN, SLEEVES, SceneObject, State, place_objects, state_at

# Positions of the cameras in metres.
VIEWS: dict[str, Triple] = {"head": (0.0, -0.50, 0.56), "left": (-0.30, -0.42, 0.50), "right": (0.30, -0.42, 0.50)}


@dataclass(frozen=True)
class Clip:
    """A rendered clip with its ground truth.

    frames: uint8 (T, H, W, 3), RGB. labels: uint8 (T, H, W), what each pixel shows (LABELS, or an object's `label`).
    intrinsics: (3, 3). rotations (T, 3, 3), translations (T, 3): world to camera, OpenCV axes, metres.
    tracks: name -> (T, 2), pixel column and row of the centre, also where it is occluded.
    scene: what is shown.
    """

    frames: np.ndarray
    labels: np.ndarray
    intrinsics: np.ndarray
    rotations: np.ndarray
    translations: np.ndarray
    tracks: dict[str, np.ndarray]
    scene: Scene


@dataclass(frozen=True)
class Scene:
    """Layout, appearance and action of one clip; see `Scene.sample`."""

    seed: int
    appearance: str
    hand: str
    objects: tuple[SceneObject, ...]
    containers: tuple[SceneObject, ...]
    skin: Triple
    sleeve: Triple
    texture_seed: int
    size: tuple[int, int] = (96, 160)  # height, width
    num_frames: int = 17
    fps: int = 8
    room: Room = field(kw_only=True, repr=False)

    @classmethod
    def sample(
        cls,
        seed: int,
        appearance: str,
        hand: str | None = None,
        *,
        size: tuple[int, int] = (96, 160),
        num_frames: int = 17,
    ) -> Scene:
        """Draw a scene from `seed`.

        Args:
            appearance: human or robot.
            hand: left or right; None draws it.
            size: height and width of a picture in pixels.
        """
        rng = np.random.RandomState(np.random.MT19937(np.random.SeedSequence((seed, 0x7AB1E))))
        drawn_hand = HANDS[rng.randint(2)]
        objects, containers = place_objects(rng)
        skin, sleeve = SKIN[rng.randint(len(SKIN))], SLEEVES[rng.randint(len(SLEEVES))]
        texture_seed = int(rng.randint(2**31 - 1))
        return cls(
            seed=seed,
            appearance=appearance,
            hand=hand or drawn_hand,
            objects=objects,
            containers=containers,
            skin=skin,
            sleeve=sleeve,
            texture_seed=texture_seed,
            size=size,
            num_frames=num_frames,
            room=make_room(texture_seed),
        )

    def with_hand(self, hand: str) -> Scene:
        """The same scene and first frame, with the action done by `hand`."""
        return replace(self, hand=hand)

    @property
    def prompt(self) -> str:
        """The instruction. Only the robot's prompt names the hand."""
        what = f"the {self.objects[0].name} and place it in the {self.containers[0].name}."
        return f"Use the {self.hand} hand to pick up {what}" if self.appearance == "robot" else f"Pick up {what}"

    def clip(self, camera: str = "head") -> Clip:
        """Render all frames seen by `camera` (head, left or right) with their ground truth."""
        objects = self.objects + self.containers
        frames, labels, cameras, tracks = [], [], [], []
        names = (*HANDS, *(obj.name for obj in objects))
        for index in range(self.num_frames):
            view, state = self.camera(index, camera), self.state(index)
            rgb, label = render(self.room, self._shapes(state), view)
            frames.append(rgb)
            labels.append(label)
            cameras.append(view)
            tracks.append([view.project(state.centers[name])[:2] for name in names])
        return Clip(
            frames=np.stack(frames),
            labels=np.stack(labels),
            intrinsics=view.intrinsics,
            rotations=np.stack([view.rotation for view in cameras]),
            translations=np.stack([view.translation for view in cameras]),
            tracks=dict(zip(names, np.array(tracks).swapaxes(0, 1), strict=True)),
            scene=self,
        )

    def camera(self, index: int, name: str = "head") -> Camera:
        """The camera at frame `index`. The head camera moves along one path in all clips; the side cameras are fixed."""
        base = VIEWS[name]
        fraction = index / max(self.num_frames - 1, 1)
        # The head leaves its rest pose and comes part of the way back: what the first frame shows stays in view.
        lean, nod = (round(math.sin(math.pi * fraction * k), 9) for k in (0.62, 0.8)) if name == "head" else (0.0, 0.0)
        position = (base[0] + 0.018 * lean, base[1] + 0.010 * nod, base[2] - 0.010 * lean)
        target = (-0.003 * lean, 0.045 + 0.003 * nod, 0.02)
        return aimed_camera(position, target, self.size, focal=self.size[1] * 0.92)

    def state(self, index: int) -> State:
        """Where everything is at frame `index`."""
        return self.moment(index / max(self.num_frames - 1, 1))

    def moment(self, fraction: float) -> State:
        """Where everything is at a fraction of the action."""
        return state_at(fraction, self.hand, self.objects, self.containers)

    def _shapes(self, state: State) -> list[Shape]:
        shapes: list[Shape] = []
        for obj in self.containers + self.objects:
            shapes += object_shapes(obj, state.spots[obj.name])
        for hand in HANDS:
            shapes += self.hand_shapes(hand, state, self.appearance)
        return shapes

    def hand_shapes(self, hand: str, state: State, appearance: str) -> list[Shape]:
        """The shapes of a hand and its arm."""
        # Both hands have the grip width of the object: the first frame must not reveal which hand will move.
        tip, opening = state.hands[hand]
        grip = self.objects[0].radius
        if appearance == "robot":
            return robot_hand(hand, tip, opening, grip)
        return human_hand(hand, tip, opening, grip, self.skin, self.sleeve)


def object_shapes(obj: SceneObject, spot: Triple) -> list[Shape]:
    """The shapes of an object or container whose base is centred at `spot` (metres)."""
    color, r, label = COLORS[obj.color], obj.radius, obj.label
    x, y, z = spot
    if obj.kind == "block":
        return [Shape("box", (x, y, z + r * 0.9), (r * 0.9, r * 0.9, r * 0.9), color, label, turn=obj.turn)]
    if obj.kind == "ball":
        return [Shape("sphere", (x, y, z + r), (r, 0, 0), color, label)]
    if obj.kind == "can":
        return [
            Shape("cylinder", (x, y, z), (r * 0.85, 0.07, 0), color, label),
            Shape("cylinder", (x, y, z + 0.025), (r * 0.86, 0.02, 0), _darker(color, 0.72), label),
        ]
    if obj.kind == "plate":
        light = (min(color[0] * 1.12 + 8, 255), min(color[1] * 1.12 + 8, 255), min(color[2] * 1.12 + 8, 255))
        return [
            Shape("cylinder", (x, y, z), (r, 0.008, 0), color, label),
            Shape("cylinder", (x, y, z), (r * 0.7, 0.0095, 0), light, label),
        ]
    if obj.kind == "bowl":
        return [Shape("tube", (x, y, z), (r, 0.036, 0.008), color, label)]
    return _tray_shapes(obj, spot)


def _tray_shapes(obj: SceneObject, spot: Triple) -> list[Shape]:
    """A flat box with four low walls."""
    color, r, label = COLORS[obj.color], obj.radius, obj.label
    x, y, z = spot
    cos, sin = obj.turn
    shapes = [Shape("box", (x, y, z + 0.004), (r, r * 0.8, 0.004), color, label, turn=obj.turn)]
    for i, j in ((0.0, 1), (0.0, -1), (1, 0.0), (-1, 0.0)):
        dx, dy = i * r, j * r * 0.8
        half = (0.005, r * 0.8, 0.013) if i else (r, 0.005, 0.013)
        at = (x + cos * dx - sin * dy, y + sin * dx + cos * dy, z + 0.013)
        shapes.append(Shape("box", at, half, _darker(color, 0.86), label, turn=obj.turn))
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
