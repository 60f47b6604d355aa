"""The figures of the training: loss curves, and the spectra of the updates."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter

from cosmos_exp.report.colors import adapter_colors
from cosmos_exp.report.figure_style import legend, panels, smooth
from cosmos_exp.report.results import Results
from cosmos_exp.report.spectrum import Array, effective_rank, update_spectra
from cosmos_exp.run_folder.records import read_rows


def loss_curves(results: Results) -> Figure | None:
    """Training loss (running mean) and validation loss over steps, one line per run."""
    runs = [(v, r) for v in results.variants for r in v.runs if r.folder.train_log.is_file()]
    if not runs:
        return None
    colors = adapter_colors(results.variants)
    figure, (left, right) = panels(2, 5.4, 3.4)
    for v, run in runs:
        color, label = colors[v.name], v.name if run is v.runs[0] else None
        rows = read_rows(run.folder.train_log)
        loss = smooth(np.array([r["loss"] for r in rows]), max(1, len(rows) // 50))
        steps = np.array([r["step"] for r in rows])[-len(loss) :]
        left.plot(steps, loss, color=color, lw=1, alpha=0.85, label=label)
        rows = read_rows(run.folder.validation_log)
        if rows:
            x, y = [r["step"] for r in rows], [r["validation_loss"] for r in rows]
            right.plot(x, y, color=color, marker=".", lw=1, label=label)
    for ax, title in ((left, "training loss (running mean)"), (right, "validation loss")):
        ax.set_title(title)
        ax.set_xlabel("optimizer step")
        ax.set_ylabel("loss")
        ax.grid(True)
    legend(figure, [left, right])
    return figure


def spectra(results: Results) -> Figure | None:
    """Singular values of each update by kind of layer, mean over layers; the effective rank in the legend."""
    own = [v for v in results.variants if not v.is_base and v.done and v.done[0].folder.adapter_file.is_file()]
    found = [update_spectra(v.done[0].folder.adapter_file) for v in own]
    kinds = sorted({k for s in found for k in s})
    if not kinds:
        return None
    colors = adapter_colors(results.variants)
    figure, axes = panels(len(kinds), 2.9, 2.3, columns=4)
    for i, (ax, kind) in enumerate(zip(axes, kinds, strict=True)):
        for v, by_kind in zip(own, found, strict=True):
            if kind in by_kind:
                values = np.maximum(by_kind[kind].mean(0), 1e-12)
                style, label = "--" if v.adapter["kind"] == "dora" else "-", f"{v.name} ({_ranks(by_kind)})"
                ax.plot(np.arange(1, len(values) + 1), values, style, color=colors[v.name], lw=1.3, label=label)
        ax.set_yscale("log")
        ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 3.0)))  # labels at 0.1, 0.3, 1, 3 …; none at minor ticks
        ax.yaxis.set_major_formatter("{x:g}")
        ax.yaxis.set_minor_formatter(NullFormatter())
        ax.set_title(kind)
        ax.set_xlabel("index")
        if i % 4 == 0:
            ax.set_ylabel("singular value")
        ax.grid(True)
    legend(figure, axes)
    return figure


def _ranks(by_kind: dict[str, Array]) -> str:
    """The mean effective rank over all layers, and its range over kinds of layers: `5.1, 3.9 to 6.0`."""
    means = [float(np.mean([effective_rank(row) for row in values])) for values in by_kind.values()]
    layers = [effective_rank(row) for values in by_kind.values() for row in values]
    return f"{np.mean(layers):.1f}, {min(means):.1f} to {max(means):.1f}"
