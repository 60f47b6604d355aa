"""The tabletop world: a humanoid's head camera looks onto a table, one hand moves one object into one container.

    scene = Scene.sample(seed=7, look="robot")       # layout, colours, camera path, which hand
    clip = scene.clip()                              # Clip: frames uint8 (17, 96, 160, 3) and the truth
    other = scene.with_hand("left").clip()           # the same first frame, the other hand

Everything follows from the seed. Two looks: `human` (skin, sleeves, many tones; the prompt does not name the hand)
and `robot` (black and grey two-finger grippers; the prompt names it and it obeys).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np

from cosmos_exp.tabletop.render import Camera, Room, Shape, Triple, render

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
LOOKS = ("human", "robot")
VIEWS = {"head": (0.0, -0.50, 0.56), "left": (-0.30, -0.42, 0.50), "right": (0.30, -0.42, 0.50)}  # camera places
TABLE_TONE: Triple = (186, 142, 98)  # of the wood, before a scene's own shade
SKIN: tuple[Triple, ...] = ((236, 190, 160), (214, 160, 124), (176, 120, 86), (128, 84, 58), (92, 60, 44))
SLEEVES: tuple[Triple, ...] = ((70, 84, 128), (150, 52, 60), (90, 120, 90), (180, 170, 150), (60, 60, 66))
LABELS = {"table": 0, "wall": 1, "left": 2, "right": 3}
FIRST_OBJECT_LABEL = 10
FIRST_CONTAINER_LABEL = 20
GRASP_HEIGHT = 0.035
# Shares of the clip at which each phase ends: reach, close, carry, open; the rest draws back.
PHASES = (0.30, 0.36, 0.74, 0.80)


@dataclass(frozen=True)
class Thing:
    """An object or container on the table; `radius` in metres, `place` is where it stands at the start."""

    kind: str
    color: str
    place: tuple[float, float]
    radius: float
    turn: tuple[float, float]
    label: int

    @property
    def name(self) -> str:
        """As prompts call it, e.g. `red block`."""
        return f"{self.color} {self.kind}"


@dataclass(frozen=True)
class Clip:
    """A rendered clip with its truth.

    frames: uint8 (T, H, W, 3), RGB. labels: uint8 (T, H, W), what each pixel shows (`label_names`).
    intrinsics: (3, 3). rotations (T, 3, 3), translations (T, 3): world to camera, OpenCV axes, metres.
    tracks: name -> (T, 2), pixel column and row of the thing's centre, also where it is hidden.
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
    look: str
    seed: int
    fps: int


