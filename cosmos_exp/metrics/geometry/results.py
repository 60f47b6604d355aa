"""The errors of a measured video: per frame pair, per view, per view pair, and per video."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

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
    lost: dict[str, str] = field(default_factory=dict, repr=False)
    repeats: dict[str, tuple[float, ...]] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class ViewResult:
    """The temporal errors of a view.

    Of `pairs` frame pairs, `pairs_measured` have a `tse` and `pairs_moving` a `tse_moving`. A measure is the median over the
    pairs that have it.

    Attributes:
        pairs_lost: measure -> reason -> number of pairs without it.
        tse_mean: the cookbook's second value: mean over frames of each frame's mean error, pixels.
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

    @property
    def name(self) -> str:
        """The name of the view."""
        return self.view

    @property
    def errors(self) -> tuple[FrameError, ...]:
        """The errors of each frame pair."""
        return self.per_pair

    @property
    def measured(self) -> int:
        """The number of frame pairs with a `tse`."""
        return self.pairs_measured

    def used(self, measure: str) -> int:
        """The number of frame pairs behind a temporal measure."""
        return self.pairs - sum(self.pairs_lost[measure].values())

    def detail(self) -> dict[str, object]:
        """All values as plain JSON; of the single frame pairs the cookbook's medians and means."""
        return _detail(self, self.per_pair)


@dataclass(frozen=True)
class CrossResult:
    """The errors of two simultaneous views.

    `geometry` names the source of F for `cse_robust` and `cse_moving`. `cse` uses the cookbook's F for all frames.
    """

    views: tuple[str, str]
    geometry: str
    matches: float | None
    frames: int
    frames_measured: int
    repeatability: Mapping[str, float | None]
    cse: float | None = None
    cse_mean: float | None = None
    cse_robust: float | None = None
    cse_moving: float | None = None
    inlier_share: float | None = None
    reason: str | None = None
    per_frame: tuple[FrameError, ...] = field(default=(), repr=False)

    @property
    def name(self) -> str:
        """The names of the views."""
        return ":".join(self.views)

    @property
    def errors(self) -> tuple[FrameError, ...]:
        """The errors of each frame."""
        return self.per_frame

    @property
    def measured(self) -> int:
        """The number of frames with errors."""
        return self.frames_measured

    def used(self, measure: str) -> int:
        """The number of frames behind a measure."""
        return self.frames_measured

    def detail(self) -> dict[str, object]:
        """All values as plain JSON; of the single frames the cookbook's medians and means."""
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
        reason = _reasons(self.views, len(self.views) > 1)
        if not self.views:
            reason = "; ".join(self.notes) or "no view"
        out: dict[str, tuple[float | None, str | None]] = {}
        for measure in TEMPORAL:
            value, few = mean(column(self.views, measure)), self._few(measure)
            out[measure] = value, few
            if value is None and reason:
                out[measure] = None, reason
        out["static_share"] = mean(column(self.views, "static_share")), None
        if out["static_share"][0] is None:
            out["static_share"] = None, reason
        if not self.crosses:
            return out
        why = _reasons(self.crosses, True)
        for measure in ACROSS:
            out[measure] = mean(column(self.crosses, measure)), None
            if out[measure][0] is None:
                out[measure] = None, why or FEW_REASONS[measure]
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

    def repeatability(self) -> dict[str, float | None]:
        """How far each measure of this video moves when its estimates of F are repeated, pixels (mean over views)."""
        out = {}
        for measure, parts in self._parts().items():
            out[measure] = mean(defined(part.repeatability[measure] for part in parts))
        return out

    def pairs(self) -> dict[str, int]:
        """The number of frame pairs (of frames, across views) behind each measure, over all views."""
        out = {}
        for measure, parts in self._parts().items():
            out[measure] = sum(part.used(measure) for part in parts)
        return out

    def pairs_lost(self) -> dict[str, dict[str, int]]:
        """Measure -> reason -> number of frame pairs without this temporal measure, over all views."""
        lost = {}
        for measure in TEMPORAL:
            count: Counter[str] = Counter()
            for view in self.views:
                count.update(view.pairs_lost[measure])
            lost[measure] = dict(count)
        return lost

    def detail(self) -> dict[str, object]:
        """All values as plain JSON; of single frames only the cookbook's medians and means."""
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
        ending: dict[int, list[FrameError]] = {}
        for view in self.views:
            for error in view.per_pair:
                ending.setdefault(error.frames[1], []).append(error)
        curves = {}
        for measure, name in zip(TEMPORAL, ("cookbook", "robust", "moving"), strict=True):
            curve = []
            for t in range(conditioning, max(ending, default=-1) + 1):
                curve.append(mean(column(ending.get(t, []), name)))
            curves[measure] = curve
        return curves


def _detail(result: ViewResult | CrossResult, errors: Sequence[FrameError]) -> dict[str, object]:
    detail = dict(vars(result))
    detail.pop("per_pair", None)
    detail.pop("per_frame", None)
    for key, name in (("frame_medians", "cookbook"), ("frame_means", "mean")):
        short = []
        for error in errors:
            value = getattr(error, name)
            # Four digits: a hundredth of what differs between two repetitions.
            short.append(None if value is None else float(f"{value:.4g}"))
        detail[key] = short
    return detail


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
