"""Training clips of the inverse dynamics model: rendered, with true actions, and as damaged as generated videos are."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
import torch
from tqdm import tqdm

from benchmarks.idm.actions import true_actions
from benchmarks.idm.network import MARKS
from benchmarks.pretraining.latents import autoencoder, decode, denormalise, unit_latents
from cosmos_exp.files import atomic_path
from cosmos_exp.tabletop.scene import Scene
from cosmos_exp.tabletop.world import HANDS, State

TRAIN_SEEDS, HELD_OUT_SEEDS = 91_000_000, 92_000_000  # scenes that nothing else uses
HUMAN, MORPHED = 0.25, 0.25  # shares of clips with human hands, and whose grippers turn into hands
RETIMED = 0.6  # share of clips whose motion does not follow the clock of motion.PHASES
UNDECODED = 0.2  # share of clips as rendered, without the autoencoder
LATENT_NOISE = 0.3  # largest standard deviation of the noise in unit latents: a generator's latents are never exact


@dataclass(frozen=True)
class TimedScene(Scene):
    """A scene whose frames show chosen times of the motion: without it a model could read the actions off the clock.

    moments: fraction of the motion at each frame.
    """

    moments: tuple[float, ...] = ()

    @classmethod
    def of(cls, scene: Scene, moments: np.ndarray) -> TimedScene:
        """The scene with the given moments."""
        return cls(**vars(scene), moments=tuple(round(moment, 6) for moment in moments.tolist()))

    def state(self, index: int) -> State:
        """Where everything is at frame `index`."""
        return self.moment(self.moments[index])


def training_scene(seed: int, appearance: str, rng: np.random.Generator) -> Scene:
    """The scene of `seed` with a random hand, and for a share RETIMED of scenes with another clock."""
    scene = Scene.sample(seed, appearance)
    if rng.uniform() > RETIMED:
        return scene
    clock = np.linspace(0, 1, scene.num_frames)
    bend, wave, end = rng.uniform(-0.15, 0.15), rng.uniform(-0.06, 0.06), rng.uniform(0.6, 1.0)
    return TimedScene.of(scene, end * (clock + bend * np.sin(np.pi * clock) + wave * np.sin(2 * np.pi * clock)))


@dataclass(frozen=True)
class Clips:
    """N training clips. frames: uint8 (N, T, H, W, 3). actions: float32 (N, T, 8). marks: float32 (N, T, MARKS, 2), see `marks`."""

    frames: np.ndarray
    actions: np.ndarray
    marks: np.ndarray


def training_clip(seed: int) -> dict[str, np.ndarray]:
    """Frames uint8 (T, H, W, 3), actions (T, 8) and marks (T, MARKS, 2) of one training clip; `seed` determines it."""
    rng = np.random.default_rng(seed)
    appearance = "human" if rng.uniform() < HUMAN else "robot"
    scene = training_scene(seed, appearance, rng)
    frames = scene.clip().frames
    if appearance == "robot" and rng.uniform() < MORPHED:
        frames = morphed(scene, frames, rng)
    if rng.uniform() >= UNDECODED:
        frames = decoded(frames, rng.uniform(0, LATENT_NOISE), rng)
    return {"frames": frames, "actions": true_actions(scene), "marks": marks(scene)}


def marks(scene: Scene) -> np.ndarray:
    """Where each hand's grasp point is in the picture, and the point of the table below it, float32 (T, MARKS, 2) in [-1, 1].

    The network is shown these while it learns: the first gives the direction, both together the height.
    """
    pixels, (height, width) = [], scene.size
    for index in range(scene.num_frames):
        camera, hands = scene.camera(index), scene.state(index).hands
        for hand in HANDS:
            x, y, z = hands[hand][0]
            pixels += [camera.project((x, y, z))[:2], camera.project((x, y, 0.0))[:2]]
    places = np.array(pixels).reshape(scene.num_frames, MARKS, 2)
    return (2 * places / (width - 1, height - 1) - 1).astype(np.float32)


def mirrored_marks(own: np.ndarray) -> np.ndarray:
    """The marks (..., MARKS, 2) of the mirrored clip."""
    half = MARKS // len(HANDS)
    return np.concatenate([own[..., half:, :], own[..., :half, :]], axis=-2) * np.array([-1, 1], np.float32)


def morphed(scene: Scene, frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The clip whose grippers turn into human hands from a random frame on, as in videos of the base model."""
    other = replace(scene, appearance="human").clip().frames
    start, length, most = rng.integers(0, len(frames) - 4), rng.integers(2, 8), rng.uniform(0.5, 1.0)
    share = most * np.clip((np.arange(len(frames)) - start) / length, 0, 1)[:, None, None, None]
    return np.round((1 - share) * frames + share * other).astype(np.uint8)


@torch.no_grad()
def decoded(frames: np.ndarray, noise: float, rng: np.random.Generator) -> np.ndarray:
    """Frames after the autoencoder, with Gaussian noise of standard deviation `noise` in the unit latents."""
    latents = unit_latents(autoencoder(), frames)[None]
    latents = latents + noise * torch.from_numpy(rng.standard_normal(latents.shape, np.float32))
    return decode(autoencoder(), denormalise(autoencoder(), latents))


def blurred(frames: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Frames (T, H, W, 3) with random blur, gain and grain; uint8."""
    out = frames.astype(np.float32)
    if rng.uniform() < 0.3:
        sigma = rng.uniform(0.3, 1.2)
        out = np.stack([cv2.GaussianBlur(f, (0, 0), sigma) for f in out])
    out = out * rng.uniform(0.9, 1.1) + rng.standard_normal(out.shape, np.float32) * np.float32(rng.uniform(0, 6))
    return np.clip(out + rng.uniform(-8, 8), 0, 255).astype(np.uint8)


def rendered_clips(folder: Path, count: int) -> Clips:
    """`count` training clips; each is kept in `folder`, and files of an earlier call are used again."""
    clips = []
    for k in tqdm(range(count), desc="rendering clips", unit="clip", disable=None):
        file = folder / f"{k:05d}.npz"
        if not file.is_file():
            with atomic_path(file) as temporary, open(temporary, "wb") as out:
                np.savez(out, **training_clip(TRAIN_SEEDS + k))
        with np.load(file) as clip:
            clips.append(dict(clip))
    return Clips(**{name: np.stack([clip[name] for clip in clips]) for name in clips[0]})
