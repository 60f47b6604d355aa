"""What the judge concludes from the track of an object: closed forms on hand-made tracks."""

import numpy as np
import pytest

from cosmos_exp.tabletop.arms import first_camera
from cosmos_exp.tabletop.objects import Track, summary
from cosmos_exp.tabletop.observation import without_outliers

CAMERA = first_camera((96, 160))
COUNT = 12
RESTING, NO_HAND = np.tile([80.0, 50.0], (COUNT, 1)), np.full((COUNT, 2, 2), np.nan)


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


def test_a_resting_object_has_not_changed_and_growth_is_the_logarithm_of_its_factor():
    change = summary(track(RESTING), False, NO_HAND, CAMERA)
    assert change.reach == np.inf
    assert np.isnan(change.early)
    assert (change.shift, change.size, change.hue, change.drift) == pytest.approx((0,) * 4, abs=1e-9)
    change = summary(track(RESTING, np.where(np.arange(COUNT) < 5, 1.0, 1.5)), False, NO_HAND, CAMERA)
    assert (change.width, change.size) == pytest.approx((np.log(1.5), np.log(1.5)))


def test_an_object_that_arrives_before_its_hand_was_not_carried():
    """Moved 20 pixels at frame 3. A hand that is there at frames 3 and 4 carried it, one that comes at frame 9 did not."""
    centers, hand, late = RESTING.copy(), NO_HAND.copy(), NO_HAND.copy()
    centers[3:, 0] += 20
    hand[3:5, 0] = (102.0, 50.0)
    late[1:3, 0], late[9:, 0] = (80.0, 50.0), (100.0, 50.0)
    for tips, early in ((hand, 2), (late, 20), (NO_HAND, np.inf)):
        assert summary(track(centers), False, tips, CAMERA).early == pytest.approx(early)


def test_one_wrong_homography_is_no_camera_jump():
    still, jump, wrong = np.zeros((3, COUNT, 4, 2))
    jump[6:] += 8.0
    wrong[5] += 8.0
    np.testing.assert_array_equal(without_outliers(jump), jump)
    np.testing.assert_array_equal(without_outliers(wrong), still)
