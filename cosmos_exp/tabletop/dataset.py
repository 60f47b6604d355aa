"""Data sets of the tabletop world in the folder layout of the reference."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from tqdm import tqdm

from cosmos_exp.config.schema import Config
from cosmos_exp.data.video import write_image, write_video
from cosmos_exp.errors import UserError
from cosmos_exp.files import write_text
from cosmos_exp.tabletop.scene import VIEWS, Clip, Scene
from cosmos_exp.tabletop.world import HANDS

TRAIN_SEEDS, TEST_SEEDS = 1_000_000, 2_000_000
SELECTION_SEED = 5_000  # selection scenes are TEST_SEEDS + 5000, 5001, …
# Part of the cache folder's name. Change it with every change of the rendered pixels or prompts;
# tests/test_tabletop.py fails when pixels change.
VERSION = "48dc5244"


@dataclass(frozen=True)
class Kind:
    """A kind of clips: the appearance, the size of one view, and the cameras, side by side in the given order."""

    appearance: str
    size: tuple[int, int] = (96, 160)  # height, width
    num_frames: int = 17
    views: tuple[str, ...] = ("head",)

    def clips(self, scene: Scene) -> dict[str, Clip]:
        """The clip of a scene by camera."""
        return {view: scene.clip(view) for view in self.views}

    def scene(self, seed: int) -> Scene:
        """The scene of `seed`."""
        return Scene.sample(seed, self.appearance, size=self.size, num_frames=self.num_frames)


def data_folder(config: Config, cache_root: Path) -> tuple[Path, Path]:
    """The builder of data=tabletop: the folders of training clips and test pairs, rendered on first use.

    Raises:
        UserError: data.width is not a multiple of the number of views, or the test scenes are among those of the selection.
    """
    data = config.data
    if data.first_pair + data.test_pairs > SELECTION_SEED:
        raise UserError(f"data.first_pair={data.first_pair}: test scenes end before {SELECTION_SEED}. Lower it.")
    views = tuple(data.views or ["head"])
    if data.width % len(views):
        raise UserError(
            f"data.width={data.width}: not a multiple of the {len(views)} views. "
            f"Set data.width to {len(views)} times the width of one view."
        )
    kind = Kind(data.look, (data.height, data.width // len(views)), data.num_frames, views)
    label = f"{data.look}-{'-'.join(views)}-{data.height}x{data.width}x{data.num_frames}-{VERSION}"
    train = cache_root / "data" / f"tabletop-{label}-train{data.train_clips}"
    apart = f"-selection{data.selection_pairs}" if data.selection_pairs else ""
    first = f"-from{data.first_pair}" if data.first_pair else ""
    test = cache_root / "data" / f"tabletop-{label}-test{data.test_pairs}{first}{apart}"
    make_clips(train, kind, data.train_clips, 0)
    make_pairs(test, kind, data.test_pairs, data.first_pair)
    if data.selection_pairs:
        make_pairs(test / "selection", kind, data.selection_pairs, SELECTION_SEED)
    return train, test


def make_dataset(
    out: Path, *, split: str, look: str, views: tuple[str, ...] = ("head",), count: int, seed: int = 0
) -> list[Path]:
    """Render a data set into `out`. Existing files are kept.

    Args:
        split: train for clips, test for first frames with prompts.
        look: human or robot.
        views: cameras, side by side in each frame.
        count: number of clips or test scenes.
        seed: number of the first clip or scene.

    Returns:
        The videos (train) or the first frames (test; two per scene of the robot, one for each hand).

    Raises:
        UserError: `count` is below 1, or a view does not exist.
    """
    if count < 1:
        raise UserError(f"--count={count}: must be at least 1")
    unknown = ", ".join(sorted(set(views) - set(VIEWS)))
    if unknown:
        raise UserError(f"--views: unknown camera {unknown}. Choose from {', '.join(VIEWS)}.")
    make = make_clips if split == "train" else make_pairs
    return make(out, Kind(look, views=views), count, seed)


def make_clips(out: Path, kind: Kind, count: int, seed: int) -> list[Path]:
    """Render `count` training clips and return their videos; existing clips are kept.

    Writes videos/NAME.mp4, then metas/NAME.txt: if it exists, the clip is complete.
    """
    videos = []
    for index in tqdm(range(count), desc=f"rendering {kind.appearance} clips", unit="clip", disable=None):
        name = f"{kind.appearance}_{seed + index:07d}"
        videos.append(out / "videos" / f"{name}.mp4")
        if (out / "metas" / f"{name}.txt").is_file():
            continue
        scene = _training_scene(kind, seed + index)
        write_video(videos[-1], side_by_side(kind.clips(scene)), scene.fps)
        write_text(out / "metas" / f"{name}.txt", scene.prompt)
    return videos


def make_pairs(out: Path, kind: Kind, count: int, seed: int) -> list[Path]:
    """Render the first frames of `count` test scenes and return them; existing ones are kept.

    Writes NAME.png, NAME.mp4, the true clip without loss of compression, and then NAME.txt. Each
    robot scene has two prompts, one for each hand.
    """
    images = []
    for index in tqdm(range(count), desc=f"rendering {kind.appearance} test frames", unit="scene", disable=None):
        base = kind.scene(TEST_SEEDS + seed + index)
        for hand in HANDS if kind.appearance == "robot" else HANDS[:1]:
            name = f"{kind.appearance}_{seed + index:04d}" + (f"_{hand}" if kind.appearance == "robot" else "")
            images.append(out / f"{name}.png")
            if (out / f"{name}.txt").is_file():
                continue
            scene = base.with_hand(hand)
            write_video(out / f"{name}.mp4", side_by_side(kind.clips(scene)), scene.fps, crf=0)
            write_image(images[-1], side_by_side(kind.clips(replace(scene, num_frames=1)))[0])
            write_text(out / f"{name}.txt", scene.prompt)
    return images


def _training_scene(kind: Kind, number: int) -> Scene:
    """The scene of a training clip.

    Robot clips come in pairs: one scene with the left and with the right hand. The first frame must not reveal the hand;
    otherwise a model can ignore the word.
    """
    if kind.appearance != "robot":
        return kind.scene(TRAIN_SEEDS + number)
    return kind.scene(TRAIN_SEEDS + number // 2).with_hand(HANDS[number % 2])


def side_by_side(clips: dict[str, Clip]) -> np.ndarray:
    """Concatenate the views along the width: uint8 (T, H, views x W, 3)."""
    return np.concatenate([c.frames for c in clips.values()], axis=2)
