"""The response of one measure to the doses of one fault: direction, monotony, AUC, smallest dose found.

Everything is computed on the badness of a clip: the measure with its sign turned so that larger is worse; for a measure
without a direction, its distance from the clean clips' median. Clips of one recording are one cluster: intervals count
recordings, not clips.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

import numpy as np
from scipy import stats

from cosmos_exp.metrics.certify.intervals import LEVEL, Interval, auc, auc_interval, by_recording, t_interval, wilson

FALSE_ALARMS = 0.05  # share of clean clips that may be called faulty
FEWEST = 4  # recordings that a t interval needs to hold (docs/statistics.md)
TOO_FEW = "too few"  # the verdict where FEWEST is not reached
FOUND = 0.95  # share of faulty clips that must be called faulty

ByClip = Mapping[str, float | None]  # clip -> value; None: undefined


@dataclass(frozen=True)
class Clean:
    """The clean clips under one measure.

    Attributes:
        n, recordings: clips with a value, and the recordings that they come from.
        undefined: clips without a value.
        median: of the values.
        center: the median if the measure has no direction, else None.
        threshold: a clip is called faulty if its badness is larger; None for fewer than two values.
        false_alarms: expected share of false alarms among further clips of this kind, k / (n + 1) for the k-th largest
            badness as threshold. More than FALSE_ALARMS if there are fewer than 19 clips.
        left_out: share of false alarms in each recording with the threshold from the others, mean over recordings.
    """

    n: int
    recordings: int
    undefined: int
    median: float | None
    center: float | None
    threshold: float | None
    false_alarms: float | None
    left_out: float | None


@dataclass(frozen=True)
class AtDose:
    """A measure at one dose of a fault.

    Attributes:
        n: clips with a value here and clean. undefined: clips with a clean value and none here.
        median: of the values.
        auc: probability that a faulty clip is worse than a clean one (ties count half), all pairs of clips.
        worse: probability that a clip is worse than its own clean version (ties count half), mean over recordings.
        shift: badness less that of the clip's own clean version, mean over recordings; its t interval (Bonferroni over
            the doses) is None for fewer than FEWEST recordings.
        found: share of clips beyond the threshold; a clip without a value is not found.
    """

    dose: float
    n: int
    undefined: int
    median: float | None = None
    auc: float | None = None
    auc_interval: Interval | None = None
    worse: float | None = None
    worse_interval: Interval | None = None
    shift: float | None = None
    shift_interval: Interval | None = None
    found: float | None = None


@dataclass(frozen=True)
class DoseResponse:
    """A measure over all doses of a fault.

    Attributes:
        direction: worse, better or none: how a clip compares with its own clean version, over all doses; up or down for
            a measure without a direction.
        spearman: rank correlation of dose and badness within a clip, mean over recordings, with its t interval.
        turns_at: the dose after which the badness falls again; None: it never does.
        smallest: the smallest dose from which on the fault is found in FOUND of the clips; None also where the clean
            clips with a value are too few for FALSE_ALARMS.
        better_at: doses at which a clip scores better than its own clean version.
        undefined_at: the smallest dose at which more than 1 - FOUND of the clips lose their value.
        verdict: found, partly (worse than its own clean version, but not found), better, invisible, undefined, or
            too few: fewer than FEWEST recordings have a value at any dose, so that no difference can be told.
    """

    measure: str
    fault: str
    unit: str
    doses: tuple[AtDose, ...]
    direction: str | None
    spearman: float | None
    spearman_interval: Interval | None
    turns_at: float | None
    smallest: float | None
    better_at: tuple[float, ...]
    undefined_at: float | None
    verdict: str

    def to_json(self) -> dict[str, object]:
        """As plain JSON."""
        return asdict(self)


def clean_baseline(clean: ByClip, recordings: Mapping[str, str], better: int) -> Clean:
    """The distribution of the clean clips and the threshold at FALSE_ALARMS.

    The threshold is the k-th largest clean badness with k = floor(FALSE_ALARMS (n + 1)), at least 1: a further clip that
    is exchangeable with these exceeds it with a probability of at most k / (n + 1) (split conformal prediction).

    Args:
        recordings: clip -> recording.
        better: 1 if higher is better, -1 if lower is better, 0 if neither.
    """
    known = {c: v for c, v in clean.items() if v is not None}
    n, names = len(known), sorted({recordings[c] for c in known})
    undefined = len(clean) - n
    if n < 2:
        median = float(np.median(list(known.values()))) if known else None
        return Clean(n, len(names), undefined, median, None, None, None, None)
    median = float(np.median(list(known.values())))
    center = median if better == 0 else None
    bad = {c: badness(v, better, center) for c, v in known.items()}
    shares = []
    for name in names:
        own = [b for c, b in bad.items() if recordings[c] == name]
        others = [b for c, b in bad.items() if recordings[c] != name]
        if others:
            shares.append(float(np.mean(np.array(own) > _threshold(others))))
    alarms = _rank(n) / (n + 1)
    left_out = float(np.mean(shares)) if shares else None
    return Clean(n, len(names), undefined, median, center, _threshold(list(bad.values())), alarms, left_out)


def badness(value: float, better: int, center: float | None) -> float:
    """The value with its sign turned so that larger is worse; without a direction, the distance from `center`."""
    return abs(value - center) if center is not None else -better * value


def _rank(n: int) -> int:
    return max(1, int(FALSE_ALARMS * (n + 1)))


def _threshold(values: Sequence[float]) -> float:
    return sorted(values, reverse=True)[_rank(len(values)) - 1]


def respond(
    measure: str,
    fault: str,
    unit: str,
    clean: ByClip,
    faulty: Mapping[float, ByClip],
    recordings: Mapping[str, str],
    better: int,
    baseline: Clean,
) -> DoseResponse:
    """The response of a measure to a fault.

    Args:
        clean: the clean clips.
        faulty: dose -> the same clips, or some of them, with the fault, from the weakest dose to the strongest.
        recordings, better: as in `clean_baseline`, which gave `baseline`.
    """
    if baseline.threshold is None:
        empty = tuple(AtDose(d, 0, 0) for d in faulty)
        verdict = TOO_FEW if baseline.n else "undefined"
        return DoseResponse(measure, fault, unit, empty, None, None, None, None, None, (), None, verdict)

    def bad(values: ByClip) -> dict[str, float]:
        known = {c: v for c, v in values.items() if v is not None and clean.get(c) is not None}
        return {c: badness(v, better, baseline.center) for c, v in known.items()}

    level = LEVEL / len(faulty)  # Bonferroni: a verdict looks at all doses
    before, rows = bad(clean), [bad(values) for values in faulty.values()]
    at = [_at_dose(d, faulty[d], before, row, recordings, baseline, level) for d, row in zip(faulty, rows, strict=True)]
    rho, rho_interval = monotony(before, rows, recordings)
    assert baseline.false_alarms is not None
    smallest = _smallest(at) if baseline.false_alarms <= FALSE_ALARMS else None
    # Without a direction no fault is an improvement: it is close to the clean clips' median.
    better_at = tuple(a.dose for a in at if better and a.shift_interval and a.shift_interval[1] < 0)
    return DoseResponse(
        measure=measure,
        fault=fault,
        unit=unit,
        doses=tuple(at),
        direction=_direction(clean, faulty, recordings, better),
        spearman=rho,
        spearman_interval=rho_interval,
        turns_at=_turn(list(faulty), rows, recordings),
        smallest=smallest,
        better_at=better_at,
        undefined_at=next((a.dose for a in at if a.undefined > (1 - FOUND) * (a.n + a.undefined)), None),
        verdict=_verdict(at, smallest, better_at),
    )


def _verdict(at: list[AtDose], smallest: float | None, better_at: tuple[float, ...]) -> str:
    if not any(a.n for a in at):
        return "undefined"
    if smallest is not None:
        return "found"
    if any(a.shift_interval and a.shift_interval[0] > 0 for a in at):
        return "partly"
    if all(a.shift_interval is None for a in at):
        return TOO_FEW
    return "better" if better_at else "invisible"


def _at_dose(
    dose: float,
    values: ByClip,
    clean: dict[str, float],
    faulty: dict[str, float],
    recordings: Mapping[str, str],
    baseline: Clean,
    level: float,
) -> AtDose:
    undefined = sum(c in values and c not in faulty for c in clean)
    if not faulty:
        return AtDose(dose, 0, undefined, found=0.0)
    assert baseline.threshold is not None
    names = len({recordings[c] for c in faulty})
    area = auc(np.array(list(clean.values())), np.array(list(faulty.values())))
    worse = float(by_recording({c: _win(b, clean[c]) for c, b in faulty.items()}, recordings).mean())
    shifts = by_recording({c: b - clean[c] for c, b in faulty.items()}, recordings)
    return AtDose(
        dose=dose,
        n=len(faulty),
        undefined=undefined,
        median=float(np.median([v for c, v in values.items() if c in faulty and v is not None])),
        auc=area,
        auc_interval=auc_interval(area, names),
        worse=worse,
        worse_interval=wilson(worse, names),
        shift=float(shifts.mean()),
        shift_interval=t_interval(shifts, level) if names >= FEWEST else None,
        found=sum(b > baseline.threshold for b in faulty.values()) / (len(faulty) + undefined),
    )


def _win(after: float, before: float) -> float:
    return 0.5 if after == before else float(after > before)


def monotony(
    clean: Mapping[str, float], rows: Sequence[Mapping[str, float]], recordings: Mapping[str, str]
) -> tuple[float | None, Interval | None]:
    """Spearman's correlation of dose and badness in each clip, clean included: mean over recordings and t interval.

    A clip in which the badness never changes counts as 0. None for a fault with a single dose.
    """
    found = {}
    for clip, start in clean.items():
        levels = [start, *(row[clip] for row in rows if clip in row)]
        if len(levels) > 2:
            ranks = stats.rankdata(levels)
            found[clip] = 0.0 if np.ptp(ranks) == 0 else float(np.corrcoef(np.arange(len(ranks)), ranks)[0, 1])
    if not found:
        return None, None
    means = by_recording(found, recordings)
    interval = t_interval(means)
    return float(means.mean()), None if interval is None else (max(interval[0], -1.0), min(interval[1], 1.0))


def _turn(doses: list[float], rows: list[dict[str, float]], recordings: Mapping[str, str]) -> float | None:
    """The first dose after which the badness falls, by a t test of the step within clips (Bonferroni over steps)."""
    for dose, row, after in zip(doses, rows, rows[1:], strict=False):
        steps = {c: after[c] - row[c] for c in row if c in after}
        interval = t_interval(by_recording(steps, recordings), LEVEL / (len(rows) - 1)) if steps else None
        if interval and interval[1] < 0:
            return dose
    return None


def _smallest(at: list[AtDose]) -> float | None:
    smallest = None
    for a in reversed(at):
        if a.found is None or a.found < FOUND:
            break
        smallest = a.dose
    return smallest


def _direction(clean: ByClip, faulty: Mapping[float, ByClip], recordings: Mapping[str, str], better: int) -> str | None:
    """How clips compare with their clean versions over all doses."""
    wins: dict[str, list[float]] = defaultdict(list)
    for values in faulty.values():
        for clip, value in values.items():
            start = clean.get(clip)
            if value is not None and start is not None:
                wins[clip].append(_win(-better * value, -better * start) if better else _win(value, start))
    if not wins:
        return None
    means = by_recording({c: float(np.mean(w)) for c, w in wins.items()}, recordings)
    low, high = wilson(float(means.mean()), len(means))
    words = ("worse", "better") if better else ("up", "down")
    return words[0] if low > 0.5 else words[1] if high < 0.5 else "none"
