"""Drift: every measure in each chunk of the videos, and the last chunk against the first, paired within each video."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cosmos_exp.config.measures import ARROWS, LIMITS, measure_info, split_main
from cosmos_exp.report.formatting import interval, summary_text
from cosmos_exp.statistics.cells import Scenes
from cosmos_exp.statistics.chunks import summarize_change, summarize_chunks
from cosmos_exp.statistics.scores import MeasureSummary, ScoreRow

INTRODUCTION = (
    "Each chunk alone, over the frames after its conditioning frames; of the first chunk over as many, its last ones. "
    "Mean [95 % interval over scenes and, from three training runs on, over runs]. `last − first` is the last chunk "
    "minus the first, paired within each video. Its interval is for itself alone: of twenty measures without drift, one is "
    "expected to exclude 0."
)


@dataclass(frozen=True)
class Drift:
    """A measure of one adapter, or of a reference, by chunk.

    Attributes:
        name: Of the variant or the reference.
        chunks: The summary of each chunk.
        change: The summary of last chunk minus first chunk over the videos that have both.
    """

    name: str
    measure: str
    chunks: list[MeasureSummary]
    change: MeasureSummary

    @property
    def verdict(self) -> str:
        """better or worse (higher or lower, where neither is better), equal in every scene, inconclusive, or undefined."""
        mean, low, high = self.change["mean"], self.change["ci_low"], self.change["ci_high"]
        if mean is None:
            return "undefined"
        if mean == 0 and low is None and self.change["n"] > 1:
            return "equal"
        if low is None or high is None or low <= 0 <= high:
            return "inconclusive"
        better = measure_info(self.measure).better
        words = ("better", "worse") if better else ("higher", "lower")
        return words[0] if mean * (better or 1) > 0 else words[1]

    @property
    def change_text(self) -> str:
        """`+0.12 [0.05, 0.19]`."""
        mean = self.change["mean"]
        sign = "+" if mean is not None and mean >= 0 else ""
        return sign + interval(mean, self.change["ci_low"], self.change["ci_high"])

    @property
    def sentence(self) -> str:
        """What the paired comparison says."""
        unit = measure_info(self.measure).unit
        what = f"{self.measure} ({unit}), {self.name}" if unit else f"{self.measure}, {self.name}"
        compared = f"{what}: chunk {len(self.chunks)} compared with chunk 1"
        if self.change["mean"] is None:
            return f"{compared}: undefined ({self.change.get('reason') or 'no video has a value in both'})."
        scenes = "1 scene" if self.change["n"] == 1 else f"{self.change['n']} scenes"
        return f"{compared}: {self.change_text}, {scenes}: {self.verdict}."


def drifts_of(name: str, rows: Sequence[ScoreRow], order: Sequence[str], scenes: Scenes) -> list[Drift]:
    """The drift of each measure in `order`; empty for videos of one chunk."""
    chunks, change = summarize_chunks(rows, scenes, LIMITS), summarize_change(rows, scenes)
    return [Drift(name, m, chunks[m], change[m]) for m in order if m in chunks]


def drift_table(drifts: Sequence[Drift]) -> tuple[list[str], list[list[str]]]:
    """Header and cells, one row per measure and adapter with a value in any chunk; main measures first."""
    count = max((len(d.chunks) for d in drifts), default=0)
    head = ["measure", "adapter", *(f"chunk {k + 1}" for k in range(count)), "last − first", "scenes", "last is"]
    rows = []
    for d in (d for d in by_measure(drifts) if any(s["mean"] is not None for s in d.chunks)):
        cells = [summary_text(s) for s in d.chunks] + ["-"] * (count - len(d.chunks))
        arrow = ARROWS[measure_info(d.measure).better]
        rows.append([f"{d.measure}{arrow}", d.name, *cells, d.change_text, str(d.change["n"]), d.verdict])
    return head, rows


def by_measure(drifts: Sequence[Drift]) -> list[Drift]:
    """The drifts in the order of a table: the main measures, the others; of each all adapters."""
    main, others = split_main(list(dict.fromkeys(d.measure for d in drifts)))
    return [d for m in main + others for d in drifts if d.measure == m]


def main_drifts(drifts: Sequence[Drift]) -> list[Drift]:
    """Those of the main measures."""
    main, _ = split_main(list(dict.fromkeys(d.measure for d in drifts)))
    return [d for d in by_measure(drifts) if d.measure in main]


def drift_notes(drifts: Sequence[Drift]) -> list[str]:
    """Which cells have no value, and why; those with the same reason together."""
    cells: dict[tuple[str, str, str], list[str]] = {}  # reason, chunks, adapter -> measures
    for d in by_measure(drifts):
        without = [(n, s.get("reason") or "no value") for n, s in enumerate(d.chunks, 1) if s["mean"] is None]
        for reason in dict.fromkeys(why for _, why in without):
            chunks = ", ".join(str(n) for n, why in without if why == reason)
            cells.setdefault((reason, chunks, d.name), []).append(d.measure)
    groups: dict[tuple[str, str, str], list[str]] = {}  # reason, chunks, measures -> adapters
    for (reason, chunks, name), measures in cells.items():
        groups.setdefault((reason, chunks, ", ".join(measures)), []).append(name)
    return [
        f"Undefined in chunk{'s' * (',' in chunks)} {chunks} of {', '.join(names)}: {measures} ({reason})."
        for (reason, chunks, measures), names in groups.items()
    ]
