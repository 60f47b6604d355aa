"""judge=rules: scores a video of the tabletop world from 1 to 5 by fixed rules, and gives the reasons.

The two rubrics are those of Reason2. The judge's input is the pixels of the video and, for `instruction`, the prompt.
It knows neither the scene nor the model that generated the video. benchmarks/tabletop.py calibrates it; the table is in
docs/tabletop.md.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cosmos_exp.data.video import probe, read_video
from cosmos_exp.errors import UserError
from cosmos_exp.metrics.judges.interface import Answer, Question
from cosmos_exp.metrics.judges.rubric import Rubric
from cosmos_exp.tabletop.seeing import Seen, probe_video
from cosmos_exp.tabletop.vocabulary import COLORS, CONTAINERS, HANDS, OBJECTS, other_hand

if TYPE_CHECKING:
    import torch

    from cosmos_exp.config.schema import Judge as JudgeSettings

_COLOR = "|".join(COLORS)
_PROMPT = re.compile(
    rf"(?:use the (?P<hand>left|right) hand to )?pick up the (?P<object>{_COLOR}) (?:{'|'.join(OBJECTS)})"
    rf" and place it in the (?P<container>{_COLOR}) (?:{'|'.join(CONTAINERS)})",
    re.IGNORECASE,
)
OUT = 4  # an arm that reaches out for this many frames has moved; half as many frames are ignored
FAST, FAST_ON = 17.0, 10.0  # pixels per frame, in one step and over several steps; arms carry at 3 to 8
MOVED = 7.0  # pixels; after the sway is removed, static things stay within 3
# Rendered clips, also after the autoencoder, have a mean gradient of 55 to 85 and a grain of 1 to 6.
SHARP, BLURRED, CLEAN, GRAINY = 48.0, 36.0, 7.0, 24.0


@dataclass(frozen=True)
class Instruction:
    """Colours of the object and the container in a prompt. `hand` is None when the prompt names no hand."""

    object: str
    container: str
    hand: str | None


def parse_instruction(prompt: str) -> Instruction | None:
    """Parse a prompt; None for a text that is not an instruction of the tabletop world."""
    found = _PROMPT.search(prompt)
    if not found:
        return None
    hand = found["hand"].lower() if found["hand"] else None
    return Instruction(found["object"].lower(), found["container"].lower(), hand)


@dataclass
class Findings:
    """Deductions from the highest score, 5, with their reasons."""

    reasons: list[str] = field(default_factory=list)
    lost: float = 0.0

    def deduct(self, points: float, reason: str) -> None:
        """Record a deduction. Amounts of 0.005 or less are ignored."""
        if points > 0.005:
            self.lost += points
            self.reasons.append(f"-{points:.2f} {reason}")

    @property
    def score(self) -> float:
        """5 minus all deductions, from 1 to 5."""
        return round(min(max(5.0 - self.lost, 1.0), 5.0), 3)


def _ramp(value: float, good: float, bad: float) -> float:
    """Return 0 at `good` or better, 1 at `bad` or worse, linear in between."""
    return float(np.clip((value - good) / (bad - good), 0, 1))


def _tail(track: np.ndarray) -> np.ndarray:
    """The last quarter of a track (T, ...), at least three frames."""
    return track[-max(3, len(track) // 4) :]


def _last(seen: Seen, color: str) -> np.ndarray | None:
    """The last known centre (2,) of a thing in the last quarter of the video; None if it is not visible there."""
    tail = _tail(seen.faded_centers[color])
    visible = tail[~np.isnan(tail[:, 0])]
    return visible[-1] if len(visible) else None


def judge_instruction(seen: Seen, wanted: Instruction) -> Findings | str:
    """Judge hand, object and container against the instruction, with two points for each.

    Returns:
        Findings, or a text that says why the video cannot be judged.
    """
    hidden = [c for c in (wanted.object, wanted.container) if c not in seen.things]
    if hidden:
        return f"the first frame shows no {' and no '.join(hidden)} thing"
    findings = Findings()
    _judge_hand(seen, wanted, findings)
    start, end = np.array(seen.things[wanted.object][1]), _last(seen, wanted.object)
    distance = 0.0 if end is None else float(np.linalg.norm(end - start))
    findings.deduct(2 * (1 - _ramp(distance, MOVED / 2, MOVED)), f"the {wanted.object} object was not moved")
    for color in seen.things:
        last = _last(seen, color)
        if color in (wanted.object, wanted.container) or last is None:
            continue
        shift = float(np.linalg.norm(last - np.array(seen.things[color][1])))
        findings.deduct(_ramp(shift, MOVED, 2 * MOVED), f"the {color} thing was moved, too")
    missed = _missed_container(seen, wanted.container, end)
    findings.deduct(2 * missed, f"the {wanted.object} object did not end in the {wanted.container} container")
    return findings


def _missed_container(seen: Seen, container: str, end: np.ndarray | None) -> float:
    """Return 0 if the object's last centre `end` is inside the container, 1 if it is outside or unknown."""
    if end is None:
        return 1.0
    area, place = seen.things[container]
    last = _last(seen, container)
    goal = np.array(place) if last is None else last
    radius = (area / np.pi) ** 0.5
    gap = min(np.linalg.norm(end - goal), np.linalg.norm(end - np.array(place)))
    return _ramp(float(gap), 0.75 * radius + 1, 1.2 * radius + 2)


