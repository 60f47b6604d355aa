"""The errors of a measured video: per frame pair, per view or view pair, and per video."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np

from cosmos_exp.metrics.geometry.epipolar import NO_FIT, RobustFit

TEMPORAL = ("tse", "tse_robust", "tse_moving")
ACROSS = ("cse", "cse_robust", "cse_moving")
FEWEST = 0.5  # share of the frame pairs below which a value is given with the reason why the others are missing


@dataclass
class FrameError:
    """The errors of one frame pair, or of one frame in two views.

    Attributes:
        values: pixels, by measure: median over all matches under the cookbook's F (`tse`, `cse`), under the robust F
            (`…_robust`), and over the matches that move (`…_moving`); `…_mean`: mean under the cookbook's F. And `matches`,
            `moving_matches`, and the shares `static_share`, `planar_share` and `inlier_share`. An undefined value is absent.
        lost: measure -> why it is undefined for this pair.
        repeats: measure -> the value of this pair in each repetition of the estimate of F.
    """

    frames: tuple[int, int]
    values: dict[str, float]
    lost: dict[str, str] = field(default_factory=dict, repr=False)
    repeats: dict[str, list[float]] = field(default_factory=dict, repr=False)

    def add_fit(self, measure: str, fit: RobustFit | None) -> None:
        """Record the value of a measure and its repetitions, or that no F fits."""
        if fit is None:
            self.lost[measure] = NO_FIT
        else:
            self.values[measure], self.repeats[measure] = fit.median, fit.medians


@dataclass(frozen=True)
class Result:
    """The errors of a view, or of two simultaneous views.

    Attributes:
        name: of the view, or A:B.
        values: those of `FrameError`, each the median over the frame pairs that have it, or their mean (`…_mean`).
        repeatability: measure -> how far two repetitions of the estimate of F are apart in 95 % of cases, pixels.
        errors: of each frame pair; across views, of each frame.
        reason: why the measures are undefined.
    """

    name: str
    values: dict[str, float | None]
    repeatability: dict[str, float | None]
    errors: tuple[FrameError, ...] = field(repr=False)
    reason: str | None = None
    note: str | None = None

    def count(self, measure: str) -> int:
        """Number of frame pairs (of frames, across views) behind a measure."""
        return sum(measure not in error.lost for error in self.errors)

    def detail(self) -> dict[str, object]:
        """All values as plain JSON; of the single frame pairs the cookbook's medians and means."""
        detail = {**vars(self), **self.values}
        del detail["errors"], detail["values"]
        measure = next(iter(self.repeatability))
        for key, name in (("frame_medians", measure), ("frame_means", f"{measure}_mean")):
            detail[key] = []
            for error in self.errors:
                value = error.values.get(name)
                # Four digits: a hundredth of what differs between two repetitions.
                detail[key].append(None if value is None else float(f"{value:.4g}"))
        return detail


