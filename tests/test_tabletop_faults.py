"""Planted faults: each changes the clip, more with a higher dose, and what the judge observes is the planted amount."""

import numpy as np
import pytest

from cosmos_exp.tabletop.faults import FAULTS, plant
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
    assert frames.shape == clean.frames.shape
    assert frames.dtype == np.uint8
    assert prompt == clean.prompt
    assert not np.array_equal(frames, clean.frames)
    if name not in IN_FIRST_FRAME:
        np.testing.assert_array_equal(frames[0], clean.frames[0])


@pytest.mark.parametrize("name", ["melting", "background change", "third arm", "brightness flicker", "sinking object"])
def test_a_higher_dose_changes_more(name, clean):
    changes = [np.abs(plant(SCENE, name, d)[0].astype(int) - clean.frames).mean() for d in FAULTS[name].doses]
    assert changes == sorted(changes)
    assert changes[0] > 0


def test_doses_are_listed_from_weak_to_strong_and_contain_the_tables():
    for name, fault in FAULTS.items():
        assert fault.dose in fault.doses, name
        assert list(fault.doses) in (sorted(fault.doses), sorted(fault.doses, reverse=True)), name
    with pytest.raises(KeyError):
        plant(SCENE, "unknown")
