"""The rules of judge=rules for physical plausibility.

Each rule deducts points from "as in 98 % of real clips that went through the autoencoder" to "plainly wrong". The bounds
come from tuning clips (seeds from 3,000,000 on); docs/tabletop.md has the result on others.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from cosmos_exp.tabletop.arms import Outlines
from cosmos_exp.tabletop.objects import ObjectChange
from cosmos_exp.tabletop.observation import Observation

OUT = 4  # an arm that reaches out for this many frames has moved; half as many frames are ignored
MOVED = 7.0  # pixels; after the camera's motion is removed, static objects stay within 3


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

    def rate(self, points: float, value: float, good: float, bad: float, reason: str) -> None:
        """Deduct `points` if `value` is at `bad` or worse, none if it is at `good` or better; in between in proportion."""
        self.deduct(points * ramp(value, good, bad), reason)

    @property
    def score(self) -> float:
        """5 minus all deductions, from 1 to 5."""
        return round(min(max(5.0 - self.lost, 1.0), 5.0), 3)


def ramp(value: float, good: float, bad: float) -> float:
    """Return 0 at `good` or better, 1 at `bad` or worse, linear in between; 0 for nan."""
    if np.isnan(value):
        return 0.0
    return float(np.clip((value - good) / (bad - good), 0, 1))


def tail(track: np.ndarray) -> np.ndarray:
    """The last quarter of a track (T, ...), at least three frames."""
    return track[-max(3, len(track) // 4) :]


def sixth_highest(values: np.ndarray) -> float:
    """The sixth highest of (T,) values, or the lowest of fewer: a fault shows in several frames."""
    return float(np.sort(values)[-6:][0])


FAST, FAST_ON = 17.0, 10.0  # pixels per frame, in one step and over several steps; arms carry at 3 to 8
# Rendered clips, also after the autoencoder, have a mean gradient of 55 to 85 and a grain of 1 to 7.
SHARP, BLURRED, CLEAN, GRAINY = 54.0, 42.0, 7.0, 8.3
EXTENDED, HOME = 35.0, 25.0  # pixels between a grasp point and its rest position: an arm that works, and one that rests


def judge_physics(observation: Observation) -> Findings:
    """Judge physical plausibility.

    Deductions are for objects that vanish, appear, change size or colour, move without contact or end in the air; for
    arms that change their appearance, are too many, torn or missing; for a table that changes; for jumps of the camera;
    and for blur and grain.
    """
    findings = Findings()
    for color in observation.objects:
        _judge_presence(observation, color, findings)
        _judge_shape(observation.watched[color], color, findings)
    _judge_contact(observation, findings)
    for color, count in observation.appeared.items():
        findings.rate(1.5, count, 6, 10, f"a {color} thing came from nowhere")
    _judge_arms(observation, findings)
    _judge_table(observation, findings)
    findings.rate(2, observation.camera_step, 2.0, 3.5, "the camera jumps")
    findings.rate(1.5, observation.unaligned, 0.05, 0.3, "the picture cannot be aligned with the first frame")
    findings.rate(2.5, -observation.sharpness, -SHARP, -BLURRED, "the picture blurs")
    findings.rate(2.5, observation.grain, CLEAN, GRAINY, "the picture is grainy")
    return findings


def _judge_presence(observation: Observation, color: str, findings: Findings) -> None:
    area = observation.objects[color][0]
    faded, end = tail(observation.faded[color])[:, 0].max() / area, tail(observation.tracks[color])[:, 0].max() / area
    gone, pale = 1 - ramp(faded, 0.15, 0.28), 1 - ramp(end, 0.02, 0.2)
    findings.deduct(2 * gone, f"the {color} thing vanished")
    # The autoencoder fades what moves: less than the other faults.
    findings.deduct(0.75 * max(pale - gone, 0), f"the {color} thing lost its colour")
    findings.deduct(2 * min(_untouched_jumps(observation, color), 2), f"the {color} thing jumped untouched")


def _judge_shape(obj: ObjectChange, color: str, findings: Findings) -> None:
    """Size and outline, apart from what a container or an object in front may hide."""
    # A hand that uncovers an object makes it wider or higher, seldom both.
    larger = (0.1, 0.2)
    if obj.container:
        larger = (0.03, 0.08)
    elif obj.shift < MOVED + 1:
        larger = (0.045, 0.08)
    findings.rate(2, min(obj.width, obj.height), *larger, f"the {color} thing grew")
    if obj.container or obj.partly:
        return
    if obj.shift < MOVED + 1:
        findings.rate(2, -max(obj.width, obj.height), 0.16, 0.24, f"the {color} thing shrank")
        sunk = min(obj.down / 10, -obj.height)
        findings.rate(2, sunk, 0.08, 0.13, f"the {color} thing sank")
    findings.rate(1, obj.second, 0.45, 0.62, f"the {color} thing became two")
    findings.rate(2, obj.hue, 0.125, 0.2, f"the {color} thing changed its colour")


def _judge_contact(observation: Observation, findings: Findings) -> None:
    """Motion without a hand. One hand carries one object in a clip; the others rest."""
    objects, moved = {}, []
    for color, obj in observation.watched.items():
        if _same_size(obj):
            objects[color] = obj
            if obj.shift > 2:
                moved.append(color)
    # First the one that a hand most probably carried: near a grasp point, and moved far.
    moved.sort(key=lambda color: objects[color].reach - 2 * min(objects[color].shift, 15.0))
    for place, color in enumerate(moved):
        obj = objects[color]
        if place:
            findings.rate(2, obj.shift, 3.5, 7.0, f"the {color} thing slid beside the one that was carried")
        elif obj.reach > 32:
            findings.rate(2, obj.shift, 3.0, 7.0, f"the {color} thing moved and no hand was at it")
        if not obj.container and obj.shift > MOVED:
            findings.rate(2, obj.lift, 5.0, 7.5, f"the {color} thing ended above the hand that held it")
    for color, obj in observation.watched.items():
        late = (26.0, 42.0) if observation.outlines.veiled else (14.0, 22.0)
        if not obj.container:
            findings.rate(2, obj.early, *late, f"the {color} thing was at its new place before a hand")
    for color, obj in objects.items():
        bounds = (2.6, 4.2) if obj.container else (2.1, 3.5)
        findings.rate(2, obj.drift, *bounds, f"the {color} thing moved while no hand was near")


def _same_size(obj: ObjectChange) -> bool:
    """Whether the object at the end is the one of the first frame, not a part of another of the same colour."""
    if obj.partly:
        return abs(obj.width) < 0.25 and abs(obj.height) < 0.25
    return not (abs(obj.size) > 0.35 or abs(obj.width) > 0.5)


def _judge_arms(observation: Observation, findings: Findings) -> None:
    outlines = observation.outlines
    # Near its rest position an arm shows few pixels of its own.
    black = observation.robot_fraction[~np.isnan(observation.robot_fraction) & (outlines.extended > HOME)]
    if len(black) > 2:
        wrong, what = black < 0.2, "gripper turned into a hand"
        if observation.appearance == "human":
            wrong, what = black > 0.4, "hand turned into a gripper"
        findings.rate(3, wrong.mean(), 0.085, 0.135, f"a {what} in {wrong.mean():.0%} of its frames")
    working = np.flatnonzero(outlines.extended > EXTENDED)
    absent = _absent_frames(outlines, working) if len(working) and not outlines.veiled else 0
    findings.rate(2, absent, 0.0, 2.0, f"the working arm is missing in {absent} frames")
    # Skin can have the colour of wood; black arms cannot.
    torn = observation.appearance == "robot" and sixth_highest(outlines.missing)
    findings.rate(2, torn, 0.3, 0.36, f"{torn:.0%} of an arm is missing")
    strange = outlines.unlike[~np.isnan(outlines.unlike)]
    if len(strange) > 2:
        findings.rate(2, np.median(strange), 0.035, 0.12, "an arm has the colours of no hand")


def _absent_frames(outlines: Outlines, working: np.ndarray) -> int:
    """Frames between those in which an arm works that show no arm at work, and few changed pixels."""
    changed = outlines.loose.sum((1, 2))
    quiet = changed < 0.6 * np.median(changed[working])
    between = slice(working[0], working[-1])
    return int(((outlines.extended < HOME) & quiet)[between].sum())


def _judge_table(observation: Observation, findings: Findings) -> None:
    still = observation.still
    often, usual, end = sixth_highest(still.excess), np.median(still.excess), np.median(tail(still.excess))
    change = max(ramp(often, 30, 70), ramp(usual, 9, 25), ramp(end, 20, 45))
    findings.deduct(2 * change, "pixels of the table change where no arm and no thing is")
    shade = max(ramp(np.median(tail(still.shade)), 36, 66), ramp(still.lasting, 28, 45))
    findings.deduct(2 * shade, "a patch of the table stays changed")
    tone, gain = still.tone[~np.isnan(still.tone)], still.gain[~np.isnan(still.gain)]
    if len(tone) > 3:
        findings.rate(1.5, np.sort(tone)[-4], 4.2, 6.0, "the table changes its tone")
        findings.rate(2, np.sort(np.abs(gain - 1))[-3], 0.012, 0.025, "the light flickers")


def _untouched_jumps(observation: Observation, color: str) -> int:
    """Number of times that an object moves without contact.

    A move counts when no arm was near both positions, or when it is faster than any arm. Only frames that show at least
    half of the object are compared: the centre of a partly occluded object shifts. An object that disappears from one frame
    to the next with no arm near it counts, too (a forearm of the table's tone may be missed, its sleeve is not).
    """
    tracks, whole = observation.tracks[color], observation.objects[color][0]
    areas, centers = tracks[:, 0], tracks[:, 1:]
    jumps = 0
    # A hand with the colour of the table may be near unseen; it is missed all the way only if none comes close at all.
    certain = not observation.outlines.veiled or observation.watched[color].reach > 32
    before: int | None = None
    for t in np.flatnonzero(areas >= 0.5 * whole).tolist():
        if before is not None and np.linalg.norm(centers[t] - centers[before]) > MOVED:
            arms = np.any(observation.arms[before : t + 1], axis=0)
            carried = _arm_near(arms, centers[before]) and _arm_near(arms, centers[t])
            fastest = FAST if t - before == 1 else FAST_ON
            fast = np.linalg.norm(centers[t] - centers[before]) > fastest * (t - before)
            jumps += int(fast or (not carried and certain))
        before = t
    for t in range(1, len(areas) - 1):
        gone = areas[t - 1] >= 0.5 * whole and max(areas[t], areas[t + 1]) < 0.25 * whole
        covered: np.ndarray = observation.arms[t - 1 : t + 2].any(0) | observation.hands
        near = _arm_near(covered, centers[t - 1], 42.0)
        jumps += int(gone and certain and not near)
    return jumps


def _arm_near(arm: np.ndarray, center: np.ndarray, reach: float = 18.0) -> bool:
    """Whether bool (H, W) `arm` has a pixel within `reach` pixels of `center`."""
    y, x = np.nonzero(arm)
    return bool(len(x)) and bool(((x - center[0]) ** 2 + (y - center[1]) ** 2).min() < reach**2)
