"""The tabletop world for `--data tabletop`: rendered clips, and faults of the scene."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
import torch

from benchmarks.certificate.clips import Clip, Footage
from benchmarks.certificate.faults import FAULTS as PICTURE_FAULTS
from benchmarks.certificate.faults import Fault
from benchmarks.certificate.tabletop_faults import FAULTS, plant
from benchmarks.pretraining.latents import autoencoder, decode
from cosmos_exp.errors import UserError
from cosmos_exp.tabletop.scene import Scene
from cosmos_exp.world.loading import to_unit_range

SIZE = (96, 160)  # height, width
SEEDS = 83_000_000  # apart from the seeds of training, tests and benchmarks
# The same fault under another name among the picture faults, in more doses.
SAME = ("frozen", "reversed", "noise", "blur", "camera jump")


def make_material(
    count: int, num_frames: int, size: tuple[int, int] | None, seed: int
) -> tuple[list[Clip], dict[str, Fault], Callable[[np.ndarray], np.ndarray]]:
    """`count` scenes of the robot, each a recording of its own; the faults by name; and the model's autoencoder.

    Args:
        size: height and width; None: 96x160.

    Raises:
        UserError: the autoencoder does not take this length or size.
    """
    height, width = size or SIZE
    if num_frames % 4 != 1 or height % 8 or width % 8:
        raise UserError(
            f"--frames {num_frames} --size {height}x{width}: the tabletop's autoencoder takes 1 + 4k frames and sides that "
            "are multiples of 8, e.g. --frames 17 --size 96x160"
        )
    clips = []
    for number in range(count):
        scene = Scene.sample(SEEDS + seed + number, "robot", size=(height, width), num_frames=num_frames)
        clips.append(Clip(f"scene-{scene.seed}", f"scene-{scene.seed}", scene.prompt, partial(render, scene)))
    return clips, make_faults(), through_autoencoder


def render(scene: Scene) -> Footage:
    """The clip of a scene. Nothing follows it: its last frame is held where frames are needed."""
    clip = scene.clip()
    return Footage(clip.frames, clip.frames[:0], float(scene.fps), scene)


def make_faults() -> dict[str, Fault]:
    """The picture faults, then the faults of the scene that are none of them."""
    faults = dict(PICTURE_FAULTS)
    for name, fault in FAULTS.items():
        if name not in SAME:
            title = f"object {name}" if name in PICTURE_FAULTS else name
            faults[title] = Fault(title, fault.unit, fault.doses, partial(plant_scene, name))
    return faults


def plant_scene(name: str, footage: Footage, dose: float, rng: np.random.RandomState) -> np.ndarray:
    """The scene of a clip rendered again with a fault, uint8 (T, H, W, 3)."""
    return plant(footage.scene, name, dose)[0]


@torch.no_grad()
def through_autoencoder(frames: np.ndarray) -> np.ndarray:
    """Frames uint8 (T, H, W, 3) encoded and decoded by the model's autoencoder, as every generated video is.

    Raises:
        ValueError: T is not 1 + 4k, or a side is not divisible by 8.
    """
    torch.set_num_threads(1)
    return decode(autoencoder(), autoencoder().encode(to_unit_range(frames)[None]).latent_dist.mean)
