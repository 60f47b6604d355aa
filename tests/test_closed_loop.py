"""The kinematics of the closed loop: true trajectories succeed, wrong ones fail for the right reason."""

from dataclasses import replace

import pytest

from benchmarks.closed_loop.kinematics import GRASP_REACH, roll_out
from benchmarks.idm.actions import true_actions
from cosmos_exp.tabletop.scene import Scene
from cosmos_exp.tabletop.world import HANDS, other_hand


@pytest.fixture(scope="module")
def scenes():
    """Both hands of 20 scenes; nothing is rendered."""
    return [Scene.sample(96_000_000 + k, "robot").with_hand(h) for k in range(20) for h in HANDS]


def test_the_true_trajectory_of_every_scene_succeeds(scenes):
    outcomes = [roll_out(s, true_actions(s)) for s in scenes]
    assert all(o.success and o.right_hand and o.object_grasped for o in outcomes)
    assert all(o.grasped == ((s.hand, s.objects[0].name),) for o, s in zip(outcomes, scenes, strict=True))


def test_the_other_hand_places_the_object_without_success(scenes):
    for scene in scenes[:10]:
        outcome = roll_out(scene, true_actions(scene.with_hand(other_hand(scene.hand))))
        assert (outcome.placed, outcome.success, outcome.right_hand) == (True, False, False)


def test_another_object_or_container_is_no_success(scenes):
    other = [replace(s, objects=(s.objects[1], s.objects[0])) for s in scenes[:10]]
    for scene, wrong in zip(scenes[:10], other, strict=True):
        outcome = roll_out(scene, true_actions(wrong))
        assert outcome.grasped == ((scene.hand, scene.objects[1].name),)
        assert not outcome.placed
    two = next(s for s in scenes if len(s.containers) == 2)
    outcome = roll_out(two, true_actions(replace(two, containers=two.containers[::-1])))
    assert outcome.object_grasped
    assert not outcome.placed


@pytest.mark.parametrize(("shift", "grasps"), [(GRASP_REACH - 0.003, True), (GRASP_REACH + 0.003, False)])
def test_a_grasp_reaches_as_far_as_the_open_fingers(scenes, shift, grasps):
    for scene in scenes[:10]:
        actions = true_actions(scene)
        for column in (0, 1, 4, 5):
            moved = actions.copy()
            moved[:, column] += shift
            own = (column < 4) == (scene.hand == "left")
            assert roll_out(scene, moved).object_grasped is (grasps or not own)
