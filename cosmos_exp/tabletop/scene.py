"""The tabletop world: a head camera looks at a table, and one hand moves one object into one container.

    scene = Scene.sample(seed=7, appearance="robot")  # layout, colours, camera path, which hand
    clip = scene.clip()                               # frames uint8 (17, 96, 160, 3) and the ground truth
    other = scene.with_hand("left").clip()            # the same first frame, the other hand

Everything is determined by the seed. There are two appearances: `human` (skin, sleeves, many tones; the prompt does
not name the hand) and `robot` (black and grey two-finger grippers; the prompt names the hand, and that hand moves).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np

from cosmos_exp.tabletop.appearance import human_hand, robot_hand, thing_shapes
from cosmos_exp.tabletop.camera import Camera, aimed_camera
from cosmos_exp.tabletop.layout import Thing, place_things
from cosmos_exp.tabletop.motion import State, state_at
from cosmos_exp.tabletop.render import render
from cosmos_exp.tabletop.room import Room, make_room
from cosmos_exp.tabletop.shapes import Shape
from cosmos_exp.tabletop.vectors import Triple
from cosmos_exp.tabletop.vocabulary import APPEARANCES, HANDS, LABELS, SKIN, SLEEVES

# Positions of the cameras in metres.
VIEWS: dict[str, Triple] = {"head": (0.0, -0.50, 0.56), "left": (-0.30, -0.42, 0.50), "right": (0.30, -0.42, 0.50)}


@dataclass(frozen=True)
class Clip:
    """A rendered clip with its ground truth.

    frames: uint8 (T, H, W, 3), RGB. labels: uint8 (T, H, W), what each pixel shows (`label_names`).
    intrinsics: (3, 3). rotations (T, 3, 3), translations (T, 3): world to camera, OpenCV axes, metres.
    tracks: name -> (T, 2), pixel column and row of the centre, also where it is occluded.
    """

    frames: np.ndarray
    labels: np.ndarray
    label_names: dict[int, str]
    intrinsics: np.ndarray
    rotations: np.ndarray
    translations: np.ndarray
    tracks: dict[str, np.ndarray]
    prompt: str
    hand: str
    object: str
    container: str
    appearance: str
    seed: int
    fps: int


@dataclass(frozen=True)
class Scene:
    """Layout, appearance, camera path and action of one clip; see `Scene.sample`."""

    seed: int
    appearance: str
    hand: str
    objects: tuple[Thing, ...]
    containers: tuple[Thing, ...]
    skin: Triple
    sleeve: Triple
    sway: tuple[float, ...]
    texture_seed: int
    size: tuple[int, int] = (96, 160)  # height, width
    num_frames: int = 17
    fps: int = 8
    room: Room = field(default_factory=lambda: Room(np.zeros((1, 1, 3)), np.zeros((1, 1, 3))), repr=False)

    @classmethod
    def sample(
        cls,
        seed: int,
        appearance: str,
        hand: str | None = None,
        *,
        size: tuple[int, int] = (96, 160),
        num_frames: int = 17,
        fps: int = 8,
    ) -> Scene:
        """Draw a scene from `seed`.

        Args:
            appearance: human or robot.
            hand: left or right; None draws it.
            size: height and width of a picture in pixels.

        Raises:
            ValueError: an appearance or hand that does not exist.
        """
        if appearance not in APPEARANCES:
            raise ValueError(f"appearance={appearance!r}: choose one of {', '.join(APPEARANCES)}")
        if hand is not None:
            _check_hand(hand)
        rng = np.random.RandomState(np.random.MT19937(np.random.SeedSequence((seed, 0x7AB1E))))
        drawn_hand = HANDS[rng.randint(2)]
        objects, containers = place_things(rng)
        skin, sleeve = SKIN[rng.randint(len(SKIN))], SLEEVES[rng.randint(len(SLEEVES))]
        sway = tuple(round(float(x), 6) for x in rng.uniform(-1, 1, size=6))
        texture_seed = int(rng.randint(2**31 - 1))
        return cls(
            seed=seed,
            appearance=appearance,
            hand=hand or drawn_hand,
            objects=objects,
            containers=containers,
            skin=skin,
            sleeve=sleeve,
            sway=sway,
            texture_seed=texture_seed,
            size=size,
            num_frames=num_frames,
            fps=fps,
            room=make_room(texture_seed),
        )

    def with_hand(self, hand: str) -> Scene:
        """The same scene and first frame, with the action done by `hand`."""
        _check_hand(hand)
        return replace(self, hand=hand)

    @property
    def prompt(self) -> str:
        """The instruction. Only the robot's prompt names the hand."""
        what = f"the {self.objects[0].name} and place it in the {self.containers[0].name}."
        return f"Use the {self.hand} hand to pick up {what}" if self.appearance == "robot" else f"Pick up {what}"

    def clip(self, camera: str = "head") -> Clip:
        """Render all frames seen by `camera` (head, left or right) with their ground truth."""
        things = self.objects + self.containers
        cameras = [self.camera(index, camera) for index in range(self.num_frames)]
        pictures = []
        tracks: dict[str, list[tuple[float, float]]] = {n: [] for n in (*HANDS, *(t.name for t in things))}
        for index, view in enumerate(cameras):
            state = self.state(index)
            pictures.append(render(self.room, self._shapes(state), view))
            for name, point in state.centers.items():
                tracks[name].append(view.project(point)[:2])
        return Clip(
            frames=np.stack([p.rgb for p in pictures]),
            labels=np.stack([p.label for p in pictures]),
            label_names={t.label: t.name for t in things} | {v: k for k, v in LABELS.items()},
            intrinsics=cameras[0].intrinsics,
            rotations=np.stack([c.rotation for c in cameras]),
            translations=np.stack([c.translation for c in cameras]),
            tracks={n: np.array(t) for n, t in tracks.items()},
            prompt=self.prompt,
            hand=self.hand,
            object=self.objects[0].name,
            container=self.containers[0].name,
            appearance=self.appearance,
            seed=self.seed,
            fps=self.fps,
        )

    def camera(self, index: int, name: str = "head") -> Camera:
        """The camera at frame `index`. The head camera sways smoothly; the side cameras are fixed."""
        base = VIEWS[name]
        fraction = index / max(self.num_frames - 1, 1)
        a, b, c, d, e, _f = self.sway
        # The head leaves its rest pose and comes part of the way back: what the first frame shows stays in view.
        lean, nod = (round(math.sin(math.pi * fraction * k), 9) for k in (0.62, 0.8)) if name == "head" else (0.0, 0.0)
        position = (base[0] + 0.026 * a * lean, base[1] + 0.014 * b * nod, base[2] + 0.014 * c * lean)
        target = (0.005 * d * lean, 0.045 + 0.005 * e * nod, 0.02)
        return aimed_camera(position, target, self.size, focal=self.size[1] * 0.92)

    def state(self, index: int) -> State:
        """Where everything is at frame `index`."""
        return state_at(
            index / max(self.num_frames - 1, 1),
            hand=self.hand,
            objects=self.objects,
            containers=self.containers,
            sway=self.sway,
            appearance=self.appearance,
        )

    def _shapes(self, state: State) -> list[Shape]:
        shapes: list[Shape] = []
        for thing in self.containers + self.objects:
            shapes += thing_shapes(thing, state.spots[thing.name])
        # Both hands have the grip width of the object: the first frame must not reveal which hand will move.
        grip = self.objects[0].radius
        for hand in HANDS:
            tip, opening = state.hands[hand]
            if state.appearance == "robot":
                shapes += robot_hand(hand, tip, opening, grip)
            else:
                shapes += human_hand(hand, tip, opening, grip, self.skin, self.sleeve)
        return shapes


def _check_hand(hand: str) -> None:
    if hand not in HANDS:
        raise ValueError(f"hand={hand!r}: choose one of {', '.join(HANDS)}")
