"""The figures of a study: differences, scores over rank, training and tuning, and all of them drawn."""

from __future__ import annotations

from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from cosmos_exp.config.layers import UNLIKE_LORA
from cosmos_exp.files import JsonObject
from cosmos_exp.report.figure_style import (
    ADAPTERS,
    MARKERS,
    REAL,
    Drawing,
    arm_colors,
    band,
    error_bars,
    legend,
    panels,
    save,
    title,
)
from cosmos_exp.report.study import Study
from cosmos_exp.run_folder.records import read_rows

STYLE = Path(__file__).with_name("figures.mplstyle")
ON_TOP = 4  # panels of the first figure; the other measures are in the second
RANK_ON_TOP = 2
DODGE = 0.12  # octaves between adapters of one rank, so that error bars do not overlap

DIFFERENCES = (
    "Differences with 95 % intervals, each for its comparison alone. Filled: significant after Holm's correction "
    "over the measure's comparisons. Green: the margin of equivalence."
)
RANK = "Means with 95 % intervals by rank. Bands: the base and the references. Hollow: cut from a higher rank."
LOSS = "Training loss (running mean) and validation loss, one line per training run."
TUNING = "How each adapter's own settings were chosen, with 95 % intervals. Ring: chosen."


def draw_all(study: Study, out: Path) -> list[Drawing]:
    """Draw every figure for which there is data, as NAME.png, NAME.pdf and NAME.svg; in the page's order."""
    out.mkdir(parents=True, exist_ok=True)
    measures = study.main_measures
    with matplotlib.rc_context(fname=STYLE):
        figures = {
            "differences": (DIFFERENCES, differences(study, measures[:ON_TOP])),
            "rank": (RANK, scores_over_rank(study, measures[:RANK_ON_TOP])),
            "differences_more": (DIFFERENCES, differences(study, measures[ON_TOP:])),
            "rank_more": (RANK, scores_over_rank(study, measures[RANK_ON_TOP:])),
            "loss": (LOSS, losses(study)),
            "tuning": (TUNING, tuning(study)),
        }
        return [save(figure, name, caption, out) for name, (caption, figure) in figures.items() if figure]


def differences(study: Study, measures: list[str]) -> Figure | None:
    """Paired differences with intervals and the margin of equivalence: one panel per measure, one line per pair."""
    table = study.differences.dropna(subset=["low", "difference"])
    table = table[table["measure"].isin(measures)]
    measures = [m for m in measures if m in set(table["measure"])]
    if not measures:
        return None
    table = table.assign(pair=table["arm"] + " − " + table["reference"])
    pairs = list(table["pair"].unique())[::-1]
    figure, axes = panels(len(measures), 3.0, 0.4 + 0.155 * len(pairs), ON_TOP)
    colors = arm_colors(study)
    for index, (ax, measure) in enumerate(zip(axes, measures, strict=True)):
        rows = table[table["measure"] == measure]
        for row in rows.itertuples():
            place, color, fill = pairs.index(row.pair), colors[row.arm], "white"
            if row.verdict in ("better", "worse"):
                fill = color
            ax.plot([row.low, row.high], [place, place], color=color, lw=1.8)
            ax.plot([row.difference], [place], "o", color=color, mfc=fill, ms=6)
        ax.set_yticks(range(len(pairs)), pairs)
        ax.tick_params(labelleft=index % ON_TOP == 0)
        ax.set_ylim(-0.6, len(pairs) - 0.4)
        ax.axvline(0, color="0.5", lw=0.9)
        ax.xaxis.set_major_locator(MaxNLocator(4))  # four labels with a sign and three digits fit
        for margin in rows["margin"].dropna()[:1]:
            ax.axvspan(-margin, margin, color=REAL, alpha=0.12, lw=0)
        title(ax, measure)
    return figure