def _judge_hand(seen: Seen, wanted: Instruction, findings: Findings) -> None:
    out = {h: _ramp(seen.side_frames[h], OUT / 2, OUT) for h in HANDS}
    if max(out.values()) == 0:
        findings.deduct(2, "no hand reached out")
    elif wanted.hand is None:
        findings.deduct(2 * min(out.values()), "both hands reached out")
    else:
        other = other_hand(wanted.hand)
        findings.deduct(2 * (1 - out[wanted.hand]), f"the {wanted.hand} hand did not reach out")
        findings.deduct(out[wanted.hand] * out[other], f"the {other} hand reached out, too")


def judge_physics(seen: Seen) -> Findings:
    """Judge physical plausibility.

    Deductions are for things that vanish, appear, grow, fade or jump without contact, for hands that change their
    appearance, and for blur and grain.
    """
    findings = Findings()
    for color, (area, _) in seen.things.items():
        tail, faded = _tail(seen.areas[color]), _tail(seen.faded_areas[color])
        gone, pale = (1 - _ramp(float(a.max()) / area, 0.15, 0.4) for a in (faded, tail))
        findings.deduct(2 * gone, f"the {color} thing vanished")
        findings.deduct(1.5 * max(pale - gone, 0), f"the {color} thing lost its colour")
        findings.deduct(_ramp(float(tail[-1]) / area, 2.6, 4.0), f"the {color} thing grew")
        findings.deduct(1.5 * min(_untouched_jumps(seen, color), 2), f"the {color} thing jumped untouched")
    for color, count in seen.appeared.items():
        findings.deduct(_ramp(count, 2, 5) * 1.5, f"a {color} thing came from nowhere")
    black = seen.robot_fraction[~np.isnan(seen.robot_fraction)]
    if len(black):
        wrong = (black < 0.2) if seen.appearance == "robot" else (black > 0.4)
        what = "gripper turned into a hand" if seen.appearance == "robot" else "hand turned into a gripper"
        findings.deduct(3 * _ramp(float(wrong.mean()), 0.1, 0.5), f"a {what} in {wrong.mean():.0%} of its frames")
    findings.deduct(2.5 * _ramp(-seen.sharpness, -SHARP, -BLURRED), "the picture blurs")
    findings.deduct(2.5 * _ramp(seen.grain, CLEAN, GRAINY), "the picture is grainy")
    return findings


