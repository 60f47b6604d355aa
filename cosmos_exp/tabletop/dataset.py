"""Data sets of the tabletop world in the reference's folder layout, with each clip's truth beside it."""

from __future__ import annotations

import argparse
import hashlib
import inspect
import json
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from cosmos_exp.data.dataset import save_text
from cosmos_exp.data.video import write_image, write_video
from cosmos_exp.errors import UserError
from cosmos_exp.tabletop import render, scene
from cosmos_exp.tabletop.scene import HANDS, Clip, Scene

TRAIN_SEEDS, TEST_SEEDS = 1_000_000, 2_000_000


def truth(clip: Clip) -> dict[str, Any]:
    """The clip's truth as plain JSON: calibration, who moves what where, image tracks."""
    return {
        "seed": clip.seed, "look": clip.look, "hand": clip.hand, "object": clip.object, "container": clip.container,
        "prompt": clip.prompt, "fps": clip.fps, "intrinsics": clip.intrinsics.tolist(),
        "rotations": np.round(clip.rotations, 9).tolist(), "translations": np.round(clip.translations, 9).tolist(),
        "tracks": {n: np.round(t, 3).tolist() for n, t in clip.tracks.items()},
    }  # fmt: skip


def make_clips(out: Path, look: str, count: int, seed: int, **options: Any) -> None:
    """videos/NAME.mp4, metas/NAME.txt, truth/NAME.json for `count` clips; what is there is kept."""
    for index in tqdm(range(count), desc=f"rendering {look} clips", unit="clip", disable=None):
        name = f"{look}_{seed + index:07d}"
        if (out / "truth" / f"{name}.json").is_file():
            continue
        clip = Scene.sample(TRAIN_SEEDS + seed + index, look, **options).clip()
        write_video(out / "videos" / f"{name}.mp4", clip.frames, clip.fps)
        save_text(out / "metas" / f"{name}.txt", clip.prompt)
        save_text(out / "truth" / f"{name}.json", json.dumps(truth(clip)))


def make_pairs(out: Path, look: str, count: int, seed: int, **options: Any) -> None:
    """NAME.png with NAME.txt: each test scene's first frame; the robot is asked for with either hand."""
    for index in tqdm(range(count), desc=f"rendering {look} test frames", unit="scene", disable=None):
        base = Scene.sample(TEST_SEEDS + seed + index, look, num_frames=1, **options)
        for hand in HANDS if look == "robot" else HANDS[:1]:
            name = f"{look}_{seed + index:04d}" + (f"_{hand}" if look == "robot" else "")
            if (out / f"{name}.json").is_file():
                continue
            clip = base.with_hand(hand).clip()
            write_image(out / f"{name}.png", clip.frames[0])
            save_text(out / f"{name}.txt", clip.prompt)
            save_text(out / f"{name}.json", json.dumps(truth(clip)))


def data_folder(config: Any, cache_root: Path) -> tuple[Path, Path]:
    """The folders of training clips and test pairs that `data=tabletop` asks for, made on first use."""
    data = config.data
    code = inspect.getsource(scene) + inspect.getsource(render)
    version = hashlib.sha256(code.encode()).hexdigest()[:8]
    size = (data.height, data.width)
    kind = f"robot-{data.height}x{data.width}x{data.num_frames}-{version}"
    train = cache_root / "data" / f"tabletop-{kind}-train{data.train_clips}"
    test = cache_root / "data" / f"tabletop-{kind}-test{data.test_pairs}"
    make_clips(train, "robot", data.train_clips, 0, size=size, num_frames=data.num_frames)
    make_pairs(test, "robot", data.test_pairs, 0, size=size)
    return train, test


def command(args: argparse.Namespace) -> int:
    """`cosmos-exp data make tabletop --out DIR --split train|test`."""
    if args.count < 1:
        raise UserError(f"--count {args.count}: must be at least 1")
    out = Path(args.out)
    make = make_clips if args.split == "train" else make_pairs
    make(out, args.look, args.count, args.seed)
    print(f"{args.count} {'clips' if args.split == 'train' else 'test scenes'} in {out}")
    return 0