@dataclass(frozen=True)
class VideoResult:
    """The views and view pairs of a video, and notes on tiles that were left out."""

    views: tuple[Result, ...]
    crosses: tuple[Result, ...]
    notes: tuple[str, ...] = ()

    @property
    def errors(self) -> list[FrameError]:
        """The temporal errors of all views."""
        errors: list[FrameError] = []
        for view in self.views:
            errors += view.errors
        return errors

    def pairs_lost(self) -> dict[str, dict[str, int]]:
        """Temporal measure -> reason -> number of frame pairs without it, over all views."""
        lost: dict[str, dict[str, int]] = {}
        for measure in TEMPORAL:
            lost[measure] = Counter()
            for error in self.errors:
                if measure in error.lost:
                    lost[measure][error.lost[measure]] += 1
        return lost

    def measures(self) -> dict[str, tuple[float | None, str | None]]:
        """Each measure of a run: the mean over the views that could be measured, and a reason.

        The reason says why a measure is undefined, or that it rests on fewer than half of the frame pairs.
        """
        of_views = _reasons(self.views, len(self.views) > 1)
        if not self.views:
            of_views = "; ".join(self.notes) or "no view"
        measures: dict[str, tuple[float | None, str | None]] = {}
        for measure in (*TEMPORAL, "static_share"):
            value = mean(column(self.views, measure))
            reason = of_views if value is None else None
            measures[measure] = value, reason or self._few(measure)
        if self.crosses:
            for measure in ACROSS:
                value = mean(column(self.crosses, measure))
                reason = None
                if value is None:
                    reason = _reasons(self.crosses, True) or "too few matches move"
                measures[measure] = value, reason
        return measures

    def _few(self, measure: str) -> str | None:
        """That a temporal measure rests on fewer than FEWEST of the frame pairs, and why; None if it rests on more."""
        lost, total = self.pairs_lost().get(measure, {}), len(self.errors)
        used = total - sum(lost.values())
        if used >= FEWEST * total:
            return None
        start = f"rests on {used} of {total} frame pairs" if used else "no frame pair has a value"
        return f"{start} ({'; '.join(f'{count}: {reason}' for reason, count in lost.items())})"

    def detail(self) -> dict[str, object]:
        """All values as plain JSON; of single frames only the cookbook's medians and means.

        `repeatability`: how far each measure of this video moves when its estimates of F are repeated, pixels (mean over
        views). `pairs`: number of frame pairs (of frames, across views) behind each measure.
        """
        repeatability, pairs = {}, {}
        for results, measures in ((self.views, TEMPORAL), (self.crosses, ACROSS)):
            for measure in measures if results else ():
                known, pairs[measure] = list[float](), 0
                for result in results:
                    pairs[measure] += result.count(measure)
                    value = result.repeatability[measure]
                    if value is not None:
                        known.append(value)
                repeatability[measure] = mean(known)
        return {
            "repeatability": repeatability,
            "pairs": pairs,
            "pairs_lost": self.pairs_lost(),
            "views": list(map(Result.detail, self.views)),
            "crosses": list(map(Result.detail, self.crosses)),
            "notes": list(self.notes),
        }

    def curves(self, conditioning: int) -> dict[str, list[float | None]]:
        """Each temporal measure at each frame after the conditioning frames: of the pair that ends there, mean over views."""
        ending: dict[int, list[FrameError]] = defaultdict(list)
        for error in self.errors:
            ending[error.frames[1]].append(error)
        curves: dict[str, list[float | None]] = {}
        for measure in TEMPORAL:
            curves[measure] = []
            for t in range(conditioning, max(ending, default=-1) + 1):
                curves[measure].append(mean(column(ending[t], measure)))
        return curves


def _reasons(results: Sequence[Result], named: bool) -> str | None:
    """Why views or view pairs have no value, with their names if `named`; None: no reason."""
    reasons = []
    for result in results:
        if result.reason:
            reasons.append(f"{result.name}: {result.reason}" if named else result.reason)
    return "; ".join(reasons) or None


def repeated(errors: Sequence[FrameError], measures: Iterable[str]) -> dict[str, float | None]:
    """The repeatability of a video's values, from repetitions; each of them is a median over frame pairs, as the value is."""
    out = {}
    for measure in measures:
        lists, values = [], []
        for error in errors:
            if error.repeats.get(measure):
                lists.append(error.repeats[measure])
        for k in range(max(map(len, lists), default=0)):
            # Where an estimate failed, a pair has fewer repetitions: it cycles through those that it has.
            values.append(float(np.median([of_pair[k % len(of_pair)] for of_pair in lists])))
        out[measure] = repeatability_of(values)
    return out


def repeatability_of(values: Sequence[float]) -> float | None:
    """2.8 standard deviations of repeated values: two repetitions differ by less in 95 % of cases (ISO 5725-6, 4.1.4).

    None for fewer than two values.
    """
    if len(values) < 2:
        return None
    return 2.8 * float(np.std(values, ddof=1))


def column(items: Iterable[FrameError | Result], name: str) -> list[float]:
    """The value `name` of each item, where it is defined."""
    values = []
    for item in items:
        value = item.values.get(name)
        if value is not None:
            values.append(value)
    return values


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
