"""A small ray caster for the tabletop world: analytic shapes, one directional light, true shadows on the table.

Only IEEE-exact operations (+ - * / sqrt and comparisons, element by element) touch the pixels: no matrix product, no
per-pixel sine, so the decoded array is the same byte for byte on every machine. Pictures are cast at twice the size
and averaged over 2x2, with integers.

World axes: x right, y away from the viewer, z up, metres; the table top is the plane z = 0.
Camera axes as in OpenCV: x right, y down, z forward. `t` along a ray is the depth along the camera's z axis.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

FAR = 1e9
SUPERSAMPLE = 2
AMBIENT, DIFFUSE, SHADOW = 0.62, 0.45, 0.58
LIGHT = (-0.30, -0.42, 0.857)  # towards the light, unit length to three decimals

Triple = tuple[float, float, float]


@dataclass(frozen=True)
class Camera:
    """A pinhole camera. `right`, `down`, `forward` are the rows of the world-to-camera rotation."""

    position: Triple
    right: Triple
    down: Triple
    forward: Triple
    focal: float  # pixels, at the output size
    width: int
    height: int

    @property
    def intrinsics(self) -> np.ndarray:
        """3x3 matrix K for the output size; pixel centres lie at whole numbers."""
        cx, cy = (self.width - 1) / 2, (self.height - 1) / 2
        return np.array([[self.focal, 0, cx], [0, self.focal, cy], [0, 0, 1]], dtype=np.float64)

    @property
    def rotation(self) -> np.ndarray:
        """3x3 world-to-camera rotation R; a world point X has camera coordinates R X + t."""
        return np.array([self.right, self.down, self.forward], dtype=np.float64)

    @property
    def translation(self) -> np.ndarray:
        """t = -R c, three numbers in metres."""
        return np.array([-_dot(row, self.position) for row in (self.right, self.down, self.forward)])

    def project(self, point: Triple) -> tuple[float, float, float]:
        """Pixel column, pixel row and depth in metres of a world point."""
        offset = tuple(p - c for p, c in zip(point, self.position, strict=True))
        x, y, z = (_dot(row, offset) for row in (self.right, self.down, self.forward))
        z = max(z, 1e-6)
        return self.focal * x / z + (self.width - 1) / 2, self.focal * y / z + (self.height - 1) / 2, z


@dataclass(frozen=True)
class Shape:
    """One primitive. `kind` is sphere, capsule, cylinder (upright), tube (upright, open at the top) or box."""

    kind: str
    center: Triple
    size: Triple  # sphere: radius; capsule: radius; cylinder, tube: radius, height (tube: floor); box: half extents
    color: Triple  # 0 to 255
    label: int  # what the id picture shows where this is seen
    end: Triple = (0.0, 0.0, 0.0)  # capsule: other end
    turn: tuple[float, float] = (1.0, 0.0)  # box: cosine and sine of its turn about z

    def balls(self) -> list[tuple[Triple, float]]:
        """Centres and radii of one or two balls whose hull holds the shape."""
        c, s = self.center, self.size
        if self.kind == "sphere":
            return [(c, s[0])]
        if self.kind == "capsule":
            return [(c, s[0]), (self.end, s[0])]
        if self.kind == "box":
            return [(c, (s[0] ** 2 + s[1] ** 2 + s[2] ** 2) ** 0.5)]
        return [((c[0], c[1], c[2] + s[1] / 2), (s[0] ** 2 + s[1] ** 2 / 4) ** 0.5)]


@dataclass
class Room:
    """What does not move: table and wall textures (rows, columns, 3; float32 of 0 to 255) and where the table ends."""

    table: np.ndarray
    wall: np.ndarray
    texel: float = 0.0025  # metres a texel
    table_far: float = 0.42
    wall_y: float = 0.55
    labels: dict[str, int] = field(default_factory=lambda: {"table": 0, "wall": 1})


def _dot(a, b):
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]


# Each `_kind` returns the distance along rays o + t d (FAR where they miss) and `normal(hit)`, the outward normals of
# the rays that the boolean `hit` picks: few rays hit, so normals are worked out for those alone.
Hit = tuple[np.ndarray, Callable[[np.ndarray], tuple]]


def _at(values, hit):
    """The picked entries of a per-ray array; what is one number for all rays stays it."""
    return values[hit] if np.ndim(values) else values


def _points(o, d, t, hit):
    return tuple(_at(o[i], hit) + t[hit] * _at(d[i], hit) for i in range(3))


def _sphere_entry(o, d, dd, center, radius):
    oc = (o[0] - center[0], o[1] - center[1], o[2] - center[2])
    b, c = _dot(d, oc), _dot(oc, oc) - radius * radius
    h = b * b - dd * c
    return np.where(h > 0, (-b - np.sqrt(np.maximum(h, 0))) / dd, FAR)


def _sphere(o, d, center, radius) -> Hit:
    t = _sphere_entry(o, d, _dot(d, d), center, radius)

    def normal(hit):
        return tuple((p - c) / radius for p, c in zip(_points(o, d, t, hit), center, strict=True))

    return t, normal


def _capsule(o, d, start, end, radius) -> Hit:
    ba = tuple(e - s for e, s in zip(end, start, strict=True))
    oa = (o[0] - start[0], o[1] - start[1], o[2] - start[2])
    dd, baba, bad, bao, dao, oao = _dot(d, d), _dot(ba, ba), _dot(ba, d), _dot(ba, oa), _dot(d, oa), _dot(oa, oa)
    a = np.maximum(baba * dd - bad * bad, 1e-12)
    b = baba * dao - bao * bad
    c = baba * oao - bao * bao - radius * radius * baba
    h = b * b - a * c
    t_body = (-b - np.sqrt(np.maximum(h, 0))) / a
    along = bao + t_body * bad
    caps = np.minimum(_sphere_entry(o, d, dd, start, radius), _sphere_entry(o, d, dd, end, radius))
    t = np.where((h > 0) & (along > 0) & (along < baba), t_body, caps)

    def normal(hit):
        p = _points(o, d, t, hit)
        share = np.clip(_dot(tuple(p[i] - start[i] for i in range(3)), ba) / baba, 0.0, 1.0)
        return tuple((p[i] - start[i] - share * ba[i]) / radius for i in range(3))

    return t, normal


def _cylinder(o, d, base, radius, height, floor=None) -> Hit:
    """Upright cylinder; with `floor` (metres above its base) it is open at the top and hollow down to the floor."""
    ox, oy = o[0] - base[0], o[1] - base[1]
    a = np.maximum(d[0] * d[0] + d[1] * d[1], 1e-12)
    b = d[0] * ox + d[1] * oy
    h = b * b - a * (ox * ox + oy * oy - radius * radius)
    root = np.sqrt(np.maximum(h, 0))
    t_side, t_back = (-b - root) / a, (-b + root) / a
    z_side = o[2] + t_side * d[2] - base[2]
    side = (h > 0) & (z_side >= 0) & (z_side <= height) & (t_side > 0)
    t = np.where(side, t_side, FAR)
    inner = np.zeros_like(side)
    if floor is not None:  # the inner side of the far wall, seen over the rim
        z_back = o[2] + t_back * d[2] - base[2]
        inner = (h > 0) & (z_back >= floor) & (z_back <= height) & (t_back < t) & (t_back > 0) & ~side
        t = np.where(inner, t_back, t)
    lid = height if floor is None else floor
    slope = np.where(np.abs(d[2]) < 1e-9, 1e-9, d[2])
    t_lid = (base[2] + lid - o[2]) / slope
    lx, ly = ox + t_lid * d[0], oy + t_lid * d[1]
    top = (lx * lx + ly * ly <= radius * radius) & (t_lid > 0) & (t_lid < t)
    t = np.where(top, t_lid, t)

    def normal(hit):
        x, y, _ = _points(o, d, t, hit)
        way = np.where(top[hit], 0.0, np.where(inner[hit], -1.0, 1.0))
        return way * (x - base[0]) / radius, way * (y - base[1]) / radius, np.where(top[hit], 1.0, 0.0)

    return t, normal


def _box(o, d, center, half, turn) -> Hit:
    cos, sin = turn
    x, y = o[0] - center[0], o[1] - center[1]
    local_o = (cos * x + sin * y, cos * y - sin * x, o[2] - center[2])
    local_d = (cos * d[0] + sin * d[1], cos * d[1] - sin * d[0], d[2])
    near, far = [], []
    for i in range(3):
        slope = np.where(np.abs(local_d[i]) < 1e-9, 1e-9, local_d[i])
        one, two = (-half[i] - local_o[i]) / slope, (half[i] - local_o[i]) / slope
        near.append(np.minimum(one, two))
        far.append(np.maximum(one, two))
    enter = np.maximum(np.maximum(near[0], near[1]), near[2])
    leave = np.minimum(np.minimum(far[0], far[1]), far[2])
    t = np.where((enter < leave) & (leave > 0), enter, FAR)

    def normal(hit):
        n = [np.where(near[i][hit] == enter[hit], np.where(_at(local_d[i], hit) > 0, -1.0, 1.0), 0.0) for i in range(3)]
        return cos * n[0] - sin * n[1], sin * n[0] + cos * n[1], n[2]

    return t, normal


def intersect(shape: Shape, o, d) -> Hit:
    """Distance along each ray to `shape` (FAR where missed) and a function for the normals of chosen rays."""
    if shape.kind == "sphere":
        return _sphere(o, d, shape.center, shape.size[0])
    if shape.kind == "capsule":
        return _capsule(o, d, shape.center, shape.end, shape.size[0])
    if shape.kind == "cylinder":
        return _cylinder(o, d, shape.center, shape.size[0], shape.size[1])
    if shape.kind == "tube":
        return _cylinder(o, d, shape.center, shape.size[0], shape.size[1], floor=shape.size[2])
    return _box(o, d, shape.center, shape.size, shape.turn)


def _window(camera: Camera, balls: list[tuple[Triple, float]], scale: int) -> tuple[slice, slice] | None:
    """Rows and columns of the enlarged picture that the hull of some balls can touch, or None."""
    boxes = []
    for center, radius in balls:
        u, v, depth = camera.project(center)
        reach = camera.focal * radius / max(depth - radius, 0.03) * 1.15 + 1.0
        boxes.append((u - reach, u + reach, v - reach, v + reach))
    lefts, rights, tops, bottoms = zip(*boxes, strict=True)
    width, height = camera.width * scale, camera.height * scale
    left, right = max(int(min(lefts) * scale), 0), min(int(max(rights) * scale) + 2, width)
    top, bottom = max(int(min(tops) * scale), 0), min(int(max(bottoms) * scale) + 2, height)
    return (slice(top, bottom), slice(left, right)) if left < right and top < bottom else None


def _texture(image: np.ndarray, x: np.ndarray, y: np.ndarray, texel: float) -> np.ndarray:
    rows, columns = image.shape[:2]
    i = np.clip(np.floor(y / texel).astype(np.int32) + rows // 2, 0, rows - 1)
    j = np.clip(np.floor(x / texel).astype(np.int32) + columns // 2, 0, columns - 1)
    return np.take(image.reshape(-1, 3), i * columns + j, axis=0)


def _rays(camera: Camera, scale: int):
    width, height = camera.width * scale, camera.height * scale
    # Pixel (0, 0) of the output covers the enlarged pixels 0..scale-1, whose centres average to its own.
    column = (np.arange(width) + 0.5) / scale - 0.5 - (camera.width - 1) / 2
    row = (np.arange(height) + 0.5) / scale - 0.5 - (camera.height - 1) / 2
    u, v = (column / camera.focal).astype(np.float32)[None, :], (row / camera.focal).astype(np.float32)[:, None]
    return tuple(camera.right[i] * u + camera.down[i] * v + camera.forward[i] for i in range(3))


def _background(room: Room, o, d):
    down = np.where(d[2] < -1e-6, d[2], -1e-6)
    t_table = -o[2] / down
    x, y = o[0] + t_table * d[0], o[1] + t_table * d[1]
    on_table = (d[2] < -1e-6) & (y < room.table_far)
    forward = np.where(d[1] > 1e-6, d[1], 1e-6)
    t_wall = (room.wall_y - o[1]) / forward
    wall_x, wall_z = o[0] + t_wall * d[0], o[2] + t_wall * d[2]
    # Rows of both textures run away from the viewer or up; the table's origin lies in its middle.
    color = np.empty((*t_table.shape, 3), np.float32)
    color[on_table] = _texture(room.table, x[on_table], y[on_table], room.texel)
    beyond = ~on_table
    color[beyond] = _texture(room.wall, wall_x[beyond], wall_z[beyond] - 0.1, room.texel)
    t = np.where(on_table, t_table, t_wall)
    label = np.where(on_table, room.labels["table"], room.labels["wall"]).astype(np.uint8)
    return t, color, label, (on_table, x, y)


def _shadows(shapes: list[Shape], camera: Camera, table, scale: int) -> np.ndarray:
    """Brightness factor of the table: SHADOW where a shape stands between the table and the light."""
    on_table, x, y = table
    factor = np.ones(on_table.shape, np.float32)
    for shape in shapes:
        spots = []
        for center, radius in shape.balls():
            fall = center[2] / LIGHT[2]
            spots.append(((center[0] - LIGHT[0] * fall, center[1] - LIGHT[1] * fall, 0.0), radius * 1.5))
        window = _window(camera, spots, scale)
        if window is None:
            continue
        t, _ = intersect(shape, (x[window], y[window], np.float32(1e-4)), LIGHT)
        hit = (t < FAR) & (t > -1e-3) & on_table[window]
        factor[window][hit] = SHADOW
    return factor


def render(room: Room, shapes: list[Shape], camera: Camera) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One picture.

    Returns:
        rgb: uint8 (height, width, 3); label: uint8 (height, width), the label seen at each pixel;
        depth: float32 (height, width), metres along the camera's axis at the upper left of each pixel's four rays.
    """
    scale = SUPERSAMPLE
    d = _rays(camera, scale)
    depth, color, label, table = _background(room, camera.position, d)
    color *= np.where(table[0], _shadows(shapes, camera, table, scale), np.float32(1))[..., None]
    for shape in shapes:
        window = _window(camera, shape.balls(), scale)
        if window is None:
            continue
        t, normal = intersect(shape, camera.position, tuple(component[window] for component in d))
        nearer = (t < depth[window]) & (t > 0.02)
        light = AMBIENT + DIFFUSE * np.maximum(_dot(normal(nearer), LIGHT), 0.0)
        color[window][nearer] = np.asarray(shape.color, np.float32) * light[:, None]
        depth[window][nearer] = t[nearer]
        label[window][nearer] = shape.label
    large = np.clip(np.floor(color + np.float32(0.5)), 0, 255).astype(np.uint16)
    four = large[0::2, 0::2] + large[0::2, 1::2] + large[1::2, 0::2] + large[1::2, 1::2]
    return ((four + 2) // 4).astype(np.uint8), label[::scale, ::scale].copy(), depth[::scale, ::scale].copy()
