"""The renderer of the tabletop world: determined by the seed, correct geometry, ground truth that fits the picture."""

import hashlib

import numpy as np

from cosmos_exp.config.composing import compose_config
from cosmos_exp.config.schema import Sampson
from cosmos_exp.data.video import read_video
from cosmos_exp.metrics.geometry.epipolar import sampson_distance
from cosmos_exp.metrics.geometry.matching import SiftMatcher
from cosmos_exp.tabletop.dataset import VERSION, Kind, data_folder, make_clips
from cosmos_exp.tabletop.scene import Scene
from cosmos_exp.tabletop.world import APPEARANCES, HANDS, other_hand


def test_both_hands_share_the_first_frame_and_the_named_one_moves():
    base = Scene.sample(11, "robot")
    clips = {hand: base.with_hand(hand).clip() for hand in HANDS}
    assert (clips["left"].frames[0] == clips["right"].frames[0]).all()
    for hand, clip in clips.items():
        assert f"Use the {hand} hand" in clip.scene.prompt
        way = {h: np.abs(np.diff(clip.tracks[h], axis=0)).sum() for h in HANDS}
        assert way[hand] > 5 * way[other_hand(hand)]
        names = (clip.scene.objects[0].name, clip.scene.containers[0].name)
        gaps = np.linalg.norm(clip.tracks[names[0]] - clip.tracks[names[1]], axis=1)
        assert gaps[-1] < 10 < gaps[0]


def test_human_prompts_do_not_name_the_hand_and_both_hands_occur():
    scenes = [Scene.sample(s, "human", num_frames=1) for s in range(12)]
    assert {("hand" in s.prompt, s.hand) for s in scenes} == {(False, hand) for hand in HANDS}


def fundamental(first, second, a=0, b=0):
    """F of frame `a` of one clip and frame `b` of another, from their poses."""
    rotation = second.rotations[b] @ first.rotations[a].T
    t = second.translations[b] - rotation @ first.translations[a]
    cross = np.array([[0, -t[2], t[1]], [t[2], 0, -t[0]], [-t[1], t[0], 0]])
    inverse = np.linalg.inv(first.intrinsics)
    return inverse.T @ cross @ rotation @ inverse


def test_poses_agree_with_the_picture():
    """Two frames' known poses give F; static table points matched by SIFT satisfy it, so the geometry is correct."""
    clip = Scene.sample(2, "robot", size=(384, 640)).clip()
    matcher = SiftMatcher(Sampson())
    pictures = [np.ascontiguousarray(clip.frames[k].mean(2).astype(np.uint8)) for k in (0, 8)]
    first, second = matcher.features(pictures)
    found = matcher.match([(first, second)], (384, 640))[0]
    errors = sampson_distance(first.points[found[:, 0]], second.points[found[:, 1]], fundamental(clip, clip, 0, 8))
    assert len(errors) > 40
    assert np.median(errors) < 0.3


def test_two_views_are_side_by_side_and_two_pinhole_cameras(tmp_path):
    kind = Kind("robot", num_frames=5, views=("left", "right"))
    make_clips(tmp_path, kind, 2, seed=0)
    hands = [path.read_text().split()[2] for path in sorted((tmp_path / "metas").iterdir())]
    assert hands == ["left", "right"]  # a training pair: one scene with either hand
    assert read_video(tmp_path / "videos" / "robot_0000000.mp4").shape == (5, 96, 320, 3)
    # Two pinhole cameras satisfy the epipolar geometry of their poses exactly.
    clips = kind.clips(kind.scene(5))
    a, b = clips["left"], clips["right"]
    x, y = (np.array([c.tracks[n][0] for n in a.tracks if n not in HANDS]) for c in (a, b))
    assert sampson_distance(x, y, fundamental(a, b)).max() < 1e-6


def test_a_study_can_be_tested_on_other_scenes(tmp_path):
    config = compose_config(["data.train_clips=1", "data.test_pairs=1", "data.first_pair=3"])
    _, tests = data_folder(config, tmp_path)
    assert sorted(path.stem for path in tests.glob("*.txt")) == ["robot_0003_left", "robot_0003_right"]


def test_pixels_and_labels_are_those_of_the_recorded_version():
    """Cached data sets are reused by version: after an intended change of the pixels, change VERSION and the hash."""
    digest = hashlib.sha256()
    for appearance in APPEARANCES:
        for seed in range(3):
            for view in ("head", "left"):
                clip = Scene.sample(seed, appearance, num_frames=4).clip(view)
                for array in (clip.frames, clip.labels, clip.rotations, clip.translations, *clip.tracks.values()):
                    digest.update(array.tobytes())
                digest.update(clip.scene.prompt.encode())
    assert (VERSION, digest.hexdigest()[:16]) == ("48dc5244", "48dc52442fab0323")