@dataclass(frozen=True)
class Scene:
    """Layout, look, camera path and action of one clip; see `Scene.sample`."""

    seed: int
    look: str
    hand: str
    objects: tuple[Thing, ...]
    containers: tuple[Thing, ...]
    skin: Triple
    sleeve: Triple
    sway: tuple[float, ...]
    texture_seed: int
    size: tuple[int, int] = (96, 160)
    num_frames: int = 17
    fps: int = 8
    room: Room = field(default_factory=lambda: Room(np.zeros((1, 1, 3)), np.zeros((1, 1, 3))), repr=False)

    @classmethod
    def sample(cls, seed: int, look: str, hand: str | None = None, **options) -> Scene:
        """Draw a scene. `hand` None lets the seed choose; `options` are the fields `size`, `num_frames`, `fps`.

        Raises:
            ValueError: for a look or hand that does not exist.
        """
        if look not in LOOKS:
            raise ValueError(f"look={look!r}: choose one of {', '.join(LOOKS)}")
        if hand is not None and hand not in HANDS:
            raise ValueError(f"hand={hand!r}: choose one of {', '.join(HANDS)}")
        rng = np.random.RandomState(np.random.MT19937(np.random.SeedSequence((seed, 0x7AB1E))))
        drawn_hand = HANDS[rng.randint(2)]
        objects, containers = _place_things(rng)
        skin, sleeve = SKIN[rng.randint(len(SKIN))], SLEEVES[rng.randint(len(SLEEVES))]
        sway = tuple(round(float(x), 6) for x in rng.uniform(-1, 1, size=6))
        texture_seed = int(rng.randint(2**31 - 1))
        return cls(
            seed,
            look,
            hand or drawn_hand,
            objects,
            containers,
            skin,
            sleeve,
            sway,
            texture_seed,
            room=_room(texture_seed),
            **options,
        )

    def with_hand(self, hand: str) -> Scene:
        """The same scene and first frame, done by `hand`."""
        if hand not in HANDS:
            raise ValueError(f"hand={hand!r}: choose one of {', '.join(HANDS)}")
        return replace(self, hand=hand)

    @property
    def prompt(self) -> str:
        """The instruction; only the robot's names the hand."""
        what = f"the {self.objects[0].name} and place it in the {self.containers[0].name}."
        return f"Use the {self.hand} hand to pick up {what}" if self.look == "robot" else f"Pick up {what}"

    def clip(self, camera: str = "head") -> Clip:
        """Render all frames seen by `camera` (head, left or right) with their truth."""
        frames, labels, cameras = [], [], []
        names = {t.label: t.name for t in self.objects + self.containers} | {v: k for k, v in LABELS.items()}
        tracks: dict[str, list[tuple[float, float]]] = {
            n: [] for n in (*HANDS, *(t.name for t in self.objects + self.containers))
        }
        for index in range(self.num_frames):
            view = self.camera(index, camera)
            state = self.state(index)
            rgb, label, _ = render(self.room, self._shapes(state), view)
            frames.append(rgb)
            labels.append(label)
            cameras.append(view)
            for name, point in state["centers"].items():
                tracks[name].append(view.project(point)[:2])
        return Clip(
            np.stack(frames),
            np.stack(labels),
            names,
            cameras[0].intrinsics,
            np.stack([c.rotation for c in cameras]),
            np.stack([c.translation for c in cameras]),
            {n: np.array(t) for n, t in tracks.items()},
            self.prompt,
            self.hand,
            self.objects[0].name,
            self.containers[0].name,
            self.look,
            self.seed,
            self.fps,
        )

    def camera(self, index: int, name: str = "head") -> Camera:
        """The camera at frame `index`. It sways smoothly around its rest pose; side cameras stand still on a rig."""
        base = VIEWS[name]
        share = index / max(self.num_frames - 1, 1)
        a, b, c, d, e, _f = self.sway
        # From rest along a random way and part of it back: what the first frame shows stays where it was for a while.
        lean, nod = (round(math.sin(math.pi * share * k), 9) for k in (0.62, 0.8)) if name == "head" else (0.0, 0.0)
        position = (base[0] + 0.026 * a * lean, base[1] + 0.014 * b * nod, base[2] + 0.014 * c * lean)
        target = (0.005 * d * lean, 0.045 + 0.005 * e * nod, 0.02)
        return _look_at(position, target, self.size, focal=self.size[1] * 0.92)

    def state(self, index: int) -> dict:
        """Where everything is at frame `index`: centres, gripper opening, both hands."""
        share = index / max(self.num_frames - 1, 1)
        thing, goal = self.objects[0], self.containers[0]
        start = (*thing.place, GRASP_HEIGHT)
        end = (*goal.place, GRASP_HEIGHT + 0.012)
        rest = _rest(self.hand, share, self.sway[HANDS.index(self.hand)])
        p_reach, p_close, p_carry, p_open = PHASES
        opening, held = 1.0, False
        if share <= p_reach:
            tip = _arc(rest, start, _ease(share / p_reach), 0.05)
        elif share <= p_close:
            tip, opening = start, 1.0 - _ease((share - p_reach) / (p_close - p_reach))
        elif share <= p_carry:
            tip, opening, held = _arc(start, end, _ease((share - p_close) / (p_carry - p_close)), 0.11), 0.0, True
        elif share <= p_open:
            tip, opening, held = end, _ease((share - p_carry) / (p_open - p_carry)), False
        else:
            tip = _arc(end, rest, _ease((share - p_open) / (1 - p_open)), 0.06)
        lift = tip[2] - GRASP_HEIGHT
        if held:
            spot = (tip[0], tip[1], lift)
        elif share > p_carry:
            spot = (*goal.place, 0.012)
        else:
            spot = (*thing.place, 0.0)
        other = HANDS[1 - HANDS.index(self.hand)]
        hands = {self.hand: (tip, opening), other: (_rest(other, share, self.sway[HANDS.index(other)]), 1.0)}
        spots = {t.name: (*t.place, 0.0) for t in self.objects + self.containers} | {thing.name: spot}
        middle = {t.name: 0.03 if t in self.objects else 0.015 for t in self.objects + self.containers}
        centers = {n: (s[0], s[1], s[2] + middle[n]) for n, s in spots.items()}
        return {"hands": hands, "spots": spots, "centers": centers | {h: hands[h][0] for h in HANDS}}

    def _shapes(self, state: dict) -> list[Shape]:
        shapes: list[Shape] = []
        for thing in self.containers + self.objects:
            shapes += _thing_shapes(thing, state["spots"][thing.name])
        for hand in HANDS:
            tip, opening = state["hands"][hand]
            build = _robot_hand if state.get("look", self.look) == "robot" else _human_hand
            # Both hands open as wide, whichever will move: the first frame must not give the action away.
            shapes += build(hand, tip, opening, self.objects[0].radius, self)
        return shapes