def _untouched_jumps(seen: Seen, color: str) -> int:
    """Number of times that a thing moves without contact.

    A move counts when no arm was near both positions, or when it is faster than any arm. Only frames that show at least
    half of the thing are compared: the centre of a partly occluded thing shifts. A thing that disappears from one frame
    to the next with no arm near it counts, too (a forearm of the table's tone may be missed, its sleeve is not).
    """
    centers, areas, whole = seen.centers[color], seen.areas[color], seen.things[color][0]
    jumps = 0
    before: int | None = None
    for t in np.flatnonzero(areas >= 0.5 * whole).tolist():
        if before is not None and np.linalg.norm(centers[t] - centers[before]) > MOVED:
            carried = all(any(_arm_near(seen.arms[k], centers[j]) for k in range(before, t + 1)) for j in (before, t))
            fast = np.linalg.norm(centers[t] - centers[before]) > (FAST if t - before == 1 else FAST_ON) * (t - before)
            jumps += int(fast or not carried)
        before = t
    for t in range(1, len(areas)):
        gone = areas[t - 1] >= 0.5 * whole and areas[t] < 0.25 * whole
        jumps += int(gone) * (not any(_arm_near(seen.arms[k], centers[t - 1], 42.0) for k in (t - 1, t)))
    return jumps


def _arm_near(arm: np.ndarray, center: np.ndarray, reach: float = 18.0) -> bool:
    """Whether bool (H, W) `arm` has a pixel within `reach` pixels of `center`."""
    y, x = np.nonzero(arm)
    return bool(len(x)) and bool(((x - center[0]) ** 2 + (y - center[1]) ** 2).min() < reach**2)


class RulesJudge:
    """The judge of the tabletop world. It has no weights.

    Args:
        settings, device, precision, seed: the arguments of every judge. The rules depend on none of them.
    """

    name = "rules"
    batch = 1

    def __init__(
        self,
        settings: JudgeSettings | None = None,
        device: torch.device | None = None,
        precision: str = "no",
        seed: int = 0,
    ):
        self._last: tuple[np.ndarray, Seen] | None = None
        self._file: tuple[Path, np.ndarray] | None = None

    def identity(self) -> None:
        """None: answers are not cached, because judging takes a fraction of a second and the rules are code."""
        return None

    def ask(self, questions: Sequence[Question], temperature: float, seed: int) -> list[Answer]:
        """Judge video files. The answers do not depend on temperature and seed."""
        return [self._ask(q) for q in questions]

    def _ask(self, question: Question) -> Answer:
        if self._file is None or self._file[0] != question.video:
            self._file = (question.video, read_video(question.video))
        return self.answer(self._file[1], probe(question.video).fps, question.rubric, question.instruction)

    def answer(self, frames: np.ndarray, fps: float, rubric: Rubric, instruction: str | None) -> Answer:
        """Judge one video under the rubric `physics` or `instruction`.

        Args:
            frames: uint8 (T, H, W, 3). Observations are kept between calls with the same array.
            fps: frames per second; not used by the rules.

        Returns:
            Score from 1 to 5, with the reasons as text; score None if the video cannot be judged.

        Raises:
            UserError: another rubric.
        """
        if rubric.measure not in ("physics", "instruction"):
            raise UserError(
                f"judge.rubrics: judge=rules has the rubrics physics and instruction, not {rubric.measure!r}. "
                "Set judge.rubrics=[physics,instruction] or use another judge."
            )
        if len(frames) < 2:
            return Answer(None, None, "one frame shows nothing happening")
        if self._last is None or self._last[0] is not frames:
            self._last = (frames, probe_video(frames))
        seen = self._last[1]
        if rubric.measure == "physics":
            found: Findings | str = judge_physics(seen)
        else:
            wanted = parse_instruction(instruction or "")
            found = (
                judge_instruction(seen, wanted) if wanted else f"no instruction of the tabletop world: {instruction!r}"
            )
        if isinstance(found, str):
            return Answer(None, None, found)
        return Answer(found.score, found.score, "; ".join(found.reasons) or "as it should be")
