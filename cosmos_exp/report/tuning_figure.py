"""The tuning of a sweep by arms as a figure."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from cosmos_exp.files import JsonObject
from cosmos_exp.report.colors import ADAPTERS, adapter_colors
from cosmos_exp.report.figure_style import legend, panels
from cosmos_exp.report.results import Results
from cosmos_exp.report.tuning import Tuning, tunings


def tuning_figure(results: Results) -> Figure | None:
    """The measure of the choice over each tuned key: a line per arm, the chosen point ringed, 95 % intervals."""
    found = tunings(results.variants)
    colors = adapter_colors(results.variants)
    return _draw(found[0], colors) if len(found) == 1 else None  # several sweeps in one report: the tables show each


def _draw(tuning: Tuning, colors: dict[str, str]) -> Figure:
    figure, axes = panels(len(tuning.keys), 5.4, 3.4)
    for ax, key in zip(axes, tuning.keys, strict=True):
        for i, choice in enumerate(tuning.choices):
            _arm_line(ax, key, choice, colors.get(choice["arm"], ADAPTERS[i % len(ADAPTERS)]))
        ax.set_xlabel(key)
        ax.set_ylabel(tuning.by)
        ax.set_title(f"{tuning.heading}. Ring: chosen")
        ax.grid(True)
    legend(figure, axes)
    return figure


def _arm_line(ax: Axes, key: str, choice: JsonObject, color: str) -> None:
    """The points of one arm over one key. With several keys, the other keys are at their chosen values."""
    chosen = choice["chosen"] or {}
    points = [p for p in choice["points"] if all(k == key or p["values"][k] == chosen.get(k) for k in p["values"])]
    points = [p for p in points or choice["points"] if p["score"] is not None]
    x, positions = _positions([p["values"][key] for p in points])
    y = np.array([p["score"] for p in points], float)
    if x is None:
        ax.set_xticks(range(len(positions)), positions)
    elif len(x) and min(x) > 0:
        ax.set_xscale("log")
        ax.set_xticks(sorted(set(x)), [f"{v:g}" for v in sorted(set(x))])
        ax.minorticks_off()
    at = np.arange(len(y)) if x is None else x
    low = np.array([p["score"] - p["low"] if p["low"] is not None else 0.0 for p in points])
    high = np.array([p["high"] - p["score"] if p["high"] is not None else 0.0 for p in points])
    ax.errorbar(at, y, [low, high], color=color, marker=".", lw=1.2, capsize=2, elinewidth=0.7, label=choice["arm"])
    ring = [i for i, p in enumerate(points) if p["values"] == choice["chosen"]]
    ax.plot(at[ring], y[ring], "o", ms=11, mfc="none", mec=color, mew=1.5)


def _positions(values: list[Any]) -> tuple[NDArray[np.float64] | None, list[str]]:
    """Numbers for a numeric axis, else None and the words."""
    if all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values):
        return np.array(values, float), []
    return None, [str(v) for v in values]