def _ease(x: float) -> float:
    x = min(max(x, 0.0), 1.0)
    return x * x * (3 - 2 * x)


def _arc(a: Triple, b: Triple, share: float, height: float) -> Triple:
    up = 4 * share * (1 - share) * height
    return tuple(p + (q - p) * share + (up if i == 2 else 0.0) for i, (p, q) in enumerate(zip(a, b, strict=True)))  # type: ignore[return-value]


def _rest(hand: str, share: float, phase: float) -> Triple:
    """Where a hand waits: in view below left or right, breathing a little."""
    side = -1.0 if hand == "left" else 1.0
    sway = round(math.sin(math.pi * (share * 1.2 + phase)), 9)
    return side * (0.215 + 0.006 * sway), -0.155 + 0.004 * sway, 0.06 + 0.004 * sway


def _look_at(position: Triple, target: Triple, size: tuple[int, int], focal: float) -> Camera:
    forward = tuple(t - p for t, p in zip(target, position, strict=True))
    norm = math.sqrt(sum(x * x for x in forward))
    f = tuple(round(x / norm, 9) for x in forward)
    flat = math.sqrt(f[0] * f[0] + f[1] * f[1])
    right = (round(f[1] / flat, 9), round(-f[0] / flat, 9), 0.0)
    down = (f[1] * right[2] - f[2] * right[1], f[2] * right[0] - f[0] * right[2], f[0] * right[1] - f[1] * right[0])
    place = tuple(round(p, 9) for p in position)
    return Camera(place, right, down, f, focal, size[1], size[0])  # type: ignore[arg-type]


def _place_things(rng: np.random.RandomState) -> tuple[tuple[Thing, ...], tuple[Thing, ...]]:
    """Two or three objects and one or two containers, all of different colours, none touching another."""
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


def _thing_shapes(thing: Thing, spot: Triple) -> list[Shape]:
    color, r, label = COLORS[thing.color], thing.radius, thing.label
    x, y, z = spot
    if thing.kind == "block":
        return [Shape("box", (x, y, z + r * 0.9), (r * 0.9, r * 0.9, r * 0.9), color, label, turn=thing.turn)]
    if thing.kind == "ball":
        return [Shape("sphere", (x, y, z + r), (r, 0, 0), color, label)]
    if thing.kind == "can":
        band = tuple(c * 0.72 for c in color)
        return [
            Shape("cylinder", (x, y, z), (r * 0.85, 0.07, 0), color, label),
            Shape("cylinder", (x, y, z + 0.025), (r * 0.86, 0.02, 0), band, label),  # type: ignore[arg-type]
        ]
    if thing.kind == "plate":
        light = tuple(min(c * 1.12 + 8, 255) for c in color)
        return [
            Shape("cylinder", (x, y, z), (r, 0.008, 0), color, label),
            Shape("cylinder", (x, y, z), (r * 0.7, 0.0095, 0), light, label),  # type: ignore[arg-type]
        ]
    if thing.kind == "bowl":
        return [Shape("tube", (x, y, z), (r, 0.036, 0.008), color, label)]
    walls = [(0.0, 1), (0.0, -1), (1, 0.0), (-1, 0.0)]
    cos, sin = thing.turn
    shapes = [Shape("box", (x, y, z + 0.004), (r, r * 0.8, 0.004), color, label, turn=thing.turn)]
    for i, j in walls:
        dx, dy = i * r, j * r * 0.8
        half = (0.005, r * 0.8, 0.013) if i else (r, 0.005, 0.013)
        at = (x + cos * dx - sin * dy, y + sin * dx + cos * dy, z + 0.013)
        shapes.append(Shape("box", at, half, tuple(c * 0.86 for c in color), label, turn=thing.turn))  # type: ignore[arg-type]
    return shapes


def _shoulder(hand: str) -> Triple:
    return (-0.36 if hand == "left" else 0.36, -0.44, 0.16)


def _robot_hand(hand: str, tip: Triple, opening: float, grip: float, scene: Scene) -> list[Shape]:
    """Black arm, grey palm, two fingers left and right of the grasp point that end at it."""
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


