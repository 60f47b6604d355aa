"""The errors of a measured video: per frame pair, per view, per view pair, and per video."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

import numpy as np

TEMPORAL = ("tse", "tse_robust", "tse_moving")
ACROSS = ("cse", "cse_robust", "cse_moving")
# Why a measure across views is undefined where neither view pair says so.
FEW_REASONS = {**dict.fromkeys(ACROSS, "no fundamental matrix fits"), "cse_moving": "too few matches move"}
FEWEST = 0.5  # share of the frame pairs below which a value is given with the reason why the others are missing


@dataclass
class FrameError:
    """The errors of one frame pair, or of one frame in two views; in pixels, None if undefined.

    Attributes:
        cookbook, mean: median and mean over all matches, under the cookbook's F.
        robust: median over all matches, under the robust F.
        moving: median over the matches that move.
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
    lost: dict[str, str] = field(default_factory=dict, repr=False)
    repeats: dict[str, list[float]] = field(default_factory=dict, repr=False)


class _Result:
    """What the results of views and of view pairs share."""

    errors: tuple[FrameError, ...]

    def used(self, measure: str) -> int:
        """The number of frame pairs (of frames, across views) behind a measure."""
        return sum(measure not in error.lost for error in self.errors)

    def detail(self) -> dict[str, object]:
        """All values as plain JSON; of the single frame pairs the cookbook's medians and means."""
        detail = {**vars(self), "frame_medians": [], "frame_means": []}
        for error in detail.pop("errors"):
            for key, value in (("frame_medians", error.cookbook), ("frame_means", error.mean)):
                # Four digits: a hundredth of what differs between two repetitions.
                detail[key].append(None if value is None else float(f"{value:.4g}"))
        return detail


