"""Record a two-camera data set with the `lerobot` library and save the frames that the library reads back from it.

Runs in a virtual environment of its own, as the library pins other versions of torch than this package:

    uv venv /tmp/lerobot-venv && uv pip install --python /tmp/lerobot-venv/bin/python lerobot
    /tmp/lerobot-venv/bin/python tests/make_lerobot_set.py OUT [--codec h264] [--backend pyav]

It writes the data set to OUT/set and the frames to OUT/frames.npz: one array per camera, uint8 (all frames, H, W, 3) RGB,
`episode` with the episode of each frame, and `made` for what was recorded. tests/test_lerobot_cameras.py compares them
with what this package reads.
"""

import argparse
import inspect
import json
from pathlib import Path

import cv2
import numpy as np
from lerobot.datasets.lerobot_dataset import CODEBASE_VERSION, LeRobotDataset

CAMERAS = ("observation.images.left", "observation.images.right")
LENGTHS = (24, 31, 20)  # frames of each episode
HEIGHT, WIDTH, FPS = 96, 160, 30
FOCAL, BASELINE = 150.0, 0.25  # pixels, metres between the two cameras


def texture(seed, height, width):
    """Blobs of random colours, uint8 (height, width, 3)."""
    noise = np.random.RandomState(seed).randint(0, 255, (height // 6, width // 6, 3)).astype(np.uint8)
    return cv2.resize(noise, (width, height), interpolation=cv2.INTER_CUBIC)


def picture(camera, episode, frame):
    """A wall 3 m away and a box 1.5 m away that slides to the right, seen from one camera of a stereo rig."""
    eye = BASELINE * camera
    wall, box = texture(1 + 10 * episode, 300, 500), texture(2 + 10 * episode, 60, 60)
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for surface, depth, x, y in ((wall, 3.0, -3.3, -2.0), (box, 1.5, -0.6 + 0.03 * frame, -0.3 + 0.005 * frame)):
        pixel = 0.0133 if surface is wall else 0.01  # metres of one pixel of the texture
        scale = FOCAL * pixel / depth
        shift = [FOCAL * (x - eye) / depth + WIDTH / 2, FOCAL * y / depth + HEIGHT / 2]
        matrix = np.array([[scale, 0, shift[0]], [0, scale, shift[1]]])
        size = (WIDTH, HEIGHT)
        drawn = cv2.warpAffine(surface, matrix, size, flags=cv2.INTER_AREA)
        inside = cv2.warpAffine(np.full(surface.shape[:2], 255, np.uint8), matrix, size)
        image[inside > 127] = drawn[inside > 127]
    return image


def record(root, codec):
    """Record the episodes. Returns the recorded frames of each camera, uint8 (all frames, H, W, 3)."""
    features = {
        name: {"dtype": "video", "shape": (HEIGHT, WIDTH, 3), "names": ["height", "width", "channels"]}
        for name in CAMERAS
    }
    features["observation.state"] = {"dtype": "float32", "shape": (1,), "names": ["x"]}
    create = LeRobotDataset.create
    options = {"vcodec": codec} if codec and "vcodec" in inspect.signature(create).parameters else {}
    dataset = create(repo_id="test/two_cameras", fps=FPS, root=root, features=features, **options)
    made = {name: [] for name in CAMERAS}
    task_in_frame = "task" not in inspect.signature(dataset.add_frame).parameters
    for episode, length in enumerate(LENGTHS):
        for k in range(length):
            frame = {name: picture(c, episode, k) for c, name in enumerate(CAMERAS)}
            for name in CAMERAS:
                made[name].append(frame[name])
            frame["observation.state"] = np.array([k], np.float32)
            task = f"Slide box {episode} to the right."
            if task_in_frame:
                dataset.add_frame({**frame, "task": task})
            else:
                dataset.add_frame(frame, task=task)
        dataset.save_episode()
    if hasattr(dataset, "finalize"):
        dataset.finalize()
    return {name: np.stack(frames) for name, frames in made.items()}


def read_back(root, backend):
    """The library's frames of each camera, uint8 (all frames, H, W, 3), and the episode of each frame."""
    dataset = LeRobotDataset("test/two_cameras", root=root, video_backend=backend)
    items = [dataset[k] for k in range(len(dataset))]
    frames = {
        name: np.stack([(i[name].numpy().transpose(1, 2, 0) * 255).round().astype(np.uint8) for i in items])
        for name in CAMERAS
    }
    return frames, np.array([int(i["episode_index"]) for i in items])


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--codec", help="h264, hevc or libsvtav1; without it the library's own choice")
    parser.add_argument("--backend", default="pyav", help="pyav or torchcodec: what the library decodes with")
    args = parser.parse_args()
    made = record(args.out / "set", args.codec)
    frames, episode = read_back(args.out / "set", args.backend)
    made = {f"made {name}": f for name, f in made.items()}
    np.savez(args.out / "frames.npz", episode=episode, **frames, **made)
    print(json.dumps({"version": CODEBASE_VERSION, "frames": len(episode), "backend": args.backend}))


if __name__ == "__main__":
    main()
