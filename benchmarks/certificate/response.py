"""The response of one measure to the doses of one fault: found from which dose, partly, better, or invisible.

Everything is computed on the badness of a clip: the measure with its sign turned so that larger is worse; for a measure
without a direction, its distance from the clean clips' median. Clips of one recording are one cluster: intervals count
recordings, not clips.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy import stats

FALSE_ALARMS = 0.05  # share of clean clips that may be called faulty
FOUND = 0.95  # share of faulty clips that must be called faulty
LEVEL = 0.05  # of the t intervals
FEWEST = 4  # recordings that a t interval needs to hold (docs/statistics.md)

ByClip = Mapping[str, float | None]  # clip -> value; None: undefined


@dataclass(frozen=True)
class Clean:
    """The clean clips under one measure.

    Attributes:
        badness: by clip, of those with a value.
        undefined: clips without a value.
        center: the median value if the measure has no direction, else None.
        threshold: a clip is called faulty if its badness is larger; None for fewer than two values.
        false_alarms: expected share of false alarms among further clips of this kind, k / (n + 1) for the k-th largest
            badness as threshold. More than FALSE_ALARMS if there are fewer than 19 clips.
    """

    badness: pd.Series
    undefined: int
    better: int
    center: float | None
    threshold: float | None
    false_alarms: float | None

    def bad(self, values: ByClip) -> pd.Series:
        """The badness by clip, of those with a clean value; NaN where a clip has none here."""
        known = pd.Series(values, dtype=float)
        return badness(known[known.index.isin(self.badness.index)], self.better, self.center)


@dataclass(frozen=True)
class AtDose:
    """A measure at one dose of a fault.

    Attributes:
        n: clips with a value here and clean. undefined: clips with a clean value and none here.
        auc: probability that a faulty clip is worse than a clean one (ties count half), all pairs of clips.
        shift: badness less that of the clip's own clean version: t interval over recordings (Bonferroni over the doses);
            None for fewer than FEWEST recordings.
        found: share of clips beyond the threshold; a clip without a value is not found.
    """

    dose: float
    n: int
    undefined: int
    auc: float | None
    shift: tuple[float, float] | None
    found: float


@dataclass(frozen=True)
class Response:
    """A measure over all doses of a fault.

    Attributes:
        smallest: the smallest dose from which on the fault is found in FOUND of the clips; None also where the clean
            clips with a value are too few for FALSE_ALARMS.
        better_at: doses at which a clip scores better than its own clean version.
        verdict: found, partly (worse than its own clean version, but not found), better, invisible, undefined, or
            too few: fewer than FEWEST recordings have a value at any dose, so that no difference can be told.
    """

    doses: tuple[AtDose, ...]
    smallest: float | None
    better_at: tuple[float, ...]
    verdict: str


def badness(values: pd.Series, better: int, center: float | None) -> pd.Series:
    """The values with their sign turned so that larger is worse; without a direction, the distance from `center`."""
    return -better * values if center is None else abs(values - center)


def clean_baseline(values: ByClip, better: int) -> Clean:
    """The distribution of the clean clips and the threshold at FALSE_ALARMS.

    The threshold is the k-th largest clean badness with k = floor(FALSE_ALARMS (n + 1)), at least 1: a further clip that
    is exchangeable with these exceeds it with a probability of at most k / (n + 1) (split conformal prediction).

    Args:
        better: 1 if higher is better, -1 if lower is better, 0 if neither.
    """
    known = pd.Series(values, dtype=float).dropna()
    center = float(known.median()) if len(known) and better == 0 else None
    bad = badness(known, better, center)
    undefined = len(values) - len(known)
    if len(known) < 2:
        return Clean(bad, undefined, better, center, None, None)
    rank = max(1, int(FALSE_ALARMS * (len(known) + 1)))
    return Clean(bad, undefined, better, center, float(bad.nlargest(rank).iloc[-1]), rank / (len(known) + 1))


def respond(faulty: Mapping[float, ByClip], recordings: Mapping[str, str], clean: Clean) -> Response:
    """The response of a measure to a fault.

    Args:
        faulty: dose -> the value of each clip with the fault, from the weakest dose to the strongest.
        recordings: clip -> recording.
    """
    if clean.threshold is None:
        return Response((), None, (), "too few" if len(clean.badness) else "undefined")
    doses = []
    for dose, values in faulty.items():
        doses.append(_at_dose(dose, values, recordings, clean, LEVEL / len(faulty)))
    smallest = None
    if clean.false_alarms <= FALSE_ALARMS:
        for at in reversed(doses):
            if at.found < FOUND:
                break
            smallest = at.dose
    better_at = []
    for at in doses:
        # Without a direction no fault is an improvement: it is close to the clean clips' median.
        if clean.better and at.shift and at.shift[1] < 0:
            better_at.append(at.dose)
    return Response(tuple(doses), smallest, tuple(better_at), _verdict(doses, smallest, bool(better_at)))


def _verdict(doses: list[AtDose], smallest: float | None, is_better: bool) -> str:
    if not any(at.n for at in doses):
        return "undefined"
    if smallest is not None:
        return "found"
    shifts = [at.shift for at in doses if at.shift]
    if not shifts:
        return "too few"
    if max(shifts)[0] > 0:
        return "partly"
    return "better" if is_better else "invisible"


def _at_dose(dose: float, values: ByClip, recordings: Mapping[str, str], clean: Clean, level: float) -> AtDose:
    measured = clean.bad(values)
    bad = measured.dropna()
    undefined = len(measured) - len(bad)
    if bad.empty:
        return AtDose(dose, 0, undefined, None, None, 0.0)
    shifts = (bad - clean.badness[bad.index]).groupby(recordings, sort=False).mean().to_numpy()
    found = float((bad > clean.threshold).sum() / len(measured))
    area = float(stats.mannwhitneyu(bad, clean.badness).statistic / (len(bad) * len(clean.badness)))
    return AtDose(dose, len(bad), undefined, area, t_interval(shifts, level), found)


def t_interval(values: np.ndarray, level: float = LEVEL) -> tuple[float, float] | None:
    """The t interval of a mean; None for fewer than FEWEST values."""
    if len(values) < FEWEST:
        return None
    half = float(stats.t.ppf(1 - level / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values)))
    return float(values.mean()) - half, float(values.mean()) + half
