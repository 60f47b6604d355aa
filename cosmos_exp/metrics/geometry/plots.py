"""Figures of a Sampson error: the error over frames with the worst pairs marked, and the matches of the worst pair."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cosmos_exp.config.registry import MATCHERS
from cosmos_exp.config.schema import Sampson as SampsonSettings
from cosmos_exp.data.video import write_image
from cosmos_exp.metrics.geometry.epipolar import robust_fit, sampson_distance
from cosmos_exp.metrics.geometry.results import CrossResult, FrameError, VideoResult, ViewResult, column
from cosmos_exp.metrics.geometry.temporal import moving_matches
from cosmos_exp.metrics.geometry.views import View

WORST = 3  # frame pairs that are marked
GREY = (150, 150, 150)
RED_FROM = 3.0  # pixels of error from which a match is fully red; the cookbook's guide calls 1 to 3 good
MIN_WIDTH = 640  # pixels
LINES = (
    ("cookbook", "cookbook: all matches", "0.55"),
    ("robust", "robust: all matches", "tab:orange"),
    ("moving", "moving matches", "tab:blue"),
)


def draw_figures(
    out: Path, name: str, views: Sequence[View], result: VideoResult, settings: SampsonSettings
) -> list[Path]:
    """Draw all figures of a video.

    Returns:
        the files written.
    """
    out.mkdir(parents=True, exist_ok=True)
    files = [out / f"{name}__error.png"]
    plot_errors(files[0], name, result)
    for view, measured in zip(views, result.views, strict=True):
        worst = worst_pairs(measured)
        if worst:
            files.append(out / f"{name}__{view.name}__worst_pair.png")
            write_image(files[-1], draw_matches(view.frames, worst[0], settings))
    return files


def shown_error(pair: FrameError) -> float | None:
    """The error of a pair's moving matches, or of all matches if none moves."""
    return pair.cookbook if pair.moving is None else pair.moving


def worst_pairs(view: ViewResult) -> list[tuple[int, int]]:
    """The frame pairs with the largest error, worst first."""
    errors = []
    for pair in view.errors:
        error = shown_error(pair)
        if error is not None:
            errors.append((-error, pair.frames))
    return [frames for _, frames in sorted(errors)[:WORST]]


def plot_errors(path: Path, name: str, result: VideoResult) -> None:
    """One row per view and view pair: the errors over time, the worst pairs marked, frames without a value shaded."""
    rows: list[ViewResult | CrossResult] = []
    undefined = []
    every: list[ViewResult | CrossResult] = [*result.views, *result.crosses]
    for row in every:
        if column(row.errors, "cookbook") or column(row.errors, "robust"):
            rows.append(row)
        else:
            undefined.append(row.name)
    count = max(1, len(rows))
    figure = Figure(figsize=(9, 2.2 * count + 0.6), layout="constrained", dpi=110)
    title = f"{name}: Sampson error in pixels"
    if undefined:
        title += f"\nundefined: {', '.join(undefined)}"
    figure.suptitle(title)
    axes = figure.subplots(count, 1, squeeze=False)[:, 0]
    for ax, row in zip(axes, rows, strict=False):
        _plot_row(ax, row)
    if not rows:
        why = "; ".join([*result.notes, *column(result.views, "reason")])
        axes[0].text(0.5, 0.5, why or "no view", ha="center", transform=axes[0].transAxes)
    axes[-1].set_xlabel("frame")
    figure.savefig(path)


def _plot_row(ax: Axes, row: ViewResult | CrossResult) -> None:
    if isinstance(row, ViewResult):
        title, worst = f"{row.name}: frame to frame", worst_pairs(row)
    else:
        title, worst = f"{row.name}: F from {row.geometry}", []
    if row.reason:
        title += f"   ({row.reason})"
    ax.set_title(title, loc="left", fontsize=9)
    frames, values = [], []
    for error in row.errors:
        frames.append(error.frames[0])
        values.append([getattr(error, name) for name, _, _ in LINES])
        if error.cookbook is None:
            ax.axvspan(error.frames[0] - 0.5, error.frames[0] + 0.5, color="0.9", lw=0)
        elif error.frames in worst:
            ax.plot(error.frames[0], shown_error(error) or 0.0, "v", color="tab:red", ms=8)
    for points, (_, label, color) in zip(np.array(values, dtype=float).T, LINES, strict=True):  # None is NaN: no point
        ax.plot(frames, points, color=color, lw=1.3, marker=".", ms=4, label=label)
    ax.set_ylim(bottom=0)
    ax.grid(alpha=0.3)
    ax.legend(loc="upper right", fontsize=7)


def draw_matches(frames: np.ndarray, pair: tuple[int, int], settings: SampsonSettings) -> np.ndarray:
    """The first frame of a pair with a line from each match to its position in the second frame.

    Static matches are grey; the others go from green (no error) to red (`RED_FROM` pixels).

    Args:
        frames: of the view, uint8 (T, H, W, 3).

    Returns:
        uint8 (H, W, 3) RGB, at least `MIN_WIDTH` pixels wide.
    """
    first, second = frames[pair[0]], frames[pair[1]]
    matcher = MATCHERS.get(settings.matcher)(settings, 1)
    a, b = matcher.features([cv2.cvtColor(first, cv2.COLOR_RGB2GRAY), cv2.cvtColor(second, cv2.COLOR_RGB2GRAY)])
    found = matcher.match([(a, b)], first.shape[:2])[0]
    x, y = a.points[found[:, 0]], b.points[found[:, 1]]
    moves = moving_matches(x, y, settings)
    fitted = moves if moves.sum() >= settings.min_matches else np.ones(len(x), dtype=bool)
    errors = np.zeros(len(x))
    if fitted.sum() >= settings.min_matches:
        fit = robust_fit(x[fitted], y[fitted], settings.updated({"estimator": "magsac"}), pair[0])
        if fit is not None:
            errors = sampson_distance(x, y, fit.fundamental)
    scale = max(1, -(-MIN_WIDTH // first.shape[1]))
    canvas = cv2.resize(first, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST) // 2 + 100
    for k in np.argsort(moves, kind="stable"):
        start, end = np.round((np.stack([x[k], y[k]]) + 0.5) * scale).astype(int).tolist()
        colour = _error_colour(errors[k]) if moves[k] else GREY
        cv2.line(canvas, start, end, colour, 1 + scale // 2, cv2.LINE_AA)
        cv2.circle(canvas, end, 1 + scale, colour, -1, cv2.LINE_AA)
    still = (len(x) - moves.sum()) / max(1, len(x))
    caption = (
        f"frames {pair[0]} to {pair[1]}: {len(x)} matches, {still:.0%} static (grey); green 0 to red {RED_FROM:.0f} px"
    )
    bar = np.full((22, canvas.shape[1], 3), 255, np.uint8)
    cv2.putText(bar, caption, (6, 15), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA)
    return np.concatenate([canvas, bar])


def _error_colour(error: float) -> tuple[int, int, int]:
    share = min(1.0, error / RED_FROM)
    return int(255 * min(1, 2 * share)), int(200 * min(1, 2 - 2 * share)), 0
