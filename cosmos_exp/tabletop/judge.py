"""judge=rules: scores a video of the tabletop world from 1 to 5 by what is seen in it, with the reasons.

The two rubrics are Reason2's. It knows the video's pixels and, for `instruction`, the prompt through one parser; not
the scene behind it, nor which model made it. Calibration: benchmarks/tabletop.py; the table is in docs/tabletop.md.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from cosmos_exp.data.video import probe, read_video
from cosmos_exp.errors import UserError
from cosmos_exp.metrics.judges.interface import Answer, Question
from cosmos_exp.metrics.judges.rubric import Rubric
from cosmos_exp.tabletop.scene import COLORS, CONTAINERS, HANDS, OBJECTS
from cosmos_exp.tabletop.seeing import Seen, look_at

_COLOR = "|".join(COLORS)
_PROMPT = re.compile(
    rf"(?:use the (?P<hand>left|right) hand to )?pick up the (?P<object>{_COLOR}) (?:{'|'.join(OBJECTS)})"
    rf" and place it in the (?P<container>{_COLOR}) (?:{'|'.join(CONTAINERS)})",
    re.IGNORECASE,
)
OUT = 4  # frames in which an arm reaches out before it counts as having moved; up to half of that does not count
FAST, FAST_ON = 17.0, 10.0  # pixels a frame, in one step and over several; the arms carry at 3 to 8
MOVED = 7.0  # pixels; the sway taken out, what stands still stays within 3
# What the world's own clips show, also after the autoencoder: mean gradient 55 to 85, grain 1 to 6.
SHARP, BLURRED, CLEAN, GRAINY = 48.0, 36.0, 7.0, 24.0


@dataclass(frozen=True)
class Instruction:
    """Colours of the named object and container; hand None when the prompt names none."""

    object: str
    container: str
    hand: str | None


def parse_instruction(prompt: str) -> Instruction | None:
    """The one parser for all prompts; None for a text that is no instruction of this world."""
    found = _PROMPT.search(prompt)
    if not found:
        return None
    hand = found["hand"].lower() if found["hand"] else None
    return Instruction(found["object"].lower(), found["container"].lower(), hand)


@dataclass
class Findings:
    """Deductions from 5, each with its reason."""

    reasons: list[str] = field(default_factory=list)
    lost: float = 0.0

    def deduct(self, points: float, reason: str) -> None:
        if points > 0.005:
            self.lost += points
            self.reasons.append(f"-{points:.2f} {reason}")

    @property
    def score(self) -> float:
        return round(min(max(5.0 - self.lost, 1.0), 5.0), 3)


def _ramp(value: float, good: float, bad: float) -> float:
    """0 at `good` and better, 1 at `bad` and worse, straight between."""
    return float(np.clip((value - good) / (bad - good), 0, 1))


def _tail(track: np.ndarray) -> np.ndarray:
    """The last quarter of the video, three frames at least."""
    return track[-max(3, len(track) // 4) :]


def _last(seen: Seen, color: str) -> np.ndarray | None:
    """Where a thing was last seen, within the last quarter of the video."""
    tail = _tail(seen.faded_centers[color])
    visible = tail[~np.isnan(tail[:, 0])]
    return visible[-1] if len(visible) else None


def judge_instruction(seen: Seen, wanted: Instruction) -> Findings | str:
    """Hand, object and container: two points each for what is not as instructed. A text says why nothing can be said."""
    hidden = [c for c in (wanted.object, wanted.container) if c not in seen.things]
    if hidden:
        return f"the first frame shows no {' and no '.join(hidden)} thing"
    findings = Findings()
    _judge_hand(seen, wanted, findings)
    start, end = np.array(seen.things[wanted.object][1]), _last(seen, wanted.object)
    way = 0.0 if end is None else float(np.linalg.norm(end - start))
    findings.deduct(2 * (1 - _ramp(way, MOVED / 2, MOVED)), f"the {wanted.object} object was not moved")
    for color in seen.things:
        last = _last(seen, color)
        if color in (wanted.object, wanted.container) or last is None:
            continue
        shift = float(np.linalg.norm(last - np.array(seen.things[color][1])))
        findings.deduct(_ramp(shift, MOVED, 2 * MOVED), f"the {color} thing was moved, too")
    area, place = seen.things[wanted.container]
    goal = _last(seen, wanted.container)
    goal = np.array(place) if goal is None else goal
    radius = (area / np.pi) ** 0.5
    gap = np.inf if end is None else min(np.linalg.norm(end - goal), np.linalg.norm(end - np.array(place)))
    missed = 1.0 if end is None else _ramp(float(gap), 0.75 * radius + 1, 1.2 * radius + 2)
    findings.deduct(2 * missed, f"the {wanted.object} object did not end in the {wanted.container} container")
    return findings


def _judge_hand(seen: Seen, wanted: Instruction, findings: Findings) -> None:
    out = {h: _ramp(seen.side_frames[h], OUT / 2, OUT) for h in HANDS}
    if max(out.values()) == 0:
        findings.deduct(2, "no hand reached out")
    elif wanted.hand is None:
        findings.deduct(2 * min(out.values()), "both hands reached out")
    else:
        other = HANDS[1 - HANDS.index(wanted.hand)]
        findings.deduct(2 * (1 - out[wanted.hand]), f"the {wanted.hand} hand did not reach out")
        findings.deduct(out[wanted.hand] * out[other], f"the {other} hand reached out, too")


def judge_physics(seen: Seen) -> Findings:
    """Things that vanish, appear, jump untouched or change size; hands that change their kind; a spoilt picture."""
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
    share = seen.robot_share[~np.isnan(seen.robot_share)]
    if len(share):
        wrong = (share < 0.2) if seen.look == "robot" else (share > 0.4)
        what = "gripper turned into a hand" if seen.look == "robot" else "hand turned into a gripper"
        findings.deduct(3 * _ramp(float(wrong.mean()), 0.1, 0.5), f"a {what} in {wrong.mean():.0%} of its frames")
    findings.deduct(2.5 * _ramp(-seen.sharpness, -SHARP, -BLURRED), "the picture blurs")
    findings.deduct(2.5 * _ramp(seen.grain, CLEAN, GRAINY), "the picture is grainy")
    return findings


def _untouched_jumps(seen: Seen, color: str) -> int:
    """Times a thing is elsewhere from one sight of it to the next without an arm having been near both places.

    Only sights of at least half of it count: the centre of what an arm leaves visible wanders. It is untouched, too, when
    it is gone from one frame to the next with no arm anywhere near (a forearm of the table's tone may go unseen, its
    sleeve does not), or faster than any arm.
    """
    centers, areas, whole = seen.centers[color], seen.areas[color], seen.things[color][0]
    jumps, before = 0, None
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
    y, x = np.nonzero(arm)
    return bool(len(x)) and bool(((x - center[0]) ** 2 + (y - center[1]) ** 2).min() < reach**2)


class RulesJudge:
    """The embedded world's judge; needs no weights."""

    name = "rules"
    batch = 1

    def __init__(self, settings: Any = None, device: Any = None, precision: str = "no", seed: int = 0):
        self._last: tuple[np.ndarray, Seen] | None = None
        self._file: tuple[Path, np.ndarray] | None = None

    def identity(self) -> None:
        """Its answers are not kept: looking again costs a fraction of a second, and its rules are code."""
        return None

    def ask(self, questions: Sequence[Question], temperature: float, seed: int) -> list[Answer]:
        """Judge files; the same every time, whatever temperature and seed."""
        return [self._ask(q) for q in questions]

    def _ask(self, question: Question) -> Answer:
        if self._file is None or self._file[0] != question.video:
            self._file = (question.video, read_video(question.video))
        return self.answer(self._file[1], probe(question.video).fps, question.rubric, question.instruction)

    def answer(self, frames: np.ndarray, fps: float, rubric: Rubric, instruction: str | None) -> Answer:
        """Judge uint8 (T, H, W, 3) under `physics` or `instruction`; the reasons are the answer's text.

        Raises:
            UserError: a rubric that the rules do not know.
        """
        if rubric.measure not in ("physics", "instruction"):
            raise UserError(
                f"judge=rules knows the rubrics physics and instruction, not {rubric.measure!r}; "
                "set judge.rubrics=[physics,instruction] or another judge"
            )
        if len(frames) < 2:
            return Answer(None, None, "one frame shows nothing happening")
        if self._last is None or self._last[0] is not frames:
            self._last = (frames, look_at(frames))
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
