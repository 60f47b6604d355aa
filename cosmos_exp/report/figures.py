"""The figures of a report: scores by rank, differences, cost against score, measures over the horizon; and all of them drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cosmos_exp.config.measures import split_main
from cosmos_exp.report.colors import REFERENCES, adapter_colors, asked_first, jump
from cosmos_exp.report.drawing import Drawing
from cosmos_exp.report.drift_figure import drift_curves
from cosmos_exp.report.figure_style import PAPER, STYLE, band, legend, panels, point, save, title
from cosmos_exp.report.horizon import Curve, curve_measures, mean_curve
from cosmos_exp.report.results import NO_SCORES, Results, cost
from cosmos_exp.report.training_figures import loss_curves, spectra
from cosmos_exp.report.tuning_figure import tuning_figure
from cosmos_exp.report.variants import Variant, scenes_of
from cosmos_exp.statistics.comparisons import Difference

DODGE = 0.12  # between adapters of one rank, in octaves, so that error bars do not overlap
QUALITY = ("instruction", "physics")  # the measures that cost is drawn against, if they are there

_Draw = Callable[[Results], Figure | None]


def draw_all(results: Results, out: Path) -> list[Drawing]:
    """Draw every figure for which there is data, as NAME.png and NAME.pdf, and as SVG for the page."""
    out.mkdir(parents=True, exist_ok=True)
    drawn = []
    with matplotlib.rc_context(matplotlib.RcParams(STYLE)):
        for name, (caption, draw) in _kinds().items():
            figure = draw(results)
            if figure is not None:
                drawn.append(save(figure, name, caption, out))
    return drawn


def _kinds() -> dict[str, tuple[str, _Draw]]:
    """Every figure with its caption, in the order of the page."""
    return {
        "rank": ("Each measure by rank, means with 95 % intervals. The base and the references are bands.", by_rank),
        "differences": (
            "Paired differences with 95 % intervals, each for its comparison alone. Filled: significant after Holm's "
            "correction over the measure's comparisons. Green: the margin of equivalence.",
            forest,
        ),
        "cost": ("Quality against what the adapter costs. The base is a band.", cost_against_score),
        "horizon": ("Measures over the frames after the conditioning frames.", horizon_curves),
        "drift": ("Each measure by chunk of the video, means with 95 % intervals over scenes.", drift_curves),
        "tuning": ("How each adapter's own settings were chosen, with 95 % intervals.", tuning_figure),
        "loss": ("Training loss (running mean) and validation loss, one line per training run.", loss_curves),
        "spectrum": (
            "Singular values of the update s B A by kind of layer, mean over layers. In brackets: the mean effective "
            "rank over all layers, with its range over kinds of layers.",
            spectra,
        ),
    }


def _adapted(results: Results) -> list[Variant]:
    """The variants with an adapter and a finished run."""
    return [v for v in results.variants if not v.is_base and v.done]


def _bands(ax: Axes, results: Results, measure: str, references: Sequence[str] = ("real", "frozen")) -> None:
    """The base and the references behind the points."""
    colors = adapter_colors(results.variants)
    for r in (r for r in results.references if r.name in references):
        band(ax, r.table.get(measure, NO_SCORES), r.name, REFERENCES[r.name])
    for v in results.variants:
        if v.is_base:
            band(ax, results.table[v.name][measure], v.name, colors[v.name])


def by_rank(results: Results) -> Figure | None:
    """Each measure over the rank with its interval; the base as a band. A line joins the adapters of one kind."""
    adapted = _adapted(results)
    if not adapted or not results.measures:
        return None
    ranks, colors = sorted({v.adapter["rank"] for v in adapted}), adapter_colors(results.variants)
    measures = asked_first(split_main(results.measures)[0])
    places = {v.name: float(np.log2(v.adapter["rank"])) + shift for v, shift in _dodged(adapted)}
    figure, axes = panels(len(measures))
    for ax, measure in zip(axes, measures, strict=True):
        _bands(ax, results, measure)
        _joined(ax, adapted, places, results, measure)
        for v in adapted:
            summary = results.table[v.name][measure]
            if summary["mean"] is not None:
                point(ax, places[v.name], summary, v, colors[v.name], jump(results, measure, results.base, v.name))
        ax.set_xticks([float(np.log2(r)) for r in ranks], [str(r) for r in ranks])
        ax.margins(x=0.12)
        title(ax, measure)
        ax.set_xlabel("rank")
    legend(figure, axes)
    return figure


def _dodged(adapted: list[Variant]) -> list[tuple[Variant, float]]:
    """Each adapter with its shift from its rank: those of one rank lie beside each other."""
    found = []
    for v in adapted:
        same = [w for w in adapted if w.adapter["rank"] == v.adapter["rank"]]
        found.append((v, DODGE * (same.index(v) - (len(same) - 1) / 2)))
    return found


def _joined(ax: Axes, adapted: list[Variant], places: dict[str, float], results: Results, measure: str) -> None:
    """A thin line through the adapters of one kind; dotted for those that were cut from a higher rank."""
    for kind, cut in dict.fromkeys((v.adapter["kind"], v.truncated_from) for v in adapted):
        own = [v for v in adapted if (v.adapter["kind"], v.truncated_from) == (kind, cut)]
        ends = [(places[v.name], results.table[v.name][measure]["mean"]) for v in own]
        known = sorted((x, y) for x, y in ends if y is not None)
        if len(known) > 1 and len({v.adapter["rank"] for v in own}) == len(own):
            ax.plot(*zip(*known, strict=True), color="0.6", lw=0.9, ls=":" if cut else "-", zorder=1.5)


def horizon_curves(results: Results) -> Figure | None:
    """Measures over the frames after the conditioning frames: one line per variant, real and frozen as bands."""
    rows = {v.name: v.rows() for v in results.variants} | {r.name: r.rows for r in results.references}
    names = curve_measures([row for own in rows.values() for row in own], results.measures)
    if not names:
        return None
    scenes, colors = scenes_of(results.variants), adapter_colors(results.variants)
    figure, axes = panels(len(names))
    for ax, measure in zip(axes, names, strict=True):
        for v in results.variants:
            _curve(ax, mean_curve(rows[v.name], measure, scenes), colors[v.name], v.name)
        for r in results.references:
            _curve(ax, mean_curve(r.rows, measure, scenes), REFERENCES[r.name], r.name, with_band=True)
        title(ax, measure)
        ax.set_xlabel("frame after the conditioning frames")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
        _fit_to_lines(ax)
    legend(figure, axes)
    return figure


def _fit_to_lines(ax: Axes) -> None:
    """Limit the vertical axis to the lines and half their range around them: bands of few prompts are far wider."""
    drawn = np.concatenate([np.asarray(line.get_ydata(), dtype=float) for line in ax.lines])
    drawn = drawn[np.isfinite(drawn)]
    if len(drawn) and np.ptp(drawn) > 0:
        room = 0.5 * np.ptp(drawn)
        ax.set_ylim(drawn.min() - room, drawn.max() + room)


def _curve(ax: Axes, curve: Curve | None, color: str, label: str, with_band: bool = False) -> None:
    """The mean as a line; with a band, its interval over prompts around a dashed line."""
    if curve is None:
        return
    frames = np.arange(1, len(curve.mean) + 1)
    ax.plot(frames, curve.mean, color=color, lw=1.4, ls="--" if with_band else "-", label=label)
    if with_band and curve.low is not None and curve.high is not None:
        ax.fill_between(frames, curve.low, curve.high, color=color, alpha=0.15, lw=0)


def forest(results: Results) -> Figure | None:
    """Paired differences with intervals and the margin of equivalence: one panel per measure, one line per pair."""
    known = [d for d in results.differences if d.ci_low is not None]
    names = list(dict.fromkeys(d.measure for d in known))
    if not names:
        return None
    main = asked_first(split_main(names)[0])
    pairs = list(dict.fromkeys((d.a, d.b) for d in known))[::-1]
    longest = max(len(f"{b} − {a}") for a, b in pairs)
    columns = min(len(main), 4)
    figure, axes = panels(len(main), 2.6 + 0.07 * longest / columns, 0.95 + 0.24 * len(pairs), columns)
    for i, (ax, measure) in enumerate(zip(axes, main, strict=True)):
        own = [d for d in known if d.measure == measure]
        for d in own:
            _difference(ax, d, pairs.index((d.a, d.b)), results)
        ax.set_yticks(range(len(pairs)), [f"{b} − {a}" if i % columns == 0 else "" for a, b in pairs], fontsize=8.5)
        ax.set_ylim(-0.6, len(pairs) - 0.4)
        ax.axvline(0, color="0.5", lw=0.9)
        ax.xaxis.set_major_locator(MaxNLocator(4))  # four labels with a sign and three digits fit
        if own[0].margin:
            ax.axvspan(-own[0].margin, own[0].margin, color=REFERENCES["real"], alpha=0.12, lw=0)
        title(ax, measure, "\n")
    return figure


def _difference(ax: Axes, d: Difference, row: int, results: Results) -> None:
    """One line of a forest in the colour of b. On the page the point is a link."""
    color = adapter_colors(results.variants)[d.b]
    ax.plot(np.array([d.ci_low, d.ci_high], float), [row, row], color=color, lw=1.8)
    fill = color if d.is_different else PAPER
    drawn = ax.plot(np.array([d.mean], float), [row], "o", color=color, mfc=fill, ms=6.5)
    drawn[0].set_url(jump(results, d.measure, d.a, d.b))


def cost_against_score(results: Results) -> Figure | None:
    """Training hours, peak memory and adapter size against the judged measures (else the first measure)."""
    adapted, names = _adapted(results), results.measures
    if not adapted or not names:
        return None
    measures = [m for m in QUALITY if m in names][:1] or names[:1]
    labels = {"hours": "training (hours)", "memory_gib": "peak memory (GiB)", "adapter_mib": "adapter (MiB)"}
    known = [k for k in labels if any(getattr(cost(v), k) is not None for v in adapted)]
    if not known:
        return None
    figure, axes = panels(len(known))
    colors = adapter_colors(results.variants)
    for ax, key in zip(axes, known, strict=True):
        _bands(ax, results, measures[0], ["real"])
        for v in adapted:
            x, summary = getattr(cost(v), key), results.table[v.name][measures[0]]
            if x is not None and summary["mean"] is not None:
                point(ax, x, summary, v, colors[v.name], jump(results, measures[0], results.base, v.name))
        ax.margins(x=0.12)
        ax.set_xlabel(labels[key])
        title(ax, measures[0])
    legend(figure, axes)
    return figure
