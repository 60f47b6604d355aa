"""What all figures share: colours, panels, legends; one figure saved as PNG, PDF and, for the page, as SVG.

Only matplotlib's object API is used: MPLBACKEND, which a notebook sets, has no influence.
"""

from __future__ import annotations

import io
import itertools
import re
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cosmos_exp.config.measures import measure_info
from cosmos_exp.report.study import Study

INK, FAINT, PAPER = "#20242c", "#c9ced6", "#fffffe"  # the page replaces them by its own, for dark mode
BASE, REAL, FROZEN = "#7d8590", "#2f9e5f", "#a371d8"
# Legible on white and on the page's dark background (contrast at least 3 to 1 on both), and told apart by colour-blind
# readers as far as eight hues can be; markers and labels repeat what they say.
ADAPTERS = ("#3178e0", "#dd6b12", "#d2468c", "#0b97a5", "#a8820a", "#7b61d9", "#cf3f36", "#5f8f1a")
MARKERS = {"lora": "o", "dora": "s"}
LINES = {"real": "--", "frozen": "--"}  # of the references; those of adapters are solid
DIRECTIONS = {1: ", ↑ is better", -1: ", ↓ is better", 0: ""}  # by Measure.better
TIP = "tip:"  # before the id of an artist: the rest of it is shown as a tooltip on the page
STYLE: dict[str, object] = {
    **dict.fromkeys(("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color"), INK),
    "grid.color": FAINT,
    "grid.alpha": 0.6,
    "grid.linewidth": 0.6,
    "axes.grid": True,
    "axes.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "font.size": 8.5,
    "axes.titlesize": 9,
    "axes.labelsize": 8.5,
    "legend.frameon": False,
    "axes.titley": 1.0,  # fixed: matplotlib measures every tick label to place it otherwise
    "svg.fonttype": "none",
    "svg.hashsalt": "cosmos_exp",
}


@dataclass(frozen=True)
class Drawing:
    """A figure on disk and for the page.

    Attributes:
        png: The file; a PDF is beside it.
        svg: The same as an SVG element for an HTML page, with text as text.
        caption: What it shows.
        width: In inches.
    """

    name: str
    png: Path
    svg: str
    caption: str
    width: float


def save(figure: Figure, name: str, caption: str, out: Path) -> Drawing:
    """Save a figure as NAME.png and NAME.pdf. No date and no version is in a file: the same runs give the same bytes."""
    FigureCanvasAgg(figure)
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
    svg = re.sub(rf'<g id="{TIP}([^"]*)">', r"<g><title>\1</title>", svg)
    svg = svg.replace("xlink:href", "href")
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'(url\(#|href="#)(?!show:)', rf"\1{name}-", svg)
    return svg.replace(INK, "currentColor").replace(FAINT, "var(--line)").replace(PAPER, "var(--page)")


def arm_colors(study: Study) -> dict[str, str]:
    """The colour of each arm and reference by name: grey for the base, the adapters in order."""
    colors = {"real": REAL, "frozen": FROZEN}
    palette = itertools.cycle(ADAPTERS)
    for name, is_base in study.arms["is_base"].items():
        colors[str(name)] = BASE if is_base else next(palette)
    return colors


def jump(study: Study, measure: str, reference: str, arm: str) -> str | None:
    """The page's link to the prompts behind arm − reference in a measure; None if one of the three is not on the page.

    It holds numbers only (`#show:MEASURE:REFERENCE:ARM`, by position), so that no name has to be escaped.
    """
    names = list(study.arms.index)
    if arm not in names or reference not in names or measure not in study.measures:
        return None
    return f"#show:{study.measures.index(measure)}:{names.index(reference)}:{names.index(arm)}"


def panels(count: int, width: float = 3.7, height: float = 2.7, columns: int = 3) -> tuple[Figure, list[Axes]]:
    """A figure with `count` panels in rows, each of a size in inches."""
    columns = min(count, columns)
    rows = -(-count // columns)
    figure = Figure(figsize=(width * columns, height * rows + 0.3), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax in axes[count:]:
        ax.axis("off")
    return figure, list(axes[:count])


def legend(figure: Figure, axes: list[Axes]) -> None:
    """One legend below all panels, each name once."""
    handles: dict[str, Artist] = {}
    for ax in axes:
        for handle, label in zip(*ax.get_legend_handles_labels(), strict=True):
            handles.setdefault(label, handle)
    if handles:
        width = max(map(len, handles)) * 0.075 + 0.6
        columns = max(1, min(len(handles), int(figure.get_figwidth() / width)))
        figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=columns)


def title(ax: Axes, measure: str) -> None:
    """The measure as the title of a panel, with its unit and its better direction."""
    info = measure_info(measure)
    unit = f" ({info.unit})".replace(" ()", "")
    ax.set_title(f"{measure}{unit}{DIRECTIONS[info.better]}")


def error_bars(table: pd.DataFrame) -> list[pd.Series]:
    """Lengths of the error bars below and above the means of a table; 0 without an interval."""
    return [(table["mean"] - table["low"]).fillna(0), (table["high"] - table["mean"]).fillna(0)]


def band(ax: Axes, row: pd.Series, color: str) -> None:
    """The mean of the base or of a reference as a dashed line, and its interval as a band."""
    if pd.notna(row["mean"]):
        ax.axhline(row["mean"], color=color, lw=1, ls="--", label=row["arm"])
    if pd.notna(row["low"]):
        ax.axhspan(row["low"], row["high"], color=color, alpha=0.15, lw=0)
