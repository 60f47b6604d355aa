"""The renderer of the tabletop world: determined by the seed, correct geometry, ground truth that fits the picture."""

import hashlib
import json

import numpy as np
import pytest

from cosmos_exp.config.schema import Sampson
from cosmos_exp.data.video import read_video
from cosmos_exp.errors import UserError
from cosmos_exp.metrics.geometry.epipolar import sampson_distance
from cosmos_exp.metrics.geometry.sampson import temporal_sampson
from cosmos_exp.tabletop.dataset import VERSION, Kind, make_clips, make_dataset
from cosmos_exp.tabletop.scene import Scene
from cosmos_exp.tabletop.world import APPEARANCES, HANDS, LABELS


def test_the_seed_determines_everything():
    one, same, other = (Scene.sample(s, "robot", num_frames=3).clip() for s in (5, 5, 6))
    assert (one.frames == same.frames).all()
    assert (one.frames != other.frames).any()
    assert one.frames.shape == (3, 96, 160, 3)


def test_both_hands_share_the_first_frame_and_the_named_one_moves():
    base = Scene.sample(11, "robot")
    clips = {hand: base.with_hand(hand).clip() for hand in HANDS}
    assert (clips["left"].frames[0] == clips["right"].frames[0]).all()
    for hand, clip in clips.items():
        assert f"Use the {hand} hand" in clip.prompt
        way = {h: np.abs(np.diff(clip.tracks[h], axis=0)).sum() for h in HANDS}
        other = HANDS[1 - HANDS.index(hand)]
        assert way[hand] > 5 * way[other]
        end = np.linalg.norm(clip.tracks[clip.object][-1] - clip.tracks[clip.container][-1])
        assert end < 10 < np.linalg.norm(clip.tracks[clip.object][0] - clip.tracks[clip.container][0])


def test_human_prompts_do_not_name_the_hand_and_both_hands_occur():
    scenes = [Scene.sample(s, "human", num_frames=1) for s in range(12)]
    assert not any("hand" in s.prompt for s in scenes)
    assert {s.hand for s in scenes} == set(HANDS)


def test_tracks_are_on_the_masks():
    hits = total = 0
    for seed in range(4):
        clip = Scene.sample(seed, "robot").clip()
        names = {n: k for k, n in clip.label_names.items()}
        for name in (clip.object, clip.container):
            visible = (clip.labels[0] == names[name]).any()
            x, y = np.round(clip.tracks[name][0]).astype(int)
            hits += int(visible and clip.labels[0, y, x] in (names[name], *LABELS.values()))
            total += 1
    assert hits >= total - 1  # one may be hidden behind another object


def test_poses_agree_with_the_picture():
    """Two frames' known poses give F; static table points matched by SIFT satisfy it, so the geometry is correct."""
    from cosmos_exp.metrics.geometry.matching import SiftMatcher

    scene = Scene.sample(2, "robot", size=(384, 640))
    clip = scene.clip()
    a, b = 0, 8
    matcher = SiftMatcher(Sampson())
    first, second = matcher.features([np.ascontiguousarray(clip.frames[k].mean(2).astype(np.uint8)) for k in (a, b)])
    found = matcher.match([(first, second)], (384, 640))[0]
    x, y = first.points[found[:, 0]], second.points[found[:, 1]]
    rotation = clip.rotations[b] @ clip.rotations[a].T
    t = clip.translations[b] - rotation @ clip.translations[a]
    cross = np.array([[0, -t[2], t[1]], [t[2], 0, -t[0]], [-t[1], t[0], 0]])
    inverse = np.linalg.inv(clip.intrinsics)
    errors = sampson_distance(x, y, inverse.T @ cross @ rotation @ inverse)
    assert len(errors) > 40
    assert np.median(errors) < 0.3


def test_clips_have_a_small_sampson_error():
    result = temporal_sampson(Scene.sample(3, "robot").clip().frames, Sampson())
    assert result.values["tse"] < 0.5


