"""The tabletop world for `cosmos-exp measures certify --data tabletop`: rendered clips, and faults of the scene."""

from __future__ import annotations

from functools import cache, partial
from typing import TYPE_CHECKING

import numpy as np

from cosmos_exp.errors import UserError
from cosmos_exp.metrics.certify.clips import Clip, Footage, describe
from cosmos_exp.metrics.certify.faults import FAULTS as PICTURE_FAULTS
from cosmos_exp.metrics.certify.faults import Fault
from cosmos_exp.metrics.certify.run import Material
from cosmos_exp.tabletop.faults import FAULTS, plant
from cosmos_exp.tabletop.scene import Scene

if TYPE_CHECKING:
    from cosmos_exp.world.linear_autoencoder import LinearVideoAutoencoder

SIZE = (96, 160)  # height, width
SEEDS = 83_000_000  # apart from the seeds of training, tests and benchmarks
# The same fault under another name among the picture faults, in more doses.
SAME = ("frozen", "reversed", "noise", "blur", "camera jump")


def make_material(count: int, num_frames: int, size: tuple[int, int] | None, seed: int) -> Material:
    """`count` scenes of the robot, each a recording of its own, seen through the model's autoencoder.

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
    scenes = [
        Scene.sample(SEEDS + seed + i, "robot", size=(height, width), num_frames=num_frames) for i in range(count)
    ]
    clips = [
        Clip(f"scene-{s.seed}", f"scene-{s.seed}", s.prompt, describe(num_frames, s.size, s.fps), partial(render, s))
        for s in scenes
    ]
    return Material(clips, make_faults(), through_autoencoder, "the tabletop model's autoencoder")


def render(scene: Scene) -> Footage:
    """The clip of a scene. Nothing follows it: its last frame is held where frames are needed."""
    clip = scene.clip()
    return Footage(clip.frames, clip.frames[:0], float(clip.fps), scene)


def make_faults() -> list[Fault]:
    """The picture faults, then the faults of the scene that are none of them."""
    own = [
        Fault(f"object {name}" if name in PICTURE_FAULTS else name, fault.unit, fault.doses, partial(plant_scene, name))
        for name, fault in FAULTS.items()
        if name not in SAME
    ]
    return [*PICTURE_FAULTS.values(), *own]


def plant_scene(name: str, footage: Footage, dose: float, rng: np.random.RandomState) -> np.ndarray:
    """The scene of a clip rendered again with a fault, uint8 (T, H, W, 3)."""
    assert isinstance(footage.scene, Scene)
    return plant(footage.scene, name, dose)[0]


def through_autoencoder(frames: np.ndarray) -> np.ndarray:
    """Frames uint8 (T, H, W, 3) encoded and decoded by the model's autoencoder, as every generated video is.

    Raises:
        ValueError: T is not 1 + 4k, or a side is not divisible by 8.
    """
    import torch

    from cosmos_exp.world.pixels import to_unit_range

    torch.set_num_threads(1)
    with torch.no_grad():
        latents = _autoencoder().encode(to_unit_range(frames)[None], return_dict=False)[0].mean
        back = _autoencoder().decode(latents, return_dict=False)[0][0]
    return ((back.permute(1, 2, 3, 0) + 1) * 127.5).round().clamp(0, 255).byte().numpy()


@cache
def _autoencoder() -> LinearVideoAutoencoder:
    import torch

    from cosmos_exp.tabletop.build import WEIGHTS
    from cosmos_exp.world.loading import load_vae
    from cosmos_exp.world.model_folder import ModelFolder

    return load_vae(ModelFolder(WEIGHTS, WEIGHTS), torch.float32)
