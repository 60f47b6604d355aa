"""word_effect and word_side: pairs of prompts, motion maps with known content, and the hand that really moved."""

import numpy as np
import pytest

from cosmos_exp.config.schema import Data
from cosmos_exp.config.tiling import tiling_of
from cosmos_exp.data.readers.records import TestPair
from cosmos_exp.data.scenes import different_word, one_word_apart, probes
from cosmos_exp.data.video import write_image, write_video
from cosmos_exp.files import read_json_lines
from cosmos_exp.metrics.interface import ScoredVideo
from cosmos_exp.metrics.prompt_sensitivity import (
    measure_side,
    motion_map,
    motion_maps,
    score_word_effect,
    side_share,
    word_effects,
)
from cosmos_exp.tabletop.scene import Scene


def textured(seed=0):
    """A smooth random texture, 96 x 160."""
    import cv2

    noise = np.random.RandomState(seed).uniform(0, 255, (96, 160, 3)).astype(np.float32)
    return np.clip((cv2.GaussianBlur(noise, (0, 0), 3) - 127) * 5 + 127, 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        ("Use the left hand.", "Use the right hand.", ("left", "right")),
        ("Pick up the red can", "Pick up the red ball", ("can", "ball")),
        ("Use the left hand on the left", "Use the right hand on the right", None),
        ("Use the left hand", "Use the left", None),
        ("Same", "same", None),
    ],
)
def test_the_word_in_which_two_prompts_differ(a, b, words):
    assert different_word(a, b) == words


def test_probes_swap_a_word_once(tmp_path):
    pairs = [
        TestPair("a", "Left hand takes the can.", tmp_path / "a.png"),
        TestPair("b", "the left hand on the right", tmp_path / "b.png"),
        TestPair("c", "leftover soup", tmp_path / "c.png"),
    ]
    (probe,) = probes(pairs, [["left", "right"]])
    assert (probe.name, probe.prompt, probe.image) == ("a~right", "Right hand takes the can.", pairs[0].image)
    assert [p.prompt for p in probes(pairs, [["can", "ball"]])] == ["Left hand takes the ball."]


def test_pairs_are_found_by_the_content_of_the_first_frame(tmp_path):
    for name, level in (("x_left", 10), ("x_right", 10), ("y_right", 20)):
        write_image(tmp_path / f"{name}.png", np.full((32, 32, 3), level, np.uint8))
    pairs = [TestPair(p.stem, f"use the {p.stem[2:]} hand", p) for p in sorted(tmp_path.glob("*.png"))]
    assert one_word_apart(pairs, {}) == [("x_left", "x_right", ("left", "right"))]


def test_the_motion_map_shows_what_moves_and_not_the_camera():
    still = textured()
    frames = np.stack([np.roll(still, t, axis=1) for t in range(5)])  # the camera pans by a pixel a frame
    assert motion_map(frames)[10:-10, 10:-10].mean() < 0.5
    for t in range(1, 5):
        frames[t, 30:60, 100 + 8 * t : 120 + 8 * t] = 255 * (t % 2)
    motion = motion_map(frames)
    assert motion[35:55, 105:150].mean() > 20 * motion[35:55, 20:60].mean()
    assert side_share([motion], "right") > 0.9
    assert side_share([motion], "left") + side_share([motion], "right") == pytest.approx(1)


def test_each_camera_of_a_frame_has_its_own_sides():
    """Motion on the right of the left camera is on the right, though it is in the left half of the frame."""
    camera = np.repeat(textured()[None], 4, axis=0)
    camera[1:, 30:60, 110:140] = 255
    black = np.zeros_like(camera)
    frames = np.concatenate([np.concatenate([camera, camera], axis=2), np.concatenate([camera, black], axis=2)], axis=1)
    tiling = tiling_of(Data(reader="lerobot", cameras=["a", "b", "c"], tiling="2x2"))
    maps = motion_maps(frames, 1, tiling)
    assert [m.shape for m in maps] == [(96, 160)] * 3
    assert side_share(maps, "right") > 0.95


def test_the_effect_of_a_word_is_counted_in_effects_of_the_noise():
    ones = np.ones((4, 4), np.float32)
    maps = {("a", 0): [0 * ones], ("a", 1): [2 * ones], ("b", 0): [6 * ones], ("b", 1): [10 * ones]}
    effects = word_effects(maps, ("a", "b"))  # noise: |0 - 2| and |6 - 10|, mean 3
    assert {s: v for s, (v, _) in effects.items()} == {0: pytest.approx(6 / 3), 1: pytest.approx(8 / 3)}
    assert effects[0][1]["noise_distance"] == pytest.approx(3)
    (value, detail) = word_effects({k: v for k, v in maps.items() if k[1] == 0}, ("a", "b"))[0]
    assert value is None
    assert "generation.seeds" in detail["reason"]


def test_scores_are_written_once_per_pair_and_seed(tmp_path):
    videos = []
    for sample in ("a", "b"):
        for seed in (0, 1):
            frames = np.repeat(textured()[None], 4, axis=0)
            column = {"a": 20, "b": 110}[sample] + 4 * seed
            frames[1:, 30:60, column : column + 20] = 255
            videos.append(ScoredVideo(sample, seed, sample, tmp_path / f"{sample}{seed}.mp4"))
            write_video(videos[-1].path, frames, 8)
    for _ in range(2):
        score_word_effect([("a", "b", ("left", "right"))], videos, tmp_path / "scores.jsonl", tiling_of(Data()))
    rows = read_json_lines(tmp_path / "scores.jsonl")
    assert [(r["sample"], r["seed"], r["detail"]["other"]) for r in rows] == [("a", 0, "b"), ("a", 1, "b")]
    assert all(r["value"] > 2 for r in rows)


def test_the_named_hand_has_more_motion_on_its_side(tmp_path, small_config):
    """Against the truth of rendered scenes: the hand that moves is known."""
    videos = []
    for seed in range(3):
        for hand in ("left", "right"):
            scene = Scene.sample(6_000_000 + seed, "robot", hand)
            videos.append(ScoredVideo(hand, seed, scene.prompt, tmp_path / f"{seed}{hand}.mp4"))
            write_video(videos[-1].path, scene.clip().frames, 8)
    still = tmp_path / "still.mp4"
    write_video(still, np.zeros((3, 32, 32, 3), np.uint8), 8)
    videos += [ScoredVideo("a", 0, prompt, still) for prompt in ("use the left hand", "left and right")]
    *named, nothing, no_side = [m.values["word_side"] for m in measure_side(videos, small_config(), 1)]
    assert min(value for value, _ in named) > 0.5
    assert nothing == (None, "nothing moves")
    assert no_side == (None, "the prompt does not name one side, left or right")
    assert measure_side(videos[-1:], small_config(), 1) is None