def test_two_views_are_side_by_side_and_calibrated(tmp_path):
    """The container's centre, projected with the poses in the truth file, is on its mask in both views."""
    make_clips(tmp_path, Kind("robot", num_frames=5, views=("left", "right")), 1, seed=0)
    truth = json.loads((tmp_path / "truth" / "robot_0000000.json").read_text())
    masks = np.load(tmp_path / "truth" / "robot_0000000.npz")["masks"]
    assert read_video(tmp_path / "videos" / "robot_0000000.mp4").shape == (5, 96, 320, 3)
    assert masks.shape == (2, 5, 96, 160)
    label = next(int(k) for k, name in truth["mask_labels"].items() if name == truth["container"])
    points = []
    for view, mask in zip(("left", "right"), masks, strict=True):
        x, y = np.round(truth["views"][view]["tracks"][truth["container"]][0]).astype(int)
        assert mask[0, y, x] in (label, *LABELS.values())
        points.append((x, y))
    assert points[0] != points[1]  # two viewpoints
    still = np.array(truth["views"]["left"]["translations"])
    assert np.allclose(still, still[0])  # side cameras do not sway


def test_both_views_satisfy_the_epipolar_geometry_of_their_poses():
    """Tracks of the objects in both views against F from the poses, whose error is 0 for two pinhole cameras."""
    scene = Scene.sample(5, "robot", num_frames=5)
    a, b = scene.clip("left"), scene.clip("right")
    rotation = b.rotations[0] @ a.rotations[0].T
    t = b.translations[0] - rotation @ a.translations[0]
    cross = np.array([[0, -t[2], t[1]], [t[2], 0, -t[0]], [-t[1], t[0], 0]])
    inverse = np.linalg.inv(a.intrinsics)
    names = [n for n in a.tracks if n not in HANDS]
    x, y = (np.array([c.tracks[n][2] for n in names]) for c in (a, b))
    assert sampson_distance(x, y, inverse.T @ cross @ rotation @ inverse).max() < 1e-6


def test_unknown_names_are_errors():
    with pytest.raises(ValueError, match="human, robot"):
        Scene.sample(0, "alien")
    with pytest.raises(ValueError, match="left, right"):
        Scene.sample(0, "robot", hand="third")


def test_pixels_and_labels_are_those_of_the_recorded_version():
    """Cached data sets are reused by version: after an intended change of the pixels, change VERSION and the hash."""
    digest = hashlib.sha256()
    for appearance in APPEARANCES:
        for seed in range(3):
            for view in ("head", "left"):
                clip = Scene.sample(seed, appearance, num_frames=4).clip(view)
                for array in (clip.frames, clip.labels, clip.rotations, clip.translations, *clip.tracks.values()):
                    digest.update(array.tobytes())
                digest.update(clip.prompt.encode())
    assert (VERSION, digest.hexdigest()[:16]) == ("65049d83", "1902b0fb9f337027")


def test_a_data_set_has_one_file_per_clip_and_hand_and_keeps_existing_files(tmp_path):
    videos = make_dataset(tmp_path / "train", split="train", look="human", count=1, seed=4)
    assert [v.name for v in videos] == ["human_0000004.mp4"]
    images = make_dataset(tmp_path / "test", split="test", look="robot", count=1)
    assert [i.name for i in images] == ["robot_0000_left.png", "robot_0000_right.png"]
    before = [(f.name, f.stat().st_mtime_ns) for f in sorted(tmp_path.rglob("*"))]
    make_dataset(tmp_path / "test", split="test", look="robot", count=1)
    assert [(f.name, f.stat().st_mtime_ns) for f in sorted(tmp_path.rglob("*"))] == before


@pytest.mark.parametrize(("options", "message"), [({"count": 0}, "at least 1"), ({"views": ("back",)}, "head, left")])
def test_wrong_options_of_a_data_set_are_errors(tmp_path, options, message):
    with pytest.raises(UserError, match=message):
        make_dataset(tmp_path, **{"split": "train", "look": "robot", "count": 1, **options})
    assert not list(tmp_path.iterdir())
