"""The figures of a measured video: per frame pair, per view, per view pair, and per video."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True)
class FrameError:
    """The errors of one frame pair, or of one frame in two views; in pixels, None with a reason if undefined."""

    frames: tuple[int, int]
    cookbook: float | None
    moving: float | None
    static_share: float | None
    inlier_share: float | None
    matches: int
    reason: str | None = None

    @classmethod
    def undefined(cls, frames: tuple[int, int], matches: int, reason: str) -> FrameError:
        """A frame pair that cannot be measured."""
        return cls(frames, None, None, None, None, matches, reason)


@dataclass(frozen=True)
class ViewResult:
    """The temporal figures of a view.

    Of `pairs` frame pairs, `pairs_measured` had enough matches and `pairs_moving` enough moving ones. The others are left
    out of the medians.
    """

    view: str
    tse: float | None
    tse_moving: float | None
    static_share: float | None
    inlier_share: float | None
    matches: float | None
    pairs: int
    pairs_measured: int
    pairs_moving: int
    reason: str | None
    note: str | None = None
    per_pair: tuple[FrameError, ...] = field(default=(), repr=False)

    def detail(self) -> dict[str, object]:
        """All figures except those of single frame pairs, as plain JSON."""
        return {k: v for k, v in vars(self).items() if k != "per_pair"}


@dataclass(frozen=True)
class CrossResult:
    """The figures of two simultaneous views.

    `geometry` names the source of F for `cse_robust` and `cse_moving`. `cse` uses one RANSAC F for all frames.
    """

    views: tuple[str, str]
    cse: float | None
    cse_robust: float | None
    cse_moving: float | None
    inlier_share: float | None
    matches: float | None
    frames: int
    frames_measured: int
    geometry: str
    reason: str | None
    per_frame: tuple[FrameError, ...] = field(default=(), repr=False)

    def detail(self) -> dict[str, object]:
        """All figures except those of single frames, as plain JSON."""
        return {k: v for k, v in vars(self).items() if k != "per_frame"}


@dataclass(frozen=True)
class VideoResult:
    """The views and view pairs of a video, and notes on tiles that were left out."""

    views: tuple[ViewResult, ...]
    crosses: tuple[CrossResult, ...]
    notes: tuple[str, ...] = ()

    def measures(self) -> dict[str, tuple[float | None, str | None]]:
        """Each measure of a run with the reason if it is undefined: the mean over the views that could be measured."""
        reasons = [f"{v.view}: {v.reason}" if len(self.views) > 1 else v.reason for v in self.views if v.reason]
        reason = "; ".join(reasons) or (None if self.views else "; ".join(self.notes) or "no view")
        out = {
            "tse": (mean(v.tse for v in self.views), reason),
            "tse_moving": (mean(v.tse_moving for v in self.views), reason),
            "static_share": (mean(v.static_share for v in self.views), reason),
        }
        if self.crosses:
            why = "; ".join(f"{':'.join(c.views)}: {c.reason}" for c in self.crosses if c.reason) or None
            out["cse"] = mean(c.cse for c in self.crosses), why
            out["cse_moving"] = mean(c.cse_moving for c in self.crosses), why
        return out

    def detail(self) -> dict[str, object]:
        """All figures except those of single frames, as plain JSON."""
        return {
            "views": [v.detail() for v in self.views],
            "crosses": [c.detail() for c in self.crosses],
            "notes": list(self.notes),
        }


def mean(values: Iterable[float | None]) -> float | None:
    """The mean of the values that are defined; None if there is none."""
    defined = [v for v in values if v is not None]
    return float(np.mean(defined)) if defined else None


def median(values: Iterable[float | None]) -> float | None:
    """The median of the values that are defined; None if there is none."""
    defined = [v for v in values if v is not None]
    return float(np.median(defined)) if defined else None
