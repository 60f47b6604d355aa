"""Data sets of the tabletop world in the reference's folder layout, with each clip's truth beside it."""

from __future__ import annotations

import argparse
import hashlib
import inspect
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from cosmos_exp.data.video import write_image, write_video
from cosmos_exp.errors import UserError
from cosmos_exp.files import atomic_path, save_text
from cosmos_exp.tabletop import render, scene
from cosmos_exp.tabletop.scene import HANDS, VIEWS, Clip, Scene

TRAIN_SEEDS, TEST_SEEDS = 1_000_000, 2_000_000


@dataclass(frozen=True)
class Kind:
    """Which clips: the look, the size of one view, and the cameras, side by side in the given order."""

    look: str
    size: tuple[int, int] = (96, 160)
    num_frames: int = 17
    views: tuple[str, ...] = ("head",)

    def scene(self, seed: int, num_frames: int | None = None) -> Scene:
        """The scene of a seed in this kind."""
        return Scene.sample(seed, self.look, size=self.size, num_frames=num_frames or self.num_frames)


def truth(clips: dict[str, Clip]) -> dict[str, Any]:
    """The clip's truth as plain JSON: who moves what where; for each view its calibration and image tracks."""
    clip = next(iter(clips.values()))
    views = {
        name: {
            "intrinsics": c.intrinsics.tolist(),
            "rotations": np.round(c.rotations, 9).tolist(),
            "translations": np.round(c.translations, 9).tolist(),
            "tracks": {n: np.round(t, 3).tolist() for n, t in c.tracks.items()},
        }
        for name, c in clips.items()
    }
    return {
        "seed": clip.seed,
        "look": clip.look,
        "hand": clip.hand,
        "object": clip.object,
        "container": clip.container,
        "prompt": clip.prompt,
        "fps": clip.fps,
        "layout": f"1x{len(clips)}",
        "views": views,
        "mask_labels": {str(k): v for k, v in sorted(clip.label_names.items())},
    }


def save_truth(stem: Path, clips: dict[str, Clip]) -> None:
    """NAME.json and NAME.npz: `masks`, uint8 (views, T, H, W), what each pixel shows by `mask_labels`.

    The JSON comes last: where it is, the clip is whole.
    """
    stem.parent.mkdir(parents=True, exist_ok=True)
    with atomic_path(stem.with_suffix(".npz")) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, masks=np.stack([c.labels for c in clips.values()]))
    save_text(stem.with_suffix(".json"), json.dumps(truth(clips)))


def side_by_side(clips: dict[str, Clip]) -> np.ndarray:
    """The views in a row: uint8 (T, H, views x W, 3)."""
    return np.concatenate([c.frames for c in clips.values()], axis=2)


def make_clips(out: Path, kind: Kind, count: int, seed: int) -> None:
    """videos/NAME.mp4, metas/NAME.txt, truth/NAME.json and .npz for `count` clips; what is there is kept."""
    for index in tqdm(range(count), desc=f"rendering {kind.look} clips", unit="clip", disable=None):
        name = f"{kind.look}_{seed + index:07d}"
        if (out / "truth" / f"{name}.json").is_file():
            continue
        scene = _training_scene(kind, seed + index)
        clips = {view: scene.clip(view) for view in kind.views}
        write_video(out / "videos" / f"{name}.mp4", side_by_side(clips), scene.fps)
        save_text(out / "metas" / f"{name}.txt", scene.prompt)
        save_truth(out / "truth" / name, clips)


def _training_scene(kind: Kind, number: int) -> Scene:
    """Robot clips come in pairs, one scene with either hand: the frame alone must not tell which, or nobody learns the word."""
    if kind.look != "robot":
        return kind.scene(TRAIN_SEEDS + number)
    return kind.scene(TRAIN_SEEDS + number // 2).with_hand(HANDS[number % 2])


def make_pairs(out: Path, kind: Kind, count: int, seed: int) -> None:
    """NAME.png with NAME.txt: each test scene's first frame; the robot is asked for with either hand."""
    for index in tqdm(range(count), desc=f"rendering {kind.look} test frames", unit="scene", disable=None):
        base = kind.scene(TEST_SEEDS + seed + index, num_frames=1)
        for hand in HANDS if kind.look == "robot" else HANDS[:1]:
            name = f"{kind.look}_{seed + index:04d}" + (f"_{hand}" if kind.look == "robot" else "")
            if (out / f"{name}.json").is_file():
                continue
            scene = base.with_hand(hand)
            clips = {view: scene.clip(view) for view in kind.views}
            write_image(out / f"{name}.png", side_by_side(clips)[0])
            save_text(out / f"{name}.txt", scene.prompt)
            save_truth(out / name, clips)


def data_folder(config: Any, cache_root: Path) -> tuple[Path, Path]:
    """The folders of training clips and test pairs that `data=tabletop` asks for, made on first use."""
    data = config.data
    code = inspect.getsource(scene) + inspect.getsource(render) + inspect.getsource(_training_scene)
    version = hashlib.sha256(code.encode()).hexdigest()[:8]
    views = tuple(data.views or ["head"])
    if data.width % len(views):
        raise UserError(f"data.width={data.width} does not hold {len(views)} views of equal width")
    kind = Kind(data.look, (data.height, data.width // len(views)), data.num_frames, views)
    label = f"{data.look}-{'-'.join(views)}-{data.height}x{data.width}x{data.num_frames}-{version}"
    train = cache_root / "data" / f"tabletop-{label}-train{data.train_clips}"
    test = cache_root / "data" / f"tabletop-{label}-test{data.test_pairs}"
    make_clips(train, kind, data.train_clips, 0)
    make_pairs(test, kind, data.test_pairs, 0)
    return train, test


def command(args: argparse.Namespace) -> int:
    """`cosmos-exp data make tabletop --out DIR --split train|test`."""
    if args.count < 1:
        raise UserError(f"--count {args.count}: must be at least 1")
    unknown = [v for v in args.views.split(",") if v not in VIEWS]
    if unknown:
        raise UserError(f"--views: no camera {', '.join(unknown)}; there are {', '.join(VIEWS)}")
    out = Path(args.out)
    make = make_clips if args.split == "train" else make_pairs
    make(out, Kind(args.look, views=tuple(args.views.split(","))), args.count, args.seed)
    print(f"{args.count} {'clips' if args.split == 'train' else 'test scenes'} in {out}")
    return 0
