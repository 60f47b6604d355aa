"""Clips with one planted fault each, to calibrate judges and measures: the fault is known.

`plant(scene, fault, dose)` returns the frames and the prompt by which they are judged. `FAULTS` gives the rubric that
must detect each fault, and its doses.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from cosmos_exp.tabletop.picture_faults import PICTURE_FAULTS
from cosmos_exp.tabletop.scene import Scene
from cosmos_exp.tabletop.scene_faults import FaultyScene
from cosmos_exp.tabletop.vocabulary import other_hand


@dataclass(frozen=True)
class Fault:
    """What is planted and how strong.

    rubric: physics or instruction, the rubric that must detect it. doses: from weak to strong, in `unit`; (1.0,) for a
    fault without degrees. dose: the one of the judge's table. x: a factor of the size.
    """

    rubric: str
    doses: tuple[float, ...]
    dose: float
    unit: str
    what: str


def _plain(rubric: str, what: str) -> Fault:
    return Fault(rubric, (1.0,), 1.0, "", what)


def _graded(doses: tuple[float, ...], dose: float, unit: str, what: str) -> Fault:
    return Fault("physics", doses, dose, unit, what)


# Names as in recorded benchmark results.
FAULTS: dict[str, Fault] = {
    "wrong hand": _plain("instruction", "the other hand does the task (robot only: its prompt names the hand)"),
    "wrong object": _plain("instruction", "another object is moved"),
    "dropped": _plain("instruction", "the object is dropped before the container"),
    "frozen": _plain("instruction", "the first frame is held"),
    "reversed": _plain("instruction", "the clip is played backwards"),
    "vanishing object": _plain("physics", "the carried object disappears"),
    "teleport": _plain("physics", "the object is at the goal from the third frame on"),
    "hand of the other look": _plain("physics", "grippers turn into hands, hands into grippers"),
    "fading object": _graded((0.2, 0.4, 0.6), 0.6, "share", "the moved object's colour drifts to the wood's"),
    "noise": _graded((5.0, 10.0, 25.0), 25.0, "grey levels", "Gaussian noise, standard deviation"),
    "blur": _graded((0.5, 1.0, 2.0), 2.0, "px", "Gaussian blur, standard deviation"),
    # Known blind spots of the judge of 2026-11-23.
    "growing object": _graded((1.1, 1.25, 1.5, 2.0), 1.5, "x", "an object grows"),
    "sliding object": _graded((0.02, 0.04, 0.08), 0.08, "m", "a resting object slides over the table, untouched"),
    "third arm": _graded((0.1, 0.2, 0.3), 0.2, "m", "a third arm reaches in from the near edge"),
    "floating object": _graded((0.02, 0.04, 0.08), 0.08, "m", "a resting object rises and stays in the air"),
    "melting": _graded((0.75, 1.5, 2.5, 4.0), 2.5, "px", "a region of 40 px flows, largest displacement"),
    "gliding object": _graded((0.25, 0.5, 1.0), 1.0, "share", "the object glides towards the goal, the hands rest"),
    "camera jump": _graded((2.0, 4.0, 8.0, 16.0), 8.0, "px", "the camera turns between two frames"),
    # The second list, written before the judge was changed.
    "shrinking object": _graded((0.85, 0.7, 0.5), 0.7, "x", "an object shrinks"),
    "sliding container": _graded((0.02, 0.04, 0.08), 0.08, "m", "the goal slides over the table, untouched"),
    "splitting object": _graded((0.03, 0.06, 0.1), 0.1, "m", "an object becomes two, which drift apart"),
    "detached arm": _graded((0.2, 0.35, 0.5), 0.35, "share", "the arm is missing behind the acting hand"),
    "vanishing arm": _graded((2.0, 4.0, 6.0), 4.0, "frames", "the acting arm is missing, the object is carried on"),
    "swelling hand": _graded((1.25, 1.5, 2.0), 2.0, "x", "the acting hand grows"),
    "colour swap": _graded((0.25, 0.5, 1.0), 1.0, "share", "two objects exchange their colours"),
    "background change": _graded((0.25, 0.5, 1.0), 0.5, "share", "the wood of the table turns into another"),
    "sinking object": _graded((0.015, 0.03, 0.05), 0.03, "m", "a resting object sinks into the table"),
    "doubled hand": _graded((0.06, 0.12, 0.18), 0.12, "m", "a copy of the acting arm separates from it"),
    "brightness flicker": _graded((0.05, 0.1, 0.2), 0.1, "share", "frames are brighter and darker in alternation"),
    "levitating object": _graded((0.03, 0.06, 0.12), 0.12, "m", "the object rises after its release"),
    "shape change": _plain("physics", "an object becomes one of another kind, halfway"),
    "growing stain": _graded((3.0, 6.0, 9.0), 6.0, "px", "a dark stain grows on the table, radius"),
    "see-through arm": _graded((0.25, 0.5, 0.75), 0.5, "share", "the acting arm becomes transparent"),
    "trails": _graded((0.3, 0.5, 0.7), 0.7, "share", "each frame keeps a share of the one before"),
}
RUBRIC = {name: fault.rubric for name, fault in FAULTS.items()}


def plant(scene: Scene, fault: str, dose: float | None = None) -> tuple[np.ndarray, str]:
    """Render a scene with a fault.

    Args:
        dose: strength in the fault's unit; None: that of `FAULTS`.

    Returns:
        Frames, uint8 (T, H, W, 3), and the prompt that the clip should have followed.

    Raises:
        KeyError: a fault that does not exist.
    """
    strength = FAULTS[fault].dose if dose is None else dose
    if fault in PICTURE_FAULTS:
        return PICTURE_FAULTS[fault](scene, strength), scene.prompt
    if fault == "wrong hand":
        return scene.with_hand(other_hand(scene.hand)).clip().frames, scene.prompt
    if fault == "wrong object":
        swapped = replace(scene, objects=(scene.objects[1], scene.objects[0], *scene.objects[2:]))
        return swapped.clip().frames, scene.prompt
    return FaultyScene.of(scene, fault, strength).clip().frames, scene.prompt
