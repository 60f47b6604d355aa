"""Open a set of `cosmos-exp trajectories` with the `lerobot` library and compare every frame with the video it was made from.

Runs in a virtual environment of its own, as the library pins other versions of torch than this package:

    uv venv /tmp/lerobot-venv && uv pip install --python /tmp/lerobot-venv/bin/python lerobot
    /tmp/lerobot-venv/bin/python benchmarks/check_lerobot_set.py SET

The single videos are found in SET/.made by the hash that the table of episodes has. The first difference is an error.
"""

import argparse
import hashlib
from pathlib import Path

import av
import numpy as np
from lerobot.datasets.lerobot_dataset import CODEBASE_VERSION, LeRobotDataset


def made_videos(folder):
    """The single videos by their hash."""
    files = [p for name in ("videos", "demonstrations") for p in sorted((folder / ".made" / name).glob("*.mp4"))]
    return {hashlib.sha256(p.read_bytes()).hexdigest(): p for p in files}


def read(path):
    """All frames, uint8 (T, H, W, 3)."""
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def pixels(item, camera):
    """The library's picture, uint8 (H, W, 3)."""
    return (item[camera].numpy().transpose(1, 2, 0) * 255).round().astype(np.uint8)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("set", type=Path)
    args = parser.parse_args()
    dataset = LeRobotDataset(f"local/{args.set.name}", root=args.set, video_backend="pyav")
    (camera,) = dataset.meta.video_keys
    files, compared = made_videos(args.set), 0
    for row in dataset.meta.episodes.to_pandas().itertuples():
        frames, where = read(files[row.video_sha256]), f"episode {row.episode_index}"
        items = [dataset[i] for i in range(row.dataset_from_index, row.dataset_to_index)]
        for k, (frame, item) in enumerate(zip(frames, items, strict=True)):
            assert np.array_equal(pixels(item, camera), frame), f"{where}, frame {k}: pixels"
            assert item["task"] == row.tasks[0], f"{where}, frame {k}: task"
            assert abs(float(item["timestamp"]) - k / dataset.fps) <= 1e-6, f"{where}, frame {k}: timestamp"
            compared += 1
    print(f"lerobot {CODEBASE_VERSION}: {compared} frames are equal. Features: {sorted(dataset.features)}")


if __name__ == "__main__":
    main()
