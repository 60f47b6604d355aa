"""The inverse dynamics model of the embedded world: its file, its recipe, and its error on clips that it has not seen."""

import numpy as np
import pytest

from benchmarks.idm.actions import read_actions, true_actions
from benchmarks.idm.clips import decoded, marks
from cosmos_exp.tabletop.scene import Scene
from cosmos_exp.tabletop.world import HANDS, other_hand

SCENES = 98_000_000  # not among those of training and figures


def positions(actions):
    return actions.reshape(len(actions), len(HANDS), 4)[..., :3]


def test_it_reads_the_hands_of_a_clip_that_it_has_not_seen_and_not_the_clock():
    """The mean of 40 held-out scenes is 1.0 cm for the moving hand and 0.5 cm for the other (weights/idm/README.md)."""
    scene = Scene.sample(SCENES, "robot")
    frames = decoded(scene.clip().frames, 0.0, np.random.default_rng(0))
    read = positions(read_actions(frames))
    error = np.linalg.norm(read - positions(true_actions(scene)), axis=-1).mean(0)
    assert error[HANDS.index(scene.hand)] < 0.02
    assert error[HANDS.index(other_hand(scene.hand))] < 0.012
    # A clip that is held at its first frame shows hands at rest, though at its middle a hand is usually away.
    still = positions(read_actions(np.repeat(frames[:1], len(frames), axis=0)))
    moved = [np.linalg.norm(places - places[:1], axis=-1).max() for places in (still, read)]
    assert moved[0] < 0.06 < 0.12 < moved[1]


def test_true_actions_are_the_tracks_of_the_hands():
    """Projected by the scene's cameras they are the recorded tracks, and so are the marks that training shows."""
    scene = Scene.sample(SCENES, "robot")
    tracks, half = scene.clip().tracks, (np.array([160, 96]) - 1) / 2
    for k, hand in enumerate(HANDS):
        assert (marks(scene)[:, 2 * k] + 1) * half == pytest.approx(tracks[hand], abs=1e-3)
        for index, place in enumerate(positions(true_actions(scene))[:, k]):
            assert scene.camera(index).project(place.tolist())[:2] == pytest.approx(tracks[hand][index], abs=1e-3)
