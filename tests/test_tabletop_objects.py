"""What the judge concludes from the track of an object: closed forms on hand-made tracks."""

import numpy as np
import pytest

from cosmos_exp.tabletop.arms import first_camera
from cosmos_exp.tabletop.objects import Track, summary
from cosmos_exp.tabletop.observation import without_outliers

CAMERA = first_camera((96, 160))
COUNT = 12


def track(centers, factor=None):
    """An object of 100 pixels that stays whole; `factor` (T,) multiplies its width and height."""
    size = np.ones(COUNT) if factor is None else factor
    return Track(
        centers=centers,
        bottoms=centers[:, 1] + 5,
        areas=100 * size**2,
        widths=3 * size,
        heights=3 * size,
        second=np.zeros(COUNT),
        hues=np.zeros((COUNT, 2)),
        clear=np.ones(COUNT, bool),
        away=np.ones(COUNT, bool),
    )


def resting():
    return np.tile([80.0, 50.0], (COUNT, 1))


def no_hand():
    return np.full((COUNT, 2, 2), np.nan)


def test_a_resting_thing_has_not_changed():
    seen = summary(track(resting()), False, no_hand(), CAMERA)
    assert seen.reach == np.inf
    assert np.isnan(seen.early)
    for value in (seen.shift, seen.down, seen.size, seen.width, seen.height, seen.hue, seen.drift):
        assert value == pytest.approx(0, abs=1e-9)


def test_growth_is_the_logarithm_of_its_factor():
    factor = np.where(np.arange(COUNT) < 5, 1.0, 1.5)
    seen = summary(track(resting(), factor), False, no_hand(), CAMERA)
    assert seen.width == pytest.approx(np.log(1.5))
    assert seen.size == pytest.approx(np.log(1.5))


def test_a_thing_that_arrives_before_its_hand_was_not_carried():
    """Moved 20 pixels at frame 3. A hand that is there at frames 3 and 4 carried it, one that comes at frame 9 did not."""
    centers = resting()
    centers[3:, 0] += 20
    hand = no_hand()
    hand[3:5, 0] = (102.0, 50.0)
    assert summary(track(centers), False, hand, CAMERA).early == pytest.approx(2)
    late = no_hand()
    late[1:3, 0], late[9:, 0] = (80.0, 50.0), (100.0, 50.0)
    assert summary(track(centers), False, late, CAMERA).early == pytest.approx(20)
    assert summary(track(centers), False, no_hand(), CAMERA).early == np.inf


def test_one_wrong_homography_is_no_camera_jump():
    places = np.zeros((COUNT, 4, 2))
    places[6:] += 8.0
    np.testing.assert_array_equal(without_outliers(places), places)
    wrong = np.zeros((COUNT, 4, 2))
    wrong[5] += 8.0
    np.testing.assert_array_equal(without_outliers(wrong), np.zeros((COUNT, 4, 2)))
