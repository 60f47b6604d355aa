"""Sampson error of videos: does each view move like one rigid scene, and do several views show the same one?

Two definitions stand side by side. The cookbook's, for numbers that compare with published ones: F by plain RANSAC, the
error over all matches, outliers too; median over matches, median over frames (`tse`, `cse`). Ours: the error of moving
matches alone under a MAGSAC++ geometry of their own (`tse_moving`, `cse_moving`), with the share of matches that do not
move, the share of inliers and the number of matches beside it, since a still, blurred or torn video can score well."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np


@dataclass(frozen=True)
class FrameError:
    """One frame pair, or one frame of two views; errors in pixels, None with the reason when it cannot be said."""

    frames: tuple[int, int]
    cookbook: float | None
    moving: float | None
    static_share: float | None
    inlier_share: float | None
    matches: int
    reason: str | None = None


@dataclass(frozen=True)
class ViewResult:
    """A view's temporal figures. `pairs_measured` of `pairs` frame pairs had enough matches; the rest are not averaged."""

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


@dataclass(frozen=True)
class CrossResult:
    """Two views' figures. geometry: where F of `cse_robust` and `cse_moving` came from; `cse` is pooled plain RANSAC."""

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


@dataclass(frozen=True)
class VideoResult:
    """A video's views and view pairs, and notes on tiles that were left out."""

    views: tuple[ViewResult, ...]
    crosses: tuple[CrossResult, ...]
    notes: tuple[str, ...] = ()

    def measures(self) -> dict[str, tuple[float | None, str | None]]:
        """A run's measures with the reason of each that is missing: the mean over the views that could be measured."""
        reasons = [f"{v.view}: {v.reason}" if len(self.views) > 1 else v.reason for v in self.views if v.reason]
        reason = "; ".join(reasons) or (None if self.views else "; ".join(self.notes) or "no view")
        out = {m: (_mean([getattr(v, m) for v in self.views]), reason) for m in ("tse", "tse_moving", "static_share")}
        if self.crosses:
            why = "; ".join(f"{':'.join(c.views)}: {c.reason}" for c in self.crosses if c.reason) or None
            out |= {m: (_mean([getattr(c, m) for c in self.crosses]), why) for m in ("cse", "cse_moving")}
        return out

    def detail(self) -> dict[str, Any]:
        """All figures but the single frames', as plain JSON."""

        def plain(result: Any) -> dict[str, Any]:
            return {k: v for k, v in vars(result).items() if k not in ("per_pair", "per_frame")}

        return {
            "views": [plain(v) for v in self.views],
            "crosses": [plain(c) for c in self.crosses],
            "notes": list(self.notes),
        }


def _mean(values: list[float | None]) -> float | None:
    there = [v for v in values if v is not None]
    return float(np.mean(there)) if there else None


def _median(values: Any) -> float | None:
    there = [v for v in values if v is not None]
    return float(np.median(there)) if there else None
