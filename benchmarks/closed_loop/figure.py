"""The figure of docs/closed_loop.md."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from cosmos_exp.files import JsonObject
from cosmos_exp.statistics.intervals import mean_interval

PANELS = {
    "instruction": "instruction (judge)",
    "physics": "physics (judge)",
    "replay": "actions do the task in their own scene",
}


def draw(results: Mapping[str, Any], measured: JsonObject, adapters: Sequence[str], path: Path) -> None:
    """Success of every arm with its interval, and beside it against three measures of the generated videos.

    Args:
        results: arm -> its `Result`.
    """
    figure = Figure(figsize=(10, 0.34 * len(results) + 3.4), layout="constrained")
    parts = figure.subfigures(2, 1, height_ratios=[0.34 * len(results) + 0.6, 2.8])
    ax = parts[0].subplots()
    for row, result in enumerate(results.values()):
        mean, low, high = mean_interval(result.outcomes["success"])
        ax.plot(100 * mean, row, "o", color="C0")
        if low is not None:
            ax.plot([max(100 * low, 0), min(100 * high, 100)], [row, row], color="C0")
    ax.set_yticks(range(len(results)), [f"{name} ({result.count})" for name, result in results.items()])
    ax.invert_yaxis()
    ax.set_xlim(0, 100)
    ax.set_xlabel("success in held-out scenes, % (95 % interval over scenes and policies)")
    ax.grid(axis="x", alpha=0.3)
    panels = parts[1].subplots(1, len(PANELS), sharey=True)
    for panel, (measure, label) in zip(panels, PANELS.items(), strict=True):
        for arm, marker in zip(adapters, "osD^v", strict=True):
            name = arm.rsplit(" ", 1)[1]
            y = 100 * float(results[arm].outcomes["success"].mean())
            panel.plot(measured[name][measure], y, marker, label=name, alpha=0.75, markersize=7)
        panel.set_xlabel(label)
        panel.margins(x=0.15, y=0.15)
        panel.grid(alpha=0.3)
    panels[0].set_ylabel("success, %")
    panels[1].legend(fontsize=8, loc="center")
    figure.savefig(path, dpi=110, metadata={"Software": None})
