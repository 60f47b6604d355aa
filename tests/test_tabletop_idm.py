"""The inverse dynamics model of the embedded world: its file, its recipe, and its error on clips that it has not seen."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from benchmarks.idm import __main__ as training
from benchmarks.idm.clips import TimedScene, decoded, marks, training_clip
from cosmos_exp.tabletop.idm import ACTIONS, IDM_FILE, mirrored, read_actions, true_actions
from cosmos_exp.tabletop.scene import Scene
from cosmos_exp.tabletop.world import HANDS

SCENES = 98_000_000  # not among those of training and figures


@pytest.fixture(scope="module")
def clips():
    """Three scenes with their frames behind the autoencoder."""
    scenes = [Scene.sample(SCENES + k, "robot") for k in range(3)]
    return [(s, decoded(s.clip().frames, 0.0, np.random.default_rng(0))) for s in scenes]


def positions(actions):
    return actions.reshape(len(actions), len(HANDS), 4)[..., :3]


class TestShippedFile:
    """The weights in the package."""

    def test_it_is_small_and_declares_its_input_and_output(self):
        assert IDM_FILE.stat().st_size < 1e6
        extra = {"idm.json": ""}
        model = torch.jit.load(str(IDM_FILE), map_location="cpu", _extra_files=extra)
        declared = json.loads(extra["idm.json"])
        assert declared == {"frames": 17, "height": 96, "width": 160, "fps": 8, "actions": list(ACTIONS)}
        with torch.no_grad():
            found = model(torch.zeros(1, 17, 3, 96, 160))
        assert found.shape == (1, 17, 8)
        assert found.dtype == torch.float32

    def test_it_reads_the_hand_of_clips_that_it_has_not_seen(self, clips):
        """The mean of 40 held-out scenes is 1.0 cm for the moving hand and 0.5 cm for the other (weights/idm/README.md)."""
        for scene, frames in clips:
            error = np.linalg.norm(positions(read_actions(frames)) - positions(true_actions(scene)), axis=-1)
            own = HANDS.index(scene.hand)
            assert error[:, own].mean() < 0.02
            assert error[:, 1 - own].mean() < 0.012

    def test_it_reads_pixels_and_not_the_clock(self, clips):
        """A clip that is held at its first frame shows hands at rest, though at its middle a hand is usually away."""
        for _, frames in clips:
            still = positions(read_actions(np.repeat(frames[:1], len(frames), axis=0)))
            moving = positions(read_actions(frames))
            assert np.linalg.norm(still - still[:1], axis=-1).max() < 0.06
            assert np.linalg.norm(moving - moving[:1], axis=-1).max() > 0.12

    def test_a_mirrored_clip_has_mirrored_actions(self, clips):
        for _, frames in clips:
            gap = read_actions(np.ascontiguousarray(frames[:, :, ::-1])) - mirrored(read_actions(frames))
            assert np.abs(gap).mean() < 0.03


def test_true_actions_are_the_tracks_of_the_hands():
    """Projected by the scene's cameras they are the recorded tracks, and so are the marks that training shows."""
    scene = Scene.sample(SCENES, "robot")
    tracks = scene.clip().tracks
    half = (np.array([160, 96]) - 1) / 2
    for k, hand in enumerate(HANDS):
        assert (marks(scene)[:, 2 * k] + 1) * half == pytest.approx(tracks[hand], abs=1e-3)
    for index, row in enumerate(positions(true_actions(scene))):
        for k, hand in enumerate(HANDS):
            assert scene.camera(index).project(tuple(map(float, row[k])))[:2] == pytest.approx(
                tracks[hand][index], abs=1e-3
            )


def test_mirroring_is_its_own_inverse_and_swaps_the_hands():
    actions = true_actions(Scene.sample(SCENES, "robot", hand="left"))
    assert (mirrored(mirrored(actions)) == actions).all()
    moved = np.abs(np.diff(positions(mirrored(actions)), axis=0)).sum((0, 2))
    assert moved[HANDS.index("right")] > 5 * moved[HANDS.index("left")]


def test_a_scene_with_another_clock_shows_the_same_motion_at_other_times():
    scene = replace(Scene.sample(SCENES, "robot"), num_frames=9)
    half = TimedScene.of(replace(scene, num_frames=5), np.linspace(0, 0.5, 5))
    assert np.abs(true_actions(half) - true_actions(scene)[:5]).max() < 1e-6


def test_a_training_clip_is_determined_by_its_seed():
    first, again = training_clip(SCENES), training_clip(SCENES)
    assert all((a == b).all() for a, b in zip(first, again, strict=True))
    assert [a.shape for a in first] == [(17, 96, 160, 3), (17, 8), (17, 4, 2)]


def test_the_recipe_writes_a_file_that_loads(tmp_path):
    out = tmp_path / "own" / "idm.pt"
    training.main(["--out", str(out), "--work", str(tmp_path / "work"), "--clips", "2", "--steps", "2"])
    found = read_actions(np.zeros((17, 96, 160, 3), np.uint8), out)
    assert found.shape == (17, 8)
    assert np.isfinite(found).all()
    assert [json.loads(r)["step"] for r in (tmp_path / "work" / "curve.jsonl").read_text().splitlines()] == [2]
