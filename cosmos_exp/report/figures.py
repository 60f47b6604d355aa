"""The figures of a report as PNG and PDF: loss curves, scores by rank, differences, cost against score, adapter spectra."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
from numpy.typing import NDArray

from cosmos_exp.config.measures import measure_info, split_main
from cosmos_exp.records import read_rows
from cosmos_exp.report.horizon import Curve, curve_measures, mean_curve
from cosmos_exp.report.results import NO_SCORES, Results, cost
from cosmos_exp.report.spectrum import effective_rank, update_spectra
from cosmos_exp.report.tuning_figure import tuning_figure
from cosmos_exp.report.variants import Variant, scenes_of
from cosmos_exp.statistics.scores import MeasureSummary

matplotlib.use("Agg")
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

LABELS = {"lora": "LoRA", "dora": "DoRA"}
COLORS = {"lora": "tab:blue", "dora": "tab:orange", "base": "0.45", "real": "tab:green", "frozen": "tab:purple"}
OTHER = "tab:brown"  # colour of an adapter kind that is not listed
MARKERS = {"lora": "o", "dora": "s"}
SHIFTS = {"lora": 0.97, "dora": 1.03}  # on the axis of ranks, so that error bars do not overlap
DIRECTIONS = {1: "higher is better", -1: "lower is better", 0: ""}  # by Measure.better


def draw_all(results: Results, out: Path) -> list[Path]:
    """Draw every figure for which there is data, as NAME.png and NAME.pdf.

    Returns:
        The PNG files.
    """
    out.mkdir(parents=True, exist_ok=True)
    kinds: dict[str, Callable[[Results], Figure | None]] = {
        "loss": loss_curves,
        "rank": by_rank,
        "tuning": tuning_figure,
        "horizon": horizon_curves,
        "differences": forest,
        "cost": cost_against_score,
        "spectrum": spectra,
    }
    written = []
    for name, draw in kinds.items():
        figure = draw(results)
        if figure is None:
            continue
        # No date and no version in the file: the same runs give the same bytes.
        figure.savefig(out / f"{name}.png", dpi=130, metadata={"Software": None})
        figure.savefig(out / f"{name}.pdf", dpi=130, metadata={"CreationDate": None})
        written.append(out / f"{name}.png")
    return written


def _grid(count: int, width: float = 3.6, height: float = 2.9) -> tuple[Figure, list[Axes]]:
    columns = min(count, 3)
    rows = -(-count // columns)
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    for ax in axes[count:]:
        ax.axis("off")
    return figure, list(axes[:count])


def _smooth(values: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    if len(values) < 2 * width:
        return values
    kernel = np.ones(width) / width
    return np.convolve(values, kernel, mode="valid")


def _adapted(results: Results) -> list[Variant]:
    """The variants with an adapter and a finished run."""
    return [v for v in results.variants if not v.is_base and v.done]


def _errors(summary: MeasureSummary) -> tuple[float, float]:
    """Lengths of the error bar below and above the mean; 0 without an interval."""
    mean, low, high = summary["mean"], summary["ci_low"], summary["ci_high"]
    return (0.0, 0.0) if mean is None or low is None or high is None else (mean - low, high - mean)


def loss_curves(results: Results) -> Figure | None:
    """Training loss (running mean) and validation loss over steps, one line per run."""
    runs = [(i, v, r) for i, v in enumerate(results.variants) for r in v.runs if r.folder.train_log.is_file()]
    if not runs:
        return None
    figure, (left, right) = _grid(2, 5.2, 3.6)
    for i, v, run in runs:
        color, label = f"C{i % 10}", v.name if run is v.runs[0] else None
        rows = read_rows(run.folder.train_log)
        loss = _smooth(np.array([r["loss"] for r in rows]), max(1, len(rows) // 50))
        steps = np.array([r["step"] for r in rows])[-len(loss) :]
        left.plot(steps, loss, color=color, lw=1, alpha=0.85, label=label)
        rows = read_rows(run.folder.validation_log)
        if rows:
            x, y = [r["step"] for r in rows], [r["validation_loss"] for r in rows]
            right.plot(x, y, color=color, marker=".", lw=1, label=label)
    for ax, title in ((left, "training loss (running mean)"), (right, "validation loss")):
        ax.set_title(title, fontsize=10)
        ax.set_xlabel("optimizer step")
        ax.grid(alpha=0.3)
    left.legend(fontsize=7)
    return figure


def by_rank(results: Results) -> Figure | None:
    """Each measure over the rank with its interval, for LoRA and DoRA; the base as a band."""
    adapted = _adapted(results)
    if not adapted or not results.measures:
        return None
    ranks = sorted({v.adapter["rank"] for v in adapted})
    measures, _ = split_main(results.measures)
    figure, axes = _grid(len(measures))
    for ax, measure in zip(axes, measures, strict=True):
        for v in results.variants:
            if v.is_base:
                _band(ax, results.table[v.name][measure], "base")
        for r in results.references:
            _band(ax, r.table.get(measure, NO_SCORES), r.name)
        for kind, cut in dict.fromkeys((v.adapter["kind"], v.truncated_from) for v in adapted):
            own = [v for v in adapted if (v.adapter["kind"], v.truncated_from) == (kind, cut)]
            _points(ax, [(v.adapter["rank"], results.table[v.name][measure]) for v in own], kind, cut)
        ax.set_xscale("log", base=2)
        ax.set_xticks(ranks, [str(r) for r in ranks])
        ax.minorticks_off()
        info = measure_info(measure)
        ax.set_title(f"{measure} ({info.unit})  {DIRECTIONS[info.better]}", fontsize=9)
        ax.set_xlabel("rank")
        ax.grid(alpha=0.3)
    axes[0].legend(fontsize=7)
    return figure


def _band(ax: Axes, summary: MeasureSummary, name: str) -> None:
    """A mean as a line and its interval as a band, for the base and the references."""
    mean, low, high = summary["mean"], summary["ci_low"], summary["ci_high"]
    if mean is not None:
        ax.axhline(mean, color=COLORS[name], lw=1, ls="--", label=name)
    if low is not None and high is not None:
        ax.axhspan(low, high, color=COLORS[name], alpha=0.12, lw=0)


def _points(ax: Axes, summaries: list[tuple[int, MeasureSummary]], kind: str, cut: str | None) -> None:
    """Means over the rank with error bars; `cut`: of adapters truncated from this variant."""
    shift = SHIFTS.get(kind, 1.0) * (1.06 if cut else 1.0)
    found = [(r * shift, s["mean"], *_errors(s)) for r, s in summaries if s["mean"] is not None]
    if found:
        x, y, low, high = np.array(sorted(found)).T
        color, marker, label = COLORS.get(kind, OTHER), MARKERS.get(kind, "^"), LABELS.get(kind, kind)
        label, style = (f"{label} truncated from {cut}", ":") if cut else (label, "-")
        fill = "white" if cut else color
        ax.errorbar(
            x, y, [low, high], color=color, marker=marker, mfc=fill, ms=5, capsize=3, lw=1.2, ls=style, label=label
        )


def horizon_curves(results: Results) -> Figure | None:
    """Measures over the frames after the conditioning frames: one line per variant, real and frozen as bands."""
    rows = {v.name: v.rows() for v in results.variants} | {r.name: r.rows for r in results.references}
    names = curve_measures([row for own in rows.values() for row in own], results.measures)
    if not names:
        return None
    scenes = scenes_of(results.variants)
    figure, axes = _grid(len(names))
    for ax, measure in zip(axes, names, strict=True):
        for i, v in enumerate(results.variants):
            curve = mean_curve(rows[v.name], measure, scenes)
            _curve(ax, curve, COLORS["base"] if v.is_base else f"C{i % 10}", v.name)
        for r in results.references:
            curve = mean_curve(r.rows, measure, scenes)
            _curve(ax, curve, COLORS[r.name], r.name, band=True)
        info = measure_info(measure)
        ax.set_title(f"{measure} ({info.unit})  {DIRECTIONS[info.better]}", fontsize=9)
        ax.set_xlabel("frame after the conditioning frames")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        ax.grid(alpha=0.3)
        _fit_to_lines(ax)
    axes[0].legend(fontsize=7)
    return figure


def _fit_to_lines(ax: Axes) -> None:
    """Limit the vertical axis to the lines and half their range around them: bands of few prompts are far wider."""
    drawn = np.concatenate([np.asarray(line.get_ydata(), dtype=float) for line in ax.lines])
    drawn = drawn[np.isfinite(drawn)]
    if len(drawn) and np.ptp(drawn) > 0:
        room = 0.5 * np.ptp(drawn)
        ax.set_ylim(drawn.min() - room, drawn.max() + room)


def _curve(ax: Axes, curve: Curve | None, color: str, label: str, band: bool = False) -> None:
    """The mean as a line; with `band`, its interval over prompts as a band around a dashed line."""
    if curve is None:
        return
    frames = np.arange(1, len(curve.mean) + 1)
    ax.plot(frames, curve.mean, color=color, lw=1.3, ls="--" if band else "-", label=label)
    if band and curve.low is not None and curve.high is not None:
        ax.fill_between(frames, curve.low, curve.high, color=color, alpha=0.15, lw=0)


def forest(results: Results) -> Figure | None:
    """Paired differences with intervals and the margin of equivalence, one panel per measure. Red: significant."""
    differences = results.differences
    names = list(dict.fromkeys(d.measure for d in differences if d.ci_low is not None))
    if not names:
        return None
    most = max(sum(d.measure == m for d in differences) for m in names)
    figure, axes = _grid(len(names), 4.6, 1.2 + 0.28 * most)
    for ax, measure in zip(axes, names, strict=True):
        own = [d for d in differences if d.measure == measure and d.ci_low is not None]
        for i, d in enumerate(reversed(own)):
            color = "tab:red" if d.is_different else "0.3"
            ends, mean = np.array([d.ci_low, d.ci_high], float), np.array([d.mean], float)
            ax.plot(ends, [i, i], color=color, lw=1.6)
            ax.plot(mean, [i], "o", color=color, ms=5)
        ax.set_yticks(range(len(own)), [f"{d.b} − {d.a}" for d in reversed(own)], fontsize=7)
        ax.axvline(0, color="0.2", lw=0.8)
        if own[0].margin:
            ax.axvspan(-own[0].margin, own[0].margin, color="tab:green", alpha=0.12, lw=0)
        ax.set_title(f"{measure}: difference, 95 % interval", fontsize=9)
        ax.grid(alpha=0.3, axis="x")
    return figure


def cost_against_score(results: Results) -> Figure | None:
    """Training hours, peak memory and adapter size against the first judged measure (else the first measure)."""
    adapted, names = _adapted(results), results.measures
    if not adapted or not names:
        return None
    measure = next((m for m in ("instruction", "physics") if m in names), names[0])
    figure, axes = _grid(3)
    labels = {"hours": "training (hours)", "memory_gib": "peak memory (GiB)", "adapter_mib": "adapter (MiB)"}
    for ax, (key, label) in zip(axes, labels.items(), strict=True):
        for v in adapted:
            x, summary = getattr(cost(v), key), results.table[v.name][measure]
            if x is None or summary["mean"] is None:
                continue
            kind, (low, high) = v.adapter["kind"], _errors(summary)
            ax.errorbar(
                x,
                summary["mean"],
                [[low], [high]],
                color=COLORS.get(kind, OTHER),
                marker=MARKERS.get(kind, "^"),
                capsize=3,
            )
            ax.annotate(v.name, (x, summary["mean"]), textcoords="offset points", xytext=(5, 4), fontsize=6)
        ax.set_xlabel(label)
        ax.set_ylabel(measure)
        ax.grid(alpha=0.3)
    return figure


def spectra(results: Results) -> Figure | None:
    """Singular values of each update by kind of layer, mean over layers; the effective rank in the legend."""
    own = [v for v in _adapted(results) if v.done[0].folder.adapter_file.is_file()]
    found = [update_spectra(v.done[0].folder.adapter_file) for v in own]
    kinds = sorted({k for s in found for k in s})
    if not kinds:
        return None
    figure, axes = _grid(len(kinds), 3.4, 2.6)
    for ax, kind in zip(axes, kinds, strict=True):
        for i, (v, by_kind) in enumerate(zip(own, found, strict=True)):
            if kind not in by_kind:
                continue
            values = by_kind[kind]
            effective = float(np.mean([effective_rank(row) for row in values]))
            style, label = "--" if v.adapter["kind"] == "dora" else "-", f"{v.name}: {effective:.1f}"
            x, y = np.arange(1, values.shape[1] + 1), np.maximum(values.mean(0), 1e-12)
            ax.plot(x, y, style, color=f"C{i % 10}", lw=1.2, label=label)
        ax.set_yscale("log")
        ax.set_title(kind, fontsize=9)
        ax.grid(alpha=0.3)
        ax.legend(fontsize=6, title="effective rank", title_fontsize=6)
    figure.supxlabel("index of the singular value of scale x B A, mean over layers", fontsize=9)
    return figure