def _human_hand(hand: str, tip: Triple, opening: float, grip: float, scene: Scene) -> list[Shape]:
    """Sleeve, forearm, round palm, a thumb on the inner side and three fingers on the outer."""
    label, x, y, z = LABELS[hand], *tip
    inner = 1.0 if hand == "left" else -1.0
    gap = grip + 0.004 + 0.020 * opening
    palm, shoulder = (x - inner * 0.008, y - 0.036, z + 0.050), _shoulder(hand)
    cuff = tuple(s + (p - s) * 0.66 for s, p in zip(shoulder, palm, strict=True))
    shapes = [
        Shape("capsule", shoulder, (0.036, 0, 0), scene.sleeve, label, end=cuff),  # type: ignore[arg-type]
        Shape("capsule", cuff, (0.024, 0, 0), scene.skin, label, end=palm),  # type: ignore[arg-type]
        Shape("sphere", palm, (0.034, 0, 0), scene.skin, label),
    ]
    thumb = (x + inner * gap, y - 0.004, z - 0.004)
    shapes.append(Shape("capsule", palm, (0.0105, 0, 0), scene.skin, label, end=thumb))
    for k in range(3):
        end = (x - inner * gap, y + 0.018 - 0.016 * k, z - 0.006)
        knuckle = (palm[0] - inner * 0.022, palm[1] + 0.022 - 0.014 * k, palm[2])
        shapes.append(Shape("capsule", knuckle, (0.0095, 0, 0), scene.skin, label, end=end))
    return shapes


def _value_noise(rng: np.random.RandomState, rows: int, columns: int, cell_y: int, cell_x: int) -> np.ndarray:
    """Bilinear noise of -1 to 1 with the given cell size in texels."""
    grid = rng.uniform(-1, 1, size=(rows // cell_y + 2, columns // cell_x + 2))
    y, x = np.arange(rows) / cell_y, np.arange(columns) / cell_x
    i, j = np.floor(y).astype(int), np.floor(x).astype(int)
    fy, fx = (y - i)[:, None], (x - j)[None, :]
    a, b, c, d = grid[i][:, j], grid[i][:, j + 1], grid[i + 1][:, j], grid[i + 1][:, j + 1]
    return a * (1 - fy) * (1 - fx) + b * (1 - fy) * fx + c * fy * (1 - fx) + d * fy * fx


def _room(seed: int) -> Room:
    """A wooden table of planks with knots, and a wall with a few pictures.

    The marks are soft and 4 to 8 pixels wide: keypoints to SIFT, and still something that a code of 4x8x8 keeps.
    """
    rng = np.random.RandomState(np.random.MT19937(np.random.SeedSequence((seed, 0x300D))))
    rows, columns = 480, 640
    wood = np.array(TABLE_TONE) + rng.uniform(-14, 14)
    grain = 7 * _value_noise(rng, rows, columns, 16, 120) + 5 * _value_noise(rng, rows, columns, 60, 160)
    table = wood[None, None, :] + grain[..., None] * np.array((1.0, 0.9, 0.75))
    for k in range(1, 6):
        row = k * rows // 6 + int(rng.randint(-6, 7))
        table[row - 3 : row + 4] *= (1 - 0.3 * np.array((0.3, 0.6, 0.9, 1.0, 0.9, 0.6, 0.3)))[:, None, None]
    _marks(table, rng, 75, 11, 19, ((70, 44, 26), (240, 214, 172), (96, 60, 36)))
    wall = np.array((176, 184, 188)) + rng.uniform(-10, 10) + 5 * _value_noise(rng, 240, columns, 40, 40)[..., None]
    _marks(wall, rng, 30, 12, 22, ((110, 118, 130), (224, 226, 224), (140, 110, 100)))
    for _ in range(3):
        top, left = rng.randint(30, 140), rng.randint(10, columns - 90)
        height, width = rng.randint(30, 60), rng.randint(40, 80)
        wall[top : top + height, left : left + width] = (70, 62, 56)
        wall[top + 6 : top + height - 6, left + 6 : left + width - 6] = rng.uniform(90, 220, size=3)
    table, wall = (np.ascontiguousarray(np.clip(x, 0, 255), dtype=np.float32) for x in (table, wall))
    return Room(table, wall)


def _marks(image: np.ndarray, rng: np.random.RandomState, count: int, low: int, high: int, tones) -> None:
    """Print `count` soft round knots, `low` to `high` texels wide."""
    rows, columns = image.shape[:2]
    for _ in range(count):
        size = int(rng.randint(low, high))
        y, x = int(rng.randint(0, rows - size)), int(rng.randint(0, columns - size))
        grid = (np.arange(size) - (size - 1) / 2) / (size / 2)
        cover = np.clip(1.6 * (1 - grid[:, None] ** 2 - grid[None, :] ** 2), 0, 1)[..., None]
        patch = image[y : y + size, x : x + size]
        patch[:] = patch * (1 - cover) + cover * np.array(tones[int(rng.randint(len(tones)))])
