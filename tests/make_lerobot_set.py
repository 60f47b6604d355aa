"""Record a two-camera data set with the `lerobot` library (0.6) and save the frames that it reads back from it.

Runs in a virtual environment of its own, as the library pins other versions of torch than this package:

    uv venv /tmp/lerobot-venv && uv pip install --python /tmp/lerobot-venv/bin/python lerobot
    /tmp/lerobot-venv/bin/python tests/make_lerobot_set.py OUT [--codec h264]

It writes the data set to OUT/set and the frames to OUT/frames.npz: one array per camera, uint8 (all frames, H, W, 3) RGB,
and `episode` with the episode of each frame. tests/test_lerobot_cameras.py compares them with what this package reads.
"""

import argparse
from pathlib import Path

import numpy as np
from lerobot.configs.video import RGBEncoderConfig
from lerobot.datasets.lerobot_dataset import LeRobotDataset

CAMERAS = ("observation.images.left", "observation.images.right")
LENGTHS = (24, 31, 20)  # frames of each episode
HEIGHT, WIDTH, FPS = 96, 160, 30


def record(root, codec):
    """Record the episodes: blobs of random colours that slide by two pixels a frame."""
    kind, codec = ("image", None) if codec == "image" else ("video", codec)
    feature = {"dtype": kind, "shape": (HEIGHT, WIDTH, 3), "names": ["height", "width", "channels"]}
    encoder = RGBEncoderConfig(vcodec=codec) if codec else None
    features = dict.fromkeys(CAMERAS, feature)
    dataset = LeRobotDataset.create("test/two_cameras", FPS, features, root, rgb_encoder=encoder)
    for episode, length in enumerate(LENGTHS):
        blobs = np.random.RandomState(episode).randint(0, 255, (2, HEIGHT // 8, WIDTH // 8, 3)).astype(np.uint8)
        pictures = blobs.repeat(8, axis=1).repeat(8, axis=2)
        for k in range(length):
            frame = dict(zip(CAMERAS, np.roll(pictures, 2 * k, axis=2), strict=True))
            dataset.add_frame({**frame, "task": f"Slide box {episode} to the right."})
        dataset.save_episode()
    dataset.finalize()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument(
        "--codec", help="h264, hevc, libsvtav1, or image: no video; without it the library's own choice"
    )
    args = parser.parse_args()
    record(args.out / "set", args.codec)
    items = list(LeRobotDataset("test/two_cameras", root=args.out / "set", video_backend="pyav"))
    frames = {}
    for name in CAMERAS:
        pictures = np.stack([item[name].numpy() for item in items]).transpose(0, 2, 3, 1)
        frames[name] = (pictures * 255).round().astype(np.uint8)
    np.savez(args.out / "frames.npz", episode=[int(item["episode_index"]) for item in items], **frames)


if __name__ == "__main__":
    main()
