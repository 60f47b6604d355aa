"""word_effect and word_side: pairs of prompts, motion maps with known content, and the hand that really moved."""

import numpy as np
import pytest
from conftest import texture

from cosmos_exp.config.schema import Data
from cosmos_exp.config.tiling import tiling_of
from cosmos_exp.data.readers.records import TestPair
from cosmos_exp.data.scenes import different_word, one_word_apart, probes
from cosmos_exp.data.video import write_image, write_video
from cosmos_exp.files import read_json_lines, write_json_lines
from cosmos_exp.metrics.interface import ScoredVideo
from cosmos_exp.metrics.kept import score_kept
from cosmos_exp.metrics.prompt_sensitivity import (
    measure_side,
    motion_map,
    motion_maps,
    score_word_effect,
    side_share,
    word_effects,
)
from cosmos_exp.tabletop.scene import Scene


@pytest.mark.parametrize(
    ("a", "b", "words"),
    [
        ("Use the left hand.", "Use the right hand.", ("left", "right")),
        ("Use the left hand on the left", "Use the right hand on the right", None),
        ("Use the left hand", "Use the left", None),
    ],
)
def test_the_word_in_which_two_prompts_differ(a, b, words):
    assert different_word(a, b) == words


def test_probes_swap_a_word_once(tmp_path):
    prompts = {"a": "Left hand takes the can.", "b": "the left hand on the right", "c": "leftover soup"}
    pairs = [TestPair(name, prompt, tmp_path / "a.png") for name, prompt in prompts.items()]
    (probe,) = probes(pairs, [["left", "right"]])
    assert (probe.name, probe.prompt, probe.image) == ("a~right", "Right hand takes the can.", pairs[0].image)


def test_pairs_are_found_by_the_content_of_the_first_frame(tmp_path):
    pairs = []
    for name, level in (("x_left", 10), ("x_right", 10), ("y_right", 20)):
        pairs.append(TestPair(name, f"use the {name[2:]} hand", tmp_path / f"{name}.png"))
        write_image(pairs[-1].image, np.full((32, 32, 3), level, np.uint8))
    assert one_word_apart(pairs) == [("x_left", "x_right", ("left", "right"))]


def test_the_motion_map_shows_what_moves_and_not_the_camera():
    still = texture()
    frames = np.stack([np.roll(still, t, axis=1) for t in range(5)])  # the camera pans by a pixel a frame
    assert motion_map(frames)[10:-10, 10:-10].mean() < 0.5
    for t in range(1, 5):
        frames[t, 30:60, 100 + 8 * t : 120 + 8 * t] = 255 * (t % 2)
    motion = motion_map(frames)
    assert motion[35:55, 105:150].mean() > 20 * motion[35:55, 20:60].mean()
    assert side_share([motion], "right") > 0.9
    assert side_share([motion], "left") < 0.1


def test_each_camera_of_a_frame_has_its_own_sides():
    """Motion on the right of the left camera is on the right, though it is in the left half of the frame."""
    camera = np.repeat(texture()[None], 4, axis=0)
    camera[1:, 30:60, 110:140] = 255
    tiling = tiling_of(Data(reader="lerobot", cameras=["a", "b"], tiling="1x2"))
    maps = motion_maps(np.concatenate([camera, camera], axis=2), 1, tiling)
    assert [m.shape for m in maps] == [(96, 160)] * 2
    assert side_share(maps, "right") > 0.95


def test_the_effect_of_a_word_is_counted_in_effects_of_the_noise():
    levels = {("a", 0): 0, ("a", 1): 2, ("b", 0): 6, ("b", 1): 10}
    maps = {key: [np.full((4, 4), level, np.float32)] for key, level in levels.items()}
    effects = word_effects(maps, ("a", "b"))  # noise: |0 - 2| and |6 - 10|, mean 3
    assert {s: v for s, (v, _) in effects.items()} == {0: pytest.approx(6 / 3), 1: pytest.approx(8 / 3)}
    value, detail = word_effects({k: v for k, v in maps.items() if k[1] == 0}, ("a", "b"))[0]
    assert value is None
    assert "generation.seeds" in detail["reason"]


def test_scores_are_written_once_per_pair_and_seed(tmp_path):
    """The second prompt of word_effect is the base's video of kept: both compare the same."""
    videos, scores, judged = [], tmp_path / "scores.jsonl", tmp_path / "kept" / "scores.jsonl"
    row = {"seed": 1, "measure": "physics", "video": "a.mp4"}
    write_json_lines(judged, [{**row, "sample": s, "value": len(s)} for s in ("a", "a~base")])
    for sample, seed, column in (("a", 0, 20), ("a", 1, 24), ("a~base", 0, 110), ("a~base", 1, 114)):
        frames = np.repeat(texture()[None], 4, axis=0)
        frames[1:, 30:60, column : column + 20] = 255
        videos.append(ScoredVideo(sample, seed, sample, tmp_path / f"{sample}{seed}.mp4"))
        write_video(videos[-1].path, frames, 8)
    for _ in range(2):
        score_word_effect([("a", "a~base", ("left", "right"))], videos, scores, tiling_of(Data()))
        score_kept(videos, judged, scores)
    rows = read_json_lines(scores)
    measures = [("word_effect", 0), ("word_effect", 1), ("kept", 0), ("kept", 1), ("kept_physics", 1)]
    assert [(r["measure"], r["seed"]) for r in rows] == measures
    assert {(r["sample"], r["detail"]["other"]) for r in rows} == {("a", "a~base")}
    assert [r["value"] > 2 for r in rows] == [True, True, False, False, False]
    assert [r["value"] < -1 for r in rows[2:]] == [True] * 3  # it moves more than another noise; physics 1 after 6


def test_the_named_hand_has_more_motion_on_its_side(tmp_path, small_config):
    """Against the truth of rendered scenes: the hand that moves is known."""
    still, words = np.zeros((3, 32, 32, 3), np.uint8), small_config("measures.words=true")
    clips = [("use the left hand", still), ("left and right", still)]
    for seed in range(3):
        for hand in ("left", "right"):
            scene = Scene.sample(6_000_000 + seed, "robot", hand)
            clips.append((scene.prompt, scene.clip().frames))
    videos = []
    for k, (prompt, frames) in enumerate(clips):
        videos.append(ScoredVideo("a", 0, prompt, tmp_path / f"{k}.mp4"))
        write_video(videos[-1].path, frames, 8)
    nothing, no_side, *named = [m.values["word_side"] for m in measure_side(videos, words, 1)]
    assert min(value for value, _ in named) > 0.5
    assert nothing == (None, "nothing moves")
    assert no_side == (None, "the prompt does not name one side, left or right")
    assert measure_side(videos[1:2], words, 1) is None
