"""The figures of a measured video: per frame pair, per view, per view pair, and per video."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

TEMPORAL = ("tse", "tse_robust", "tse_moving")
ACROSS = ("cse", "cse_robust", "cse_moving")
FEWEST = 0.5  # share of the frame pairs below which a value is given with the reason why the others are missing


@dataclass(frozen=True)
class FrameError:
    """The errors of one frame pair, or of one frame in two views; in pixels, None if undefined.

    Attributes:
        cookbook, mean: median and mean over all matches, under the cookbook's F.
        robust: median over all matches, under the robust F.
        moving: median over the matches that move.
        moves: whether enough matches move for `moving`.
        lost: measure -> why it is undefined for this pair.
        repeats: measure -> the value of this pair in each repetition of the estimate of F.
    """

    frames: tuple[int, int]
    matches: int
    cookbook: float | None = None
    mean: float | None = None
    robust: float | None = None
    moving: float | None = None
    static_share: float | None = None
    inlier_share: float | None = None
    moving_matches: int = 0
    moves: bool = False
    lost: Mapping[str, str] = field(default_factory=dict, repr=False)
    repeats: Mapping[str, tuple[float, ...]] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class ViewResult:
    """The temporal figures of a view.

    Of `pairs` frame pairs, `pairs_measured` have a `tse` and `pairs_moving` a `tse_moving`. A measure is the median over the
    pairs that have it.

    Attributes:
        pairs_lost: measure -> reason -> number of pairs without it.
        tse_mean: the cookbook's second figure: mean over frames of each frame's mean error, pixels.
        matches, moving_matches: median over the pairs.
        repeatability: measure -> how far two repetitions of the estimate of F are apart in 95 % of cases, pixels.
    """

    view: str
    tse: float | None
    tse_mean: float | None
    tse_robust: float | None
    tse_moving: float | None
    static_share: float | None
    inlier_share: float | None
    matches: float | None
    moving_matches: float | None
    pairs: int
    pairs_measured: int
    pairs_moving: int
    pairs_lost: Mapping[str, Mapping[str, int]]
    repeatability: Mapping[str, float | None]
    reason: str | None
    note: str | None = None
    per_pair: tuple[FrameError, ...] = field(default=(), repr=False)

    def used(self, measure: str) -> int:
        """The number of frame pairs behind a temporal measure."""
        return self.pairs - sum(self.pairs_lost[measure].values())

    def detail(self) -> dict[str, object]:
        """All figures as plain JSON; of the single frame pairs the cookbook's medians and means."""
        return _detail(self, self.per_pair)


@dataclass(frozen=True)
class CrossResult:
    """The figures of two simultaneous views.

    `geometry` names the source of F for `cse_robust` and `cse_moving`. `cse` uses the cookbook's F for all frames.
    """

    views: tuple[str, str]
    cse: float | None
    cse_mean: float | None
    cse_robust: float | None
    cse_moving: float | None
    inlier_share: float | None
    matches: float | None
    frames: int
    frames_measured: int
    repeatability: Mapping[str, float | None]
    geometry: str
    reason: str | None
    per_frame: tuple[FrameError, ...] = field(default=(), repr=False)

    def detail(self) -> dict[str, object]:
        """All figures as plain JSON; of the single frames the cookbook's medians and means."""
        return _detail(self, self.per_frame)


