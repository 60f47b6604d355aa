"""judge=rules: scores a video of the tabletop world from 1 to 5 by fixed rules, and gives the reasons.

The two rubrics are those of Reason2. The judge's input is the pixels of the video and, for `instruction`, the prompt.
It knows neither the scene nor the model that generated the video. Its calibration is in
docs/tabletop.md.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from cosmos_exp.data.video import read_video
from cosmos_exp.errors import UserError
from cosmos_exp.metrics.judges.interface import Answer, Question
from cosmos_exp.metrics.judges.rubric import Rubric
from cosmos_exp.tabletop.observation import Observation, observe
from cosmos_exp.tabletop.physics import MOVED, OUT, Findings, judge_physics, ramp, tail
from cosmos_exp.tabletop.world import COLORS, CONTAINERS, HANDS, OBJECTS, other_hand

# Objects, containers and resting hands are read from the first frame; docs/guides/rollout.md has the scores of later ones.
LATER_CHUNKS = (
    "judge=rules reads the scene from a first frame with both hands at rest, and a later chunk begins in motion"
)

_COLOR = "|".join(COLORS)
_PROMPT = re.compile(
    rf"(?:use the (?P<hand>left|right) hand to )?pick up the (?P<object>{_COLOR}) (?:{'|'.join(OBJECTS)})"
    rf" and place it in the (?P<container>{_COLOR}) (?:{'|'.join(CONTAINERS)})",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Instruction:
    """Colours of the object and the container in a prompt. `hand` is None when the prompt names no hand."""

    object: str
    container: str
    hand: str | None


def parse_instruction(prompt: str) -> Instruction | None:
    """Parse a prompt; None for a text that is not an instruction of the tabletop world."""
    match = _PROMPT.search(prompt)
    if not match:
        return None
    hand = match["hand"].lower() if match["hand"] else None
    return Instruction(match["object"].lower(), match["container"].lower(), hand)


def _last(observation: Observation, color: str) -> np.ndarray | None:
    """The last known centre (2,) of an object in the last quarter of the video; None if it is not visible there."""
    end = tail(observation.faded[color])
    visible = end[end[:, 0] > 0]
    return visible[-1, 1:] if len(visible) else None


def judge_instruction(observation: Observation, prompt: str | None) -> Findings | str:
    """Judge hand, object and container against the prompt, with two points for each.

    Returns:
        Findings, or a text that says why the video cannot be judged.
    """
    wanted = parse_instruction(prompt or "")
    if wanted is None:
        return f"no instruction of the tabletop world: {prompt!r}"
    hidden = [color for color in (wanted.object, wanted.container) if color not in observation.objects]
    if hidden:
        return f"the first frame shows no {' and no '.join(hidden)} thing"
    findings = Findings()
    _judge_hand(observation, wanted, findings)
    start, end = np.array(observation.objects[wanted.object][1]), _last(observation, wanted.object)
    distance = 0.0 if end is None else float(np.linalg.norm(end - start))
    findings.deduct(2 * (1 - ramp(distance, MOVED / 2, MOVED)), f"the {wanted.object} object was not moved")
    for color in observation.objects:
        last = _last(observation, color)
        if color in (wanted.object, wanted.container) or last is None:
            continue
        shift = float(np.linalg.norm(last - np.array(observation.objects[color][1])))
        findings.rate(1, shift, MOVED, 2 * MOVED, f"the {color} thing was moved, too")
    missed = _missed_container(observation, wanted.container, end)
    findings.deduct(2 * missed, f"the {wanted.object} object did not end in the {wanted.container} container")
    return findings


def _missed_container(observation: Observation, container: str, end: np.ndarray | None) -> float:
    """Return 0 if the object's last centre `end` is inside the container, 1 if it is outside or unknown."""
    if end is None:
        return 1.0
    area, place = observation.objects[container]
    last = _last(observation, container)
    goal = np.array(place) if last is None else last
    radius = (area / np.pi) ** 0.5
    gap = min(np.linalg.norm(end - goal), np.linalg.norm(end - np.array(place)))
    return ramp(float(gap), 0.75 * radius + 1, 1.2 * radius + 2)


def _judge_hand(observation: Observation, wanted: Instruction, findings: Findings) -> None:
    out = {hand: ramp(observation.side_frames[hand], OUT / 2, OUT) for hand in HANDS}
    if max(out.values()) == 0:
        findings.deduct(2, "no hand reached out")
    elif wanted.hand is None:
        findings.deduct(2 * min(out.values()), "both hands reached out")
    else:
        other = other_hand(wanted.hand)
        findings.deduct(2 * (1 - out[wanted.hand]), f"the {wanted.hand} hand did not reach out")
        findings.deduct(out[wanted.hand] * out[other], f"the {other} hand reached out, too")


class RulesJudge:
    """The judge of the tabletop world. It has no weights.

    Takes the arguments of every judge (settings, device, precision, seed); the rules depend on none of them.
    """

    name = "rules 2"  # the number of the rules: scores of different ones are not compared
    batch = 1

    def __init__(self, *_: object, **__: object):
        self._frames = lru_cache(maxsize=1)(_frames)  # all rubrics are asked in turn about one video
        self._last: tuple[np.ndarray, Observation] | None = None

    @staticmethod
    def check_rubric(rubric: Rubric) -> None:
        """A run calls this before it trains.

        Raises:
            UserError: another rubric than physics or instruction.
        """
        if rubric.measure not in ("physics", "instruction"):
            raise UserError(
                f"judge.rubrics: judge=rules has the rubrics physics and instruction, not {rubric.measure!r}. "
                "Set judge.rubrics=[physics,instruction] or use another judge."
            )

    def identity(self) -> None:
        """None: answers are not cached, because judging takes a fraction of a second and the rules are code."""
        return None

    def chunk_fault(self, number: int) -> str | None:
        """The first chunk begins with a scene at rest, as every video does for which the rules were made."""
        return None if number == 1 else LATER_CHUNKS

    def ask(self, questions: Sequence[Question], temperature: float, seed: int) -> list[Answer]:
        """Judge video files. The answers do not depend on temperature and seed."""
        return [self.answer(self._frames(q.video, q.span), q.rubric, q.instruction) for q in questions]

    def answer(self, frames: np.ndarray, rubric: Rubric, instruction: str | None) -> Answer:
        """Judge one video under the rubric `physics` or `instruction`.

        Args:
            frames: uint8 (T, H, W, 3). Observations are kept between calls with the same array.

        Returns:
            Score from 1 to 5, with the reasons as text; score None if the video cannot be judged.

        Raises:
            UserError: another rubric.
        """
        self.check_rubric(rubric)
        if len(frames) < 2:
            return Answer(None, None, "one frame shows nothing happening")
        if self._last is None or self._last[0] is not frames:
            self._last = (frames, observe(frames))
        observation = self._last[1]
        if rubric.measure == "physics":
            findings: Findings | str = judge_physics(observation)
        else:
            findings = judge_instruction(observation, instruction)
        if isinstance(findings, str):
            return Answer(None, None, findings)
        return Answer(findings.score, findings.score, "; ".join(findings.reasons) or "as it should be")


def _frames(video: Path, span: tuple[int, int] | None) -> np.ndarray:
    """The frames of a video file, or a span of them."""
    return read_video(video)[slice(*(span or (None,)))]
