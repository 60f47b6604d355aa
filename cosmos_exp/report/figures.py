"""The figures of a study: differences, scores over rank, training, tuning, horizon, drift and spectra, and all of them drawn."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cosmos_exp.files import JsonObject
from cosmos_exp.report.adapter_info import Array, effective_rank, update_spectra
from cosmos_exp.report.figure_style import (
    ADAPTERS,
    LINES,
    MARKERS,
    PAPER,
    REAL,
    STYLE,
    TIP,
    Drawing,
    arm_colors,
    band,
    error_bars,
    jump,
    legend,
    panels,
    save,
    title,
)
from cosmos_exp.report.study import Study
from cosmos_exp.report.tables import interval, number
from cosmos_exp.run_folder.records import read_rows

ON_TOP = 4  # panels of the first figure; the other measures are in the second
RANK_ON_TOP = 2
DODGE = 0.12  # octaves between adapters of one rank, or chunks between adapters, so that error bars do not overlap

DIFFERENCES = (
    "Differences with 95 % intervals, each for its comparison alone. Filled: significant after Holm's correction "
    "over the measure's comparisons. Green: the margin of equivalence."
)
RANK = "Means with 95 % intervals by rank. Bands: the base and the references. Hollow: cut from a higher rank."


def draw_all(study: Study, out: Path) -> list[Drawing]:
    """Draw every figure for which there is data, as NAME.png and NAME.pdf, and as SVG for the page; in its order."""
    out.mkdir(parents=True, exist_ok=True)
    kinds: list[tuple[str, str, Callable[[Study], Figure | None]]] = [
        ("differences", DIFFERENCES, differences),
        ("rank", RANK, scores_over_rank),
        ("differences_more", DIFFERENCES, more_differences),
        ("rank_more", RANK, more_scores_over_rank),
        ("drift", "Each measure by chunk of the video, means with 95 % intervals over scenes.", drift),
        ("horizon", "Measures over the frames after the conditioning frames.", horizon),
        ("loss", "Training loss (running mean) and validation loss, one line per training run.", losses),
        ("tuning", "How each adapter's own settings were chosen, with 95 % intervals. Ring: chosen.", tuning),
        (
            "spectrum",
            "Singular values of the update s B A by kind of layer, mean over layers. In brackets: the mean effective rank.",
            spectra,
        ),
    ]
    drawings = []
    with matplotlib.rc_context(matplotlib.RcParams(STYLE)):
        for name, caption, draw in kinds:
            figure = draw(study)
            if figure is not None:
                drawings.append(save(figure, name, caption, out))
    return drawings


# --- Differences ---
def differences(study: Study) -> Figure | None:
    """Paired differences of the first measures."""
    return _forest(study, study.main_measures[:ON_TOP])


def more_differences(study: Study) -> Figure | None:
    """Paired differences of the other main measures."""
    return _forest(study, study.main_measures[ON_TOP:])


def _forest(study: Study, measures: list[str]) -> Figure | None:
    """Paired differences with intervals and the margin of equivalence: one panel per measure, one line per pair."""
    table = study.differences.dropna(subset=["low", "difference"])
    table = table[table["measure"].isin(measures)]
    measures = [m for m in measures if m in set(table["measure"])]
    if not measures:
        return None
    pairs = list(zip(table["arm"], table["reference"], strict=True))
    pairs = list(dict.fromkeys(pairs))[::-1]
    labels = [f"{arm} − {reference}" for arm, reference in pairs]
    figure, axes = panels(len(measures), 3.0, 0.4 + 0.155 * len(pairs), ON_TOP)
    colors = arm_colors(study)
    for index, (ax, measure) in enumerate(zip(axes, measures, strict=True)):
        margin = 0.0
        for row in table[table["measure"] == measure].itertuples():
            place, color = pairs.index((row.arm, row.reference)), colors[row.arm]
            ax.plot([row.low, row.high], [place, place], color=color, lw=1.8)
            fill = color if row.verdict in ("better", "worse") else PAPER
            (point,) = ax.plot([row.difference], [place], "o", color=color, mfc=fill, ms=6)
            point.set_url(jump(study, measure, row.reference, row.arm))
            estimate = interval(row.difference, row.low, row.high)
            point.set_gid(f"{TIP}{labels[place]}, {measure}: {estimate}, p (Holm) {number(row.p_holm)}: {row.verdict}")
            margin = row.margin or margin
        ax.set_yticks(range(len(pairs)), labels)
        ax.tick_params(labelleft=index % ON_TOP == 0)
        ax.set_ylim(-0.6, len(pairs) - 0.4)
        ax.axvline(0, color="0.5", lw=0.9)
        ax.xaxis.set_major_locator(MaxNLocator(4))  # four labels with a sign and three digits fit
        if margin:
            ax.axvspan(-margin, margin, color=REAL, alpha=0.12, lw=0)
        title(ax, measure)
    return figure


# --- Scores over rank ---
def scores_over_rank(study: Study) -> Figure | None:
    """The first measures over the rank."""
    return _over_rank(study, study.main_measures[:RANK_ON_TOP])


def more_scores_over_rank(study: Study) -> Figure | None:
    """The other main measures over the rank."""
    return _over_rank(study, study.main_measures[RANK_ON_TOP:])


def _over_rank(study: Study, measures: list[str]) -> Figure | None:
    """Each measure over the rank with its interval; the base as a band. A line joins the adapters of one kind."""
    arms = study.arms[~study.arms["is_base"] & (study.arms["done"] > 0)].copy()
    scored = set(study.means.dropna(subset=["mean"])["measure"])
    measures = [m for m in measures if m in scored]
    if arms.empty or not measures:
        return None
    same_rank = arms.groupby("rank")["rank"]
    shift = same_rank.cumcount() - (same_rank.transform("size") - 1) / 2
    arms["place"] = np.log2(arms["rank"].astype(float)) + DODGE * shift
    arms["cut"] = arms["truncated_from"] != ""
    colors = arm_colors(study)
    ranks = np.array(sorted(set(arms["rank"])))
    figure, axes = panels(len(measures), 2.9, 2.2)
    for ax, measure in zip(axes, measures, strict=True):
        means = study.means[study.means["measure"] == measure]
        for _, row in means[~means["arm"].isin(arms.index)].iterrows():
            band(ax, row, colors[row["arm"]])
        points = arms.join(means.set_index("arm")[["mean", "low", "high"]]).dropna(subset=["mean"])
        for name, arm in points.iterrows():
            color, point = colors[str(name)], points.loc[[name]]
            fmt, fill = MARKERS.get(arm["kind"], "^"), PAPER if arm["cut"] else color
            style: JsonObject = {"fmt": fmt, "color": color, "mfc": fill, "ms": 6.5, "capsize": 3, "lw": 1.4}
            drawn = ax.errorbar(point["place"], point["mean"], error_bars(point), label=name, **style)
            drawn.lines[0].set_url(jump(study, measure, study.base, str(name)))
            drawn.lines[0].set_gid(f"{TIP}{name}, {measure}: {interval(arm['mean'], arm['low'], arm['high'])}")
        for (_, cut), line in points.groupby(["kind", "cut"]):
            if line["rank"].is_unique:
                line = line.sort_values("place")
                ax.plot(line["place"], line["mean"], color="0.6", lw=0.9, ls=":" if cut else "-", zorder=1.5)
        ax.set_xticks(np.log2(ranks), list(map(str, ranks)))
        ax.set_xlim(np.log2(ranks[0]) - 0.5, np.log2(ranks[-1]) + 0.5)
        title(ax, measure)
        ax.set_xlabel("rank")
    legend(figure, axes)
    return figure


# --- Over the frames and chunks of a video ---
def horizon(study: Study) -> Figure | None:
    """Measures over the frames after the conditioning frames: one line per arm, the references dashed."""
    curves = study.scores.assign(curve=study.scores["detail"].str.get("curve")).dropna(subset=["curve"])
    measures = [m for m in study.measures if m in set(curves["measure"])]
    if not measures:
        return None
    colors = arm_colors(study)
    figure, axes = panels(len(measures))
    for ax, measure in zip(axes, measures, strict=True):
        for arm, rows in curves[curves["measure"] == measure].groupby("arm", sort=False):
            scene_curves(rows).mean().plot(ax=ax, style=LINES.get(arm, "-"), color=colors[arm], lw=1.4, label=arm)
        title(ax, measure)
        ax.set_xlabel("frame after the conditioning frames")
    legend(figure, axes)
    return figure


def scene_curves(rows: pd.DataFrame) -> pd.DataFrame:
    """The curve of each scene: the mean over its prompts of the mean over their videos. Columns: frames 1, 2, …

    Frames that not all videos have are left out.
    """
    length = rows["curve"].str.len().min()
    curves = np.array([curve[:length] for curve in rows["curve"]], dtype=float)
    table = pd.DataFrame(curves, index=[rows["scene"], rows["prompt"]], columns=range(1, length + 1))
    return table.groupby(["scene", "prompt"]).mean().groupby("scene").mean()


def drift(study: Study) -> Figure | None:
    """Every main measure that an adapter has in two chunks or more; the references dashed."""
    table = study.drift[study.drift["chunk"] > 0].dropna(subset=["mean"])
    adapted = table[table["arm"].isin(study.arms.index)]
    repeated = set(adapted.loc[adapted.duplicated(["arm", "measure"]), "measure"])
    measures = [m for m in study.main_measures if m in repeated]
    if not measures:
        return None
    colors = arm_colors(study)
    names = [*study.references, *study.arms.index]
    figure, axes = panels(len(measures))
    for ax, measure in zip(axes, measures, strict=True):
        for arm, rows in table[table["measure"] == measure].groupby("arm", sort=False):
            places = rows["chunk"] + DODGE / 2 * (names.index(arm) - (len(names) - 1) / 2)
            style = {
                "fmt": f"o{LINES.get(arm, '-')}",
                "color": colors[arm],
                "ms": 4,
                "capsize": 3,
                "lw": 1.3,
                "label": arm,
            }
            ax.errorbar(places, rows["mean"], error_bars(rows), **style)
        title(ax, measure)
        ax.set_xlabel("chunk")
        ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    legend(figure, axes)
    return figure


# --- Training ---
def losses(study: Study) -> Figure | None:
    """Training loss (running mean) and validation loss over steps, one line per run."""
    figure, (left, right) = panels(2, 5.4, 3.0)
    colors, drawn = arm_colors(study), set()
    for key, run in study.shown_runs.iterrows():
        folder, arm = study.records[str(key)].folder, run["arm"]
        if not folder.train_log.is_file():
            continue
        label = None if arm in drawn else arm
        drawn.add(arm)
        log = pd.DataFrame(read_rows(folder.train_log))
        loss = log["loss"].rolling(max(1, len(log) // 50)).mean()
        left.plot(log["step"], loss, color=colors[arm], lw=1, alpha=0.85, label=label)
        log = pd.DataFrame(read_rows(folder.validation_log))
        if len(log):
            right.plot(log["step"], log["validation_loss"], color=colors[arm], marker=".", lw=1, label=label)
    left.set_title("training loss (running mean), lower is better")
    right.set_title("validation loss, lower is better")
    for ax in (left, right):
        ax.set_xlabel("optimizer step")
    legend(figure, [left, right])
    return figure if drawn else None


def tuning(study: Study) -> Figure | None:
    """The measure of the choice over each tuned key: a line per arm, the chosen point ringed, 95 % intervals."""
    if len(study.tunings) != 1:  # several sweeps in one report: the tables show each
        return None
    first = study.tunings[0]
    colors = arm_colors(study)
    figure, axes = panels(len(first.keys), 5.4, 3.0)
    for ax, key in zip(axes, first.keys, strict=True):
        ticks: set[float] = set()
        for index, choice in enumerate(first.choices):
            color = colors.get(choice["arm"], ADAPTERS[index % len(ADAPTERS)])
            points = _tuned_points(choice, key)
            bars, ring = error_bars(points), points[points["chosen"]]
            style: JsonObject = {"color": color, "marker": ".", "lw": 1.2, "capsize": 2, "elinewidth": 0.7}
            ax.errorbar(points["value"], points["mean"], bars, label=choice["arm"], **style)
            ax.plot(ring["value"], ring["mean"], "o", ms=11, mfc="none", mec=color, mew=1.5)
            ticks.update(points["value"])
        places = pd.Series(sorted(ticks, key=str))
        if pd.api.types.is_numeric_dtype(places) and places.min() > 0:
            ax.set_xscale("log")
            ax.set_xticks(places, places.map("{:g}".format))
            ax.minorticks_off()
        ax.set_xlabel(key)
        ax.set_ylabel(first.by)
        ax.set_title(f"{first.heading}. Ring: chosen")
    legend(figure, axes)
    return figure


def _tuned_points(choice: JsonObject, key: str) -> pd.DataFrame:
    """The scored points of an arm over one key. With several keys, the other keys are at their chosen values."""
    rows = []
    for point in choice["points"]:
        others = {**(choice["chosen"] or point["values"]), key: point["values"][key]}
        if point["score"] is not None and point["values"] == others:
            row = {"value": point["values"][key], "chosen": point["values"] == choice["chosen"]}
            rows.append({**row, "mean": point["score"], "low": point["low"], "high": point["high"]})
    table = pd.DataFrame(rows, columns=["value", "chosen", "mean", "low", "high"])
    return table.astype({"chosen": bool, "mean": float, "low": float, "high": float})


def spectra(study: Study) -> Figure | None:
    """Singular values of each adapter's update by kind of layer, mean over layers; of DoRA dashed."""
    by_arm: dict[str, dict[str, Array]] = {}
    for arm in study.arms.index:
        for run in study.runs_of(arm)[:1]:
            if run.folder.adapter_file.is_file():
                by_arm[arm] = update_spectra(run.folder.adapter_file)
    kinds = sorted(set().union(*by_arm.values()))
    if not kinds:
        return None
    colors = arm_colors(study)
    figure, axes = panels(len(kinds), 2.9, 2.2, columns=4)
    for ax, kind in zip(axes, kinds, strict=True):
        for name, by_kind in by_arm.items():
            if kind in by_kind:
                values = by_kind[kind].mean(0)
                layers = np.concatenate([np.apply_along_axis(effective_rank, 1, rows) for rows in by_kind.values()])
                line = {"dora": "--"}.get(study.arms.loc[name, "kind"], "-")
                label = f"{name} ({layers.mean():.1f})"
                ax.semilogy(np.arange(1, len(values) + 1), values, line, color=colors[name], lw=1.3, label=label)
        ax.set_title(kind)
        ax.set_xlabel("index")
    axes[0].set_ylabel("singular value")
    legend(figure, axes)
    return figure
