"""What all figures share: style, panels, bands, legends; one drawing saved as PNG, PDF and, for the page, as SVG."""

from __future__ import annotations

import io
import re
from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray

from cosmos_exp.config.measures import measure_info
from cosmos_exp.report.drawing import Drawing
from cosmos_exp.report.variants import Variant
from cosmos_exp.statistics.scores import MeasureSummary

matplotlib.use("Agg")
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

INK, FAINT, PAPER = "#20242c", "#c9ced6", "#fffffe"  # the page replaces them by its own, for dark mode
MARKERS = {"lora": "o", "dora": "s"}
DIRECTIONS = {1: "higher is better", -1: "lower is better", 0: ""}  # by Measure.better
STYLE: dict[str, object] = {
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
    "grid.color": FAINT,
    "grid.alpha": 0.6,
    "grid.linewidth": 0.6,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "font.size": 9.0,
    "axes.titlesize": 9.5,
    "axes.labelsize": 9,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "axes.titley": 1.0,  # fixed: matplotlib measures every tick label to place it otherwise
    "svg.fonttype": "none",
    "svg.hashsalt": "cosmos_exp",
}


def save(figure: Figure, name: str, caption: str, out: Path) -> Drawing:
    """Save a figure as NAME.png and NAME.pdf. No date and no version is in a file: the same runs give the same bytes."""
    if engine := figure.get_layout_engine():
        engine.execute(figure)  # once: the layout of a figure takes as long as drawing it
    figure.set_layout_engine(None)  # with one, even an idle one, each format is drawn twice
    figure.savefig(out / f"{name}.png", dpi=130, metadata={"Software": None})
    figure.savefig(out / f"{name}.pdf", metadata={"CreationDate": None})
    text = io.StringIO()
    figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return Drawing(name, out / f"{name}.png", for_page(text.getvalue(), name), caption, float(figure.get_figwidth()))


def for_page(svg: str, name: str) -> str:
    """The SVG element of matplotlib's file for use inside of a page: own ids, no fixed size, the page's colours for ink."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r' xmlns(:xlink)?="[^"]*"| (width|height)="[\d.]+pt"', "", svg, count=4)
    svg = svg.replace("xlink:href", "href")
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(url\(#|href="#)(?!show:)', rf"\1{name}-", svg)
    return svg.replace(INK, "currentColor").replace(FAINT, "var(--line)").replace(PAPER, "var(--page)")


def panels(count: int, width: float = 3.7, height: float = 2.9, columns: int = 3) -> tuple[Figure, list[Axes]]:
    """A figure with `count` panels in rows."""
    columns = min(count, columns)
    rows = -(-count // columns)
    figure = Figure(figsize=(width * columns, height * rows + 0.35), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax in axes[count:]:
        ax.axis("off")
    return figure, list(axes[:count])


def legend(figure: Figure, axes: list[Axes]) -> None:
    """One legend below all panels, each name once."""
    found: dict[str, Artist] = {}
    for ax in axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            found.setdefault(label, handle)
    if found:
        width = max(len(label) for label in found) * 0.075 + 0.6
        columns = max(1, min(len(found), int(figure.get_figwidth() / width)))
        figure.legend(list(found.values()), list(found), loc="outside lower center", ncols=columns)


def title(ax: Axes, measure: str, between: str = ", ") -> None:
    """The measure as the title of a panel, with its unit and, after `between`, its better direction."""
    info = measure_info(measure)
    unit = f" ({info.unit})" if info.unit else ""
    better = f"{between}{DIRECTIONS[info.better]}" if info.better else ""
    ax.set_title(f"{measure}{unit}{better}")
    ax.grid(True)


def marker(variant: Variant) -> str:
    """The marker of a kind of adapter."""
    return MARKERS.get(str(variant.adapter.get("kind")), "^")


def errors(summary: MeasureSummary) -> tuple[float, float]:
    """Lengths of the error bar below and above the mean; 0 without an interval."""
    mean, low, high = summary["mean"], summary.get("ci_low"), summary.get("ci_high")
    return (0.0, 0.0) if mean is None or low is None or high is None else (mean - low, high - mean)


def band(ax: Axes, summary: MeasureSummary, name: str, color: str) -> None:
    """A mean as a dashed line and its interval as a band, for the base and the references."""
    mean, low, high = summary["mean"], summary.get("ci_low"), summary.get("ci_high")
    if mean is not None:
        ax.axhline(mean, color=color, lw=1, ls="--", label=name)
    if low is not None and high is not None:
        ax.axhspan(low, high, color=color, alpha=0.15, lw=0)


def point(ax: Axes, x: float, summary: MeasureSummary, variant: Variant, color: str, url: str | None) -> None:
    """A mean with its error bar. Truncated adapters are hollow. On the page the point is a link."""
    low, high = errors(summary)
    fill = PAPER if variant.truncated_from else color
    mean, bars, shape = [summary["mean"] or 0.0], [[low], [high]], marker(variant)
    drawn = ax.errorbar(
        [x], mean, bars, None, shape, color=color, mfc=fill, ms=7, capsize=3, lw=1.4, label=variant.name
    )
    drawn.lines[0].set_url(url)


def smooth(values: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """A running mean; the values themselves if they are few."""
    if len(values) < 2 * width:
        return values
    return np.convolve(values, np.ones(width) / width, mode="valid")