@dataclass(frozen=True)
class ViewResult(_Result):
    """The temporal errors of a view.

    Of `pairs` frame pairs, `pairs_measured` have a `tse` and `pairs_moving` a `tse_moving`. A measure is the median over the
    pairs that have it.

    Attributes:
        pairs_lost: measure -> reason -> number of pairs without it.
        tse_mean: the cookbook's second value: mean over frames of each frame's mean error, pixels.
        matches, moving_matches: median over the pairs.
        repeatability: measure -> how far two repetitions of the estimate of F are apart in 95 % of cases, pixels.
        errors: of each frame pair.
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
    note: str | None
    errors: tuple[FrameError, ...] = field(repr=False)

    @property
    def name(self) -> str:
        """The name of the view."""
        return self.view


@dataclass(frozen=True)
class CrossResult(_Result):
    """The errors of two simultaneous views.

    `geometry` names the source of F for `cse_robust` and `cse_moving`. `cse` uses the cookbook's F for all frames. `errors` are
    those of each frame.
    """

    views: tuple[str, str]
    geometry: str
    matches: float | None
    frames: int
    frames_measured: int
    repeatability: Mapping[str, float | None]
    cse: float | None
    cse_mean: float | None
    cse_robust: float | None
    cse_moving: float | None
    inlier_share: float | None
    reason: str | None
    errors: tuple[FrameError, ...] = field(repr=False)

    @property
    def name(self) -> str:
        """The names of the views."""
        return ":".join(self.views)


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
        of_views = _reasons(self.views, len(self.views) > 1)
        if not self.views:
            of_views = "; ".join(self.notes) or "no view"
        out: dict[str, tuple[float | None, str | None]] = {}
        for measure in (*TEMPORAL, "static_share"):
            value, reason = mean(column(self.views, measure)), None
            if value is None:
                reason = of_views
            if reason is None and measure in TEMPORAL:
                reason = self._few(measure)
            out[measure] = value, reason
        if self.crosses:
            of_crosses = _reasons(self.crosses, True)
            for measure in ACROSS:
                value, reason = mean(column(self.crosses, measure)), None
                if value is None:
                    reason = of_crosses or FEW_REASONS[measure]
                out[measure] = value, reason
        return out

    def _few(self, measure: str) -> str | None:
        """That a temporal measure rests on fewer than FEWEST of the frame pairs, and why; None if it rests on more."""
        total, used = sum(column(self.views, "pairs")), self.pairs()[measure]
        if used >= FEWEST * total:
            return None
        start = f"rests on {used} of {total} frame pairs" if used else "no frame pair has a value"
        why = "; ".join(f"{count}: {reason}" for reason, count in self.pairs_lost()[measure].items())
        return f"{start} ({why})"

    def _parts(self) -> dict[str, Sequence[ViewResult] | Sequence[CrossResult]]:
        """The views or view pairs behind each measure."""
        parts: dict[str, Sequence[ViewResult] | Sequence[CrossResult]] = dict.fromkeys(TEMPORAL, self.views)
        if self.crosses:
            parts |= dict.fromkeys(ACROSS, self.crosses)
        return parts

    def pairs(self) -> dict[str, int]:
        """The number of frame pairs (of frames, across views) behind each measure, over all views."""
        out = {}
        for measure, parts in self._parts().items():
            out[measure] = sum(part.used(measure) for part in parts)
        return out

    def pairs_lost(self) -> dict[str, dict[str, int]]:
        """Measure -> reason -> number of frame pairs without this temporal measure, over all views."""
        return count_lost(chain.from_iterable(column(self.views, "errors")))

    def detail(self) -> dict[str, object]:
        """All values as plain JSON; of single frames only the cookbook's medians and means.

        `repeatability`: how far each measure of this video moves when its estimates of F are repeated, pixels (mean over views).
        """
        repeatability = {}
        for measure, parts in self._parts().items():
            repeatability[measure] = mean(defined(part.repeatability[measure] for part in parts))
        return {
            "repeatability": repeatability,
            "pairs": self.pairs(),
            "pairs_lost": self.pairs_lost(),
            "views": [v.detail() for v in self.views],
            "crosses": [c.detail() for c in self.crosses],
            "notes": list(self.notes),
        }

    def curves(self, conditioning: int) -> dict[str, list[float | None]]:
        """Each temporal measure at each frame after the conditioning frames: of the pair that ends there, mean over views."""
        ending: dict[int, list[FrameError]] = {}
        for error in chain.from_iterable(column(self.views, "errors")):
            ending.setdefault(error.frames[1], []).append(error)
        curves: dict[str, list[float | None]] = {}
        for measure, name in zip(TEMPORAL, ("cookbook", "robust", "moving"), strict=True):
            curves[measure] = []
            for t in range(conditioning, max(ending, default=-1) + 1):
                curves[measure].append(mean(column(ending.get(t, []), name)))
        return curves


def count_lost(errors: Iterable[FrameError]) -> dict[str, dict[str, int]]:
    """Temporal measure -> reason -> number of frame pairs without it."""
    lost: dict[str, dict[str, int]] = {measure: {} for measure in TEMPORAL}
    for error in errors:
        for measure, reason in error.lost.items():
            lost[measure][reason] = lost[measure].get(reason, 0) + 1
    return lost


def _reasons(results: Sequence[ViewResult] | Sequence[CrossResult], named: bool) -> str | None:
    """Why views or view pairs have no value, with their names if `named`; None: no reason."""
    reasons = []
    for result in results:
        if result.reason:
            reasons.append(f"{result.name}: {result.reason}" if named else result.reason)
    return "; ".join(reasons) or None


def repeated(errors: Iterable[FrameError], measure: str) -> float | None:
    """The repeatability of a video's value, from repetitions; each of them is a median over frame pairs, as the value is."""
    lists = [e.repeats[measure] for e in errors if e.repeats.get(measure)]
    values = []
    for k in range(max(map(len, lists), default=0)):
        # Where an estimate failed, a pair has fewer repetitions: it cycles through those that it has.
        values.append(float(np.median([of_pair[k % len(of_pair)] for of_pair in lists])))
    return repeatability_of(values)


def repeatability_of(values: Sequence[float]) -> float | None:
    """2.8 standard deviations of repeated values: two repetitions differ by less in 95 % of cases (ISO 5725-6, 4.1.4).

    None for fewer than two values.
    """
    if len(values) < 2:
        return None
    return 2.8 * float(np.std(values, ddof=1))


def column(items: Iterable[object], name: str) -> list:
    """The attribute `name` of each item, where it is defined."""
    return defined(getattr(item, name) for item in items)


def defined(values: Iterable[float | None]) -> list[float]:
    """The values that are not None."""
    return [v for v in values if v is not None]


def mean(values: Sequence[float]) -> float | None:
    """The mean; None if there is no value."""
    return float(np.mean(values)) if values else None


def median(values: Sequence[float]) -> float | None:
    """The median; None if there is no value."""
    return float(np.median(values)) if values else None


def lower_median(values: np.ndarray) -> float:
    """The median of (N,), the lower of the middle two if N is even: torch.median, with which the cookbook takes frame values."""
    middle = (len(values) - 1) // 2
    return float(np.partition(values, middle)[middle])
