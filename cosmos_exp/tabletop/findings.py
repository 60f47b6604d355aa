"""What the rules of the judge have in common: deductions with their reasons, and thresholds."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

OUT = 4  # an arm that reaches out for this many frames has moved; half as many frames are ignored
MOVED = 7.0  # pixels; after the sway is removed, static things stay within 3


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


def ramp(value: float, good: float, bad: float) -> float:
    """Return 0 at `good` or better, 1 at `bad` or worse, linear in between; 0 for nan."""
    if np.isnan(value):
        return 0.0
    return float(np.clip((value - good) / (bad - good), 0, 1))


def tail(track: np.ndarray) -> np.ndarray:
    """The last quarter of a track (T, ...), at least three frames."""
    return track[-max(3, len(track) // 4) :]
