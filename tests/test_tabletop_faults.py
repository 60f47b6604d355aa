"""Planted faults: each changes the clip, more with a higher dose, and what the judge observes is the planted amount."""

import numpy as np
import pytest

from benchmarks.certificate.tabletop_faults import FAULTS, plant
from cosmos_exp.tabletop.observation import aligned, observe
from cosmos_exp.tabletop.scene import Scene

SCENE = Scene.sample(73_000_001, "robot")
# The others begin after the first frame. The hands' grip has the width of the object to move.
IN_FIRST_FRAME = {"reversed", "noise", "blur", "wrong object"}


@pytest.fixture(scope="module")
def clean():
    return SCENE.clip()


@pytest.mark.parametrize("name", list(FAULTS))
def test_a_fault_changes_the_clip_and_keeps_its_prompt(name, clean):
    frames, prompt = plant(SCENE, name)
    assert (frames.shape, frames.dtype, prompt) == (clean.frames.shape, np.uint8, SCENE.prompt)
    assert not np.array_equal(frames, clean.frames)
    if name not in IN_FIRST_FRAME:
        np.testing.assert_array_equal(frames[0], clean.frames[0])


def test_a_camera_jump_shifts_the_picture_by_its_dose(clean):
    """Turning the camera by an angle a about its own axis shifts the middle of the picture by focal * tan(a)."""
    for dose in (4.0, 8.0):
        frames, _ = plant(SCENE, "camera jump", dose)
        steps = aligned(frames)[1]
        assert int(np.nanargmax(steps)) == 8  # from frame 8 to 9, the first of the second half
        assert np.nanmax(steps) == pytest.approx(dose, rel=0.25)
    assert np.nanmax(aligned(clean.frames)[1]) < 2


def test_the_measured_growth_is_the_planted_one():
    """An object of 1.5 times the size: ln 1.5 = 0.41; the resting object (an odd half of the seed) is seen whole."""
    scene = Scene.sample(73_000_002, "robot")
    objects = observe(plant(scene, "growing object", 1.5)[0]).watched
    assert objects[scene.objects[1].color].size == pytest.approx(np.log(1.5), abs=0.12)
