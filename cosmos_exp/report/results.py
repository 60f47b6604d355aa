"""The results of a report: variants, the summary of each measure, differences and their marks, cost."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from cosmos_exp.config.measures import ARROWS, LIMITS, measure_info
from cosmos_exp.report.drift import Drift, drifts_of
from cosmos_exp.report.references import MARK, Reference, find_references, footnotes, warnings
from cosmos_exp.report.untuned import also_different
from cosmos_exp.report.variants import Variant, measures_of, scenes_of
from cosmos_exp.statistics.comparisons import Difference
from cosmos_exp.statistics.intervals import summarize
from cosmos_exp.statistics.scores import MeasureSummary

IF_NONE_FAILS = "°"  # after the mark of a statement that rests on few training runs: it holds if none fails
NO_SCORES = MeasureSummary(mean=None, ci_low=None, ci_high=None, n=0, videos=0, missing=0)


@dataclass(frozen=True)
class Cost:
    """What a variant took, over its finished runs: mean hours of training, peak memory, mean size of the adapter."""

    hours: float | None
    memory_gib: float | None
    adapter_mib: float | None


@dataclass(frozen=True)
class Results:
    """What all outputs of a report show. Every interval is computed once."""

    title: str
    variants: list[Variant]
    differences: list[Difference]
    notes: list[str]
    comparable: bool = True

    @cached_property
    def measures(self) -> list[str]:
        return measures_of(self.variants)

    @cached_property
    def table(self) -> dict[str, dict[str, MeasureSummary]]:
        """Summaries by variant and measure."""
        scenes = scenes_of(self.variants)
        found = {v.name: summarize(v.rows(), scenes, LIMITS) for v in self.variants}
        return {v: {m: summaries.get(m, NO_SCORES) for m in self.measures} for v, summaries in found.items()}

    @cached_property
    def references(self) -> list[Reference]:
        """What the recordings and the held first frames score."""
        return find_references(self.variants)

    @cached_property
    def drifts(self) -> list[Drift]:
        """Every measure by chunk: of the references, then of the variants. Empty for videos of one chunk."""
        rows = {r.name: r.rows for r in self.references} | {v.name: v.rows() for v in self.variants}
        scenes = scenes_of(self.variants)
        return [d for name, own in rows.items() for d in drifts_of(name, own, self.measures, scenes)]

    @cached_property
    def footnotes(self) -> dict[tuple[str, str], str]:
        """Why a cell of a reference row is undefined, by reference and measure."""
        return footnotes({r.name: r.rows for r in self.references}, self.measures)

    @cached_property
    def warnings(self) -> dict[str, str]:
        """The measures that cannot be read as quality on these prompts, with the reason."""
        return warnings(self.references, self.variants, self.measures)

    @cached_property
    def untuned(self) -> dict[tuple[str, str], str]:
        """In what else the variants (a, b) of a comparison differ, without having been tuned; only where they do."""
        by_name = {v.name: v for v in self.variants}
        pairs = dict.fromkeys((d.a, d.b) for d in self.differences)
        found = {p: "; ".join(also_different(by_name[p[0]], by_name[p[1]])) for p in pairs}
        return {pair: words for pair, words in found.items() if words}

    @cached_property
    def base(self) -> str:
        """The name of the base; empty if there is none."""
        return next((v.name for v in self.variants if v.is_base), "")

    @cached_property
    def marks(self) -> dict[tuple[str, str], str]:
        """Marks against the base by (variant, measure): + better, − worse (Holm p < 0.05), = equivalent within the margin.

        In brackets where they are about the trained adapters only, not about another training of the same recipe; with °
        where they are, if no training run fails.
        """
        marks = {(d.b, d.measure): mark_of(d) for d in self.differences if d.a == self.base}
        return {key: mark for key, mark in marks.items() if mark}

    def heading(self, measure: str) -> str:
        """The measure's name with an arrow in the better direction, and a mark if it cannot be read."""
        mark = f" {MARK}" if measure in self.warnings else ""
        return f"{measure}{ARROWS[measure_info(measure).better]}{mark}"

    def best(self, measure: str) -> set[str]:
        """The variants with the best mean.

        Empty where there is none: fewer than two means, all the same, no better direction, a measure that cannot be read as
        quality, or runs that are not comparable.
        """
        better = measure_info(measure).better
        values = {v: mean for v, row in self.table.items() if (mean := row[measure]["mean"]) is not None}
        if not better or len(values) < 2 or measure in self.warnings or not self.comparable:
            return set()
        top = max(values.values(), key=lambda x: better * x)
        found = {v for v, x in values.items() if math.isclose(x, top, rel_tol=1e-12)}
        return found if len(found) < len(values) else set()


def mark_of(d: Difference) -> str:
    """The mark of a difference; empty if it is inconclusive."""
    mark = ""
    if d.is_different:
        mark = "+" if measure_info(d.measure).better * (d.mean or 0.0) > 0 else "−"
    elif d.is_equivalent:
        mark = "="
    if not mark or not d.recipe:
        return mark and f"({mark})"
    return f"{mark}{IF_NONE_FAILS}" if d.few_runs else mark


def average(values: list[float]) -> float | None:
    """The mean; None for no values."""
    return float(np.mean(values)) if values else None


def cost(variant: Variant) -> Cost:
    """The cost of a variant."""
    stages = [r.manifest.get("stages", {}) for r in variant.done]
    train = [s["train"] for s in stages if "train" in s]
    return Cost(
        hours=average([t["seconds"] / 3600 for t in train]),
        memory_gib=max((t["peak_memory_gib"] for t in train), default=None),
        adapter_mib=average(variant.training("adapter_mib")),
    )