def scores_over_rank(study: Study, measures: list[str]) -> Figure | None:
    """Each measure over the rank with its interval; the base as a band. A line joins the adapters of one kind."""
    arms = study.arms[~study.arms["is_base"] & (study.arms["done"] > 0)].dropna(subset="rank")
    arms = arms[~arms["kind"].isin(UNLIKE_LORA)]
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
            point, color, fill = points.loc[[name]], colors[str(name)], colors[str(name)]
            if arm["cut"]:
                fill = "white"
            style: JsonObject = {
                "fmt": MARKERS.get(arm["kind"], "^"),
                "color": color,
                "mfc": fill,
                "ms": 6.5,
                "capsize": 3,
                "lw": 1.4,
            }
            ax.errorbar(point["place"], point["mean"], error_bars(point), label=name, **style)
        for (_, cut), line in points.groupby(["kind", "cut"]):
            if line["rank"].is_unique:
                line = line.sort_values("place")
                ax.plot(line["place"], line["mean"], color="0.6", lw=0.9, ls={True: ":", False: "-"}[cut], zorder=1.5)
        ax.set_xticks(np.log2(ranks), list(map(str, ranks)))
        ax.set_xlim(np.log2(ranks[0]) - 0.5, np.log2(ranks[-1]) + 0.5)
        title(ax, measure)
        ax.set_xlabel("rank")
    legend(figure, axes)
    return figure


def losses(study: Study) -> Figure | None:
    """Training loss (running mean) and validation loss over steps, one line per run."""
    figure, (left, right) = panels(2, 5.4, 3.0)
    colors = arm_colors(study)
    for key, run in study.shown_runs.iterrows():
        folder, style = study.records[str(key)].folder, {"color": colors[run["arm"]], "lw": 1, "label": run["arm"]}
        log, validation = pd.DataFrame(read_rows(folder.train_log)), pd.DataFrame(read_rows(folder.validation_log))
        if len(log):
            left.plot(log["step"], log["loss"].rolling(max(1, len(log) // 50)).mean(), alpha=0.85, **style)
        if len(validation):
            right.plot(validation["step"], validation["validation_loss"], marker=".", **style)
    left.set_title("training loss (running mean), lower is better")
    right.set_title("validation loss, lower is better")
    for ax in (left, right):
        ax.set_xlabel("optimizer step")
    legend(figure, [left, right])
    if not left.lines:
        return None
    return figure


def tuning(study: Study) -> Figure | None:
    """The measure of the choice over each tuned key: a line per arm, the chosen point ringed, 95 % intervals."""
    if len(study.tunings) != 1:  # several sweeps in one report: the tables show each
        return None
    first, colors = study.tunings[0], arm_colors(study)
    points = first.points.rename(columns={"score": "mean"}).dropna(subset="mean")
    points = points.astype({"low": float, "high": float})
    style: JsonObject = {"marker": ".", "lw": 1.2, "capsize": 2, "elinewidth": 0.7}
    if len(first.keys) > 1:
        style["ls"] = ""  # no line joins points that differ in another key
    figure, axes = panels(len(first.keys), 5.4, 3.0)
    for ax, key in zip(axes, first.keys, strict=True):
        for index, (arm, rows) in enumerate(points.groupby("arm", sort=False)):
            color, chosen = colors.get(str(arm), ADAPTERS[index % len(ADAPTERS)]), rows[rows["chosen"]]
            ax.errorbar(rows[key], rows["mean"], error_bars(rows), label=arm, color=color, **style)
            ax.plot(chosen[key], chosen["mean"], "o", ms=11, mfc="none", mec=color, mew=1.5)
        if pd.api.types.is_numeric_dtype(points[key]) and points[key].min() > 0:
            ticks = np.unique(points[key])
            ax.set_xscale("log")
            ax.set_xticks(ticks, map("{:g}".format, ticks))
            ax.minorticks_off()
        ax.set_xlabel(key)
        ax.set_ylabel(first.by)
        ax.set_title(f"{first.heading}. Ring: chosen")
    legend(figure, axes)
    return figure