@dataclass(frozen=True)
class VideoResult:
    """The views and view pairs of a video, and notes on tiles that were left out."""

    views: tuple[ViewResult, ...]
    crosses: tuple[CrossResult, ...]
    notes: tuple[str, ...] = ()

    def measures(self) -> dict[str, tuple[float | None, str | None]]:
        """Each measure of a run: the mean over the views that could be measured, and a reason.

        The reason says why a measure is undefined, or that it rests on fewer than half of the frame pairs.
        """
        reasons = [f"{v.view}: {v.reason}" if len(self.views) > 1 else v.reason for v in self.views if v.reason]
        reason = "; ".join(reasons) or (None if self.views else "; ".join(self.notes) or "no view")
        out: dict[str, tuple[float | None, str | None]] = {}
        for m in TEMPORAL:
            value = mean(getattr(v, m) for v in self.views)
            out[m] = value, (reason or self._few(m)) if value is None else self._few(m)
        share = mean(v.static_share for v in self.views)
        out["static_share"] = share, reason if share is None else None
        for m in ACROSS if self.crosses else ():
            value = mean(getattr(c, m) for c in self.crosses)
            why = "; ".join(f"{':'.join(c.views)}: {c.reason}" for c in self.crosses if c.reason)
            few = "too few matches move" if m == "cse_moving" else "no fundamental matrix fits"
            out[m] = value, None if value is not None else why or few
        return out

    def _few(self, measure: str) -> str | None:
        """That a temporal measure rests on fewer than FEWEST of the frame pairs, and why; None if it rests on more."""
        total = sum(v.pairs for v in self.views)
        used = sum(v.used(measure) for v in self.views)
        if used >= FEWEST * total:
            return None
        why = [f"{count}: {reason}" for reason, count in self.pairs_lost()[measure].items()]
        return (
            f"{f'rests on {used} of {total} frame pairs' if used else 'no frame pair has a value'} ({'; '.join(why)})"
        )

    def repeatability(self) -> dict[str, float | None]:
        """How far each measure of this video moves when its estimates of F are repeated, pixels (mean over views)."""
        out = {m: mean(v.repeatability.get(m) for v in self.views) for m in TEMPORAL}
        return out | {m: mean(c.repeatability.get(m) for c in self.crosses) for m in ACROSS if self.crosses}

    def pairs(self) -> dict[str, int]:
        """The number of frame pairs (of frames, across views) behind each measure, over all views."""
        out = {m: sum(v.used(m) for v in self.views) for m in TEMPORAL}
        return out | {m: sum(c.frames_measured for c in self.crosses) for m in ACROSS if self.crosses}

    def pairs_lost(self) -> dict[str, dict[str, int]]:
        """Measure -> reason -> number of frame pairs without this temporal measure, over all views."""
        lost: dict[str, Counter[str]] = {m: Counter() for m in TEMPORAL}
        for view in self.views:
            for measure, reasons in view.pairs_lost.items():
                lost[measure].update(reasons)
        return {m: dict(reasons) for m, reasons in lost.items()}

    def detail(self) -> dict[str, object]:
        """All figures as plain JSON; of single frames only the cookbook's medians and means."""
        return {
            "repeatability": self.repeatability(),
            "pairs": self.pairs(),
            "pairs_lost": self.pairs_lost(),
            "views": [v.detail() for v in self.views],
            "crosses": [c.detail() for c in self.crosses],
            "notes": list(self.notes),
        }

    def curves(self, conditioning: int) -> dict[str, list[float | None]]:
        """Each temporal measure at each frame after the conditioning frames: of the pair that ends there, mean over views."""
        found = [{e.frames[1]: e for e in v.per_pair} for v in self.views]
        last = max((t for errors in found for t in errors), default=-1)
        return {
            measure: [
                mean(getattr(errors[t], name) for errors in found if t in errors) for t in range(conditioning, last + 1)
            ]
            for measure, name in zip(TEMPORAL, ("cookbook", "robust", "moving"), strict=True)
        }


def _detail(result: ViewResult | CrossResult, errors: Sequence[FrameError]) -> dict[str, object]:
    kept = {k: v for k, v in vars(result).items() if k not in ("per_pair", "per_frame")}
    return kept | {
        "frame_medians": [_short(e.cookbook) for e in errors],
        "frame_means": [_short(e.mean) for e in errors],
    }


def _short(value: float | None) -> float | None:
    """Four digits: a hundredth of what differs between two repetitions."""
    return None if value is None else float(f"{value:.4g}")


def repeated(errors: Iterable[FrameError], measure: str) -> float | None:
    """The repeatability of a video's value, from repetitions; each of them is a median over frame pairs, as the value is."""
    lists = [e.repeats[measure] for e in errors if e.repeats.get(measure)]
    count = max((len(values) for values in lists), default=0)
    # Where an estimate failed, a pair has fewer repetitions: it cycles through those that it has.
    return repeatability_of([float(np.median([values[k % len(values)] for values in lists])) for k in range(count)])


def repeatability_of(values: Sequence[float]) -> float | None:
    """2.8 standard deviations of repeated values: two repetitions differ by less in 95 % of cases (ISO 5725-6, 4.1.4).

    None for fewer than two values.
    """
    return 2.8 * float(np.std(values, ddof=1)) if len(values) > 1 else None


def mean(values: Iterable[float | None]) -> float | None:
    """The mean of the values that are defined; None if there is none."""
    defined = [v for v in values if v is not None]
    return float(np.mean(defined)) if defined else None


def median(values: Iterable[float | None]) -> float | None:
    """The median of the values that are defined; None if there is none."""
    defined = [v for v in values if v is not None]
    return float(np.median(defined)) if defined else None


def lower_median(values: np.ndarray) -> float:
    """The median of (N,), the lower of the middle two if N is even: torch.median, with which the cookbook takes frame values."""
    return float(np.partition(values, (len(values) - 1) // 2)[(len(values) - 1) // 2])
