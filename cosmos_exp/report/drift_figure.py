"""The drift curves of a report: each measure by chunk, one colour per adapter."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cosmos_exp.report.colors import REFERENCES, adapter_colors
from cosmos_exp.report.drift import Drift, by_measure
from cosmos_exp.report.figure_style import errors, legend, marker, panels, title
from cosmos_exp.report.results import Results
from cosmos_exp.report.variants import Variant
from cosmos_exp.statistics.scores import MeasureSummary

DODGE = 0.07  # chunks between adapters, so that error bars do not overlap


def drift_curves(results: Results) -> Figure | None:
    """Every measure that an adapter has in two chunks or more. The references are dashed with a band.

    A recording that ends early is a point.
    """
    shown = [d for d in by_measure(results.drifts) if _known(d)]
    adapted = {v.name for v in results.variants}
    names = list(dict.fromkeys(d.measure for d in shown if d.name in adapted and len(_known(d)) > 1))
    if not names:
        return None
    colors, variants = adapter_colors(results.variants), {v.name: v for v in results.variants}
    figure, axes = panels(len(names))
    for ax, measure in zip(axes, names, strict=True):
        own = [d for d in shown if d.measure == measure]
        adapters = [d for d in own if d.name in variants]
        for d in own:
            if d.name in variants:
                shift = DODGE * (adapters.index(d) - (len(adapters) - 1) / 2)
                _points(ax, d, colors[d.name], variants[d.name], shift)
            else:
                _band(ax, d, REFERENCES[d.name])
        title(ax, measure)
        ax.set_xlabel("chunk")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend(figure, axes)
    return figure


def _known(d: Drift) -> list[tuple[int, MeasureSummary]]:
    """The chunks with a value, from 1."""
    return [(k, s) for k, s in enumerate(d.chunks, 1) if s["mean"] is not None]


def _points(ax: Axes, d: Drift, color: str, variant: Variant, shift: float) -> None:
    known = _known(d)
    means, bars = [s["mean"] or 0.0 for _, s in known], np.array([errors(s) for _, s in known]).T
    places = [k + shift for k, _ in known]
    ax.errorbar(places, means, bars, None, f"{marker(variant)}-", color=color, ms=5, capsize=3, lw=1.4, label=d.name)


def _band(ax: Axes, d: Drift, color: str) -> None:
    known = _known(d)
    places, means = [k for k, _ in known], np.array([s["mean"] or 0.0 for _, s in known])
    below, above = np.array([errors(s) for _, s in known]).T
    if len(known) == 1:
        ax.errorbar(places, means, [below, above], None, "D", color=color, ms=4, capsize=3, lw=1, label=d.name)
        return
    ax.plot(places, means, color=color, lw=1.2, ls="--", label=d.name)
    ax.fill_between(places, means - below, means + above, color=color, alpha=0.15, lw=0)
