"""What all figures share: colours, panels, legends; one figure saved as PNG, PDF and SVG. Their looks are in figures.mplstyle.

Only matplotlib's object API is used: MPLBACKEND, which a notebook sets, has no influence.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path

import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cosmos_exp.config.measures import ARROWS, measure_info
from cosmos_exp.report.study import Study

BASE, REAL, FROZEN = "#7d8590", "#2f9e5f", "#a371d8"
# Legible on white and on the page's dark background (contrast at least 3 to 1 on both), and told apart by colour-blind
# readers as far as eight hues can be; markers and labels repeat what they say.
ADAPTERS = ("#3178e0", "#dd6b12", "#d2468c", "#0b97a5", "#a8820a", "#7b61d9", "#cf3f36", "#5f8f1a")
MARKERS = {"lora": "o", "dora": "s"}
FORMATS: dict[str, dict[str, None]] = {  # no date and no version is in a file: the same runs give the same bytes
    "png": {"Software": None},
    "pdf": {"CreationDate": None},
    "svg": {"Date": None, "Creator": None},
}


@dataclass(frozen=True)
class Drawing:
    """A figure on disk.

    Attributes:
        png: The file; a PDF and an SVG are beside it.
        caption: What it shows.
        width: In inches.
    """

    png: Path
    caption: str
    width: float


def save(figure: Figure, name: str, caption: str, out: Path) -> Drawing:
    """Save a figure as NAME.png, NAME.pdf and NAME.svg."""
    if engine := figure.get_layout_engine():
        engine.execute(figure)  # once: the layout of a figure takes as long as drawing it
    figure.set_layout_engine(None)  # with one, even an idle one, each format is drawn twice
    for extension, metadata in FORMATS.items():
        figure.savefig(out / f"{name}.{extension}", dpi=130, metadata=metadata)
    return Drawing(out / f"{name}.png", caption, float(figure.get_figwidth()))


def arm_colors(study: Study) -> dict[str, str]:
    """The colour of each arm and reference by name: grey for the base, the adapters in order."""
    colors = {"real": REAL, "frozen": FROZEN}
    colors |= dict.fromkeys(study.arms.index[study.arms["is_base"]], BASE)
    adapters = study.arms.index[~study.arms["is_base"]]
    return colors | dict(zip(adapters, itertools.cycle(ADAPTERS), strict=False))


def panels(count: int, width: float, height: float, columns: int = 3) -> tuple[Figure, list[Axes]]:
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
        lines, labels = ax.get_legend_handles_labels()
        handles |= dict(zip(labels, lines, strict=True))
    if handles:
        columns = max(1, int(figure.get_figwidth() / (max(map(len, handles)) * 0.075 + 0.6)))
        figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=columns)


def title(ax: Axes, measure: str) -> None:
    """The measure as the title of a panel, with its unit and its better direction."""
    info = measure_info(measure)
    unit = f" ({info.unit})".replace(" ()", "")
    ax.set_title(f"{measure}{unit}{ARROWS[info.better]}")


def error_bars(table: pd.DataFrame) -> list[pd.Series]:
    """Lengths of the error bars below and above the means of a table; 0 without an interval."""
    return [(table["mean"] - table["low"]).fillna(0), (table["high"] - table["mean"]).fillna(0)]


def band(ax: Axes, row: pd.Series, color: str) -> None:
    """The mean of the base or of a reference as a dashed line, and its interval as a band."""
    if pd.notna(row["mean"]):
        ax.axhline(row["mean"], color=color, lw=1, ls="--", label=row["arm"])
    if pd.notna(row["low"]):
        ax.axhspan(row["low"], row["high"], color=color, alpha=0.15, lw=0)
