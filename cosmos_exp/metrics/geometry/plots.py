"""Figures of a Sampson error: the error over frames with the worst pairs marked, and the matches of the worst pair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import matplotlib
import numpy as np
from matplotlib.axes import Axes

from cosmos_exp.config.registry import MATCHERS
from cosmos_exp.config.schema import Sampson as SampsonSettings
from cosmos_exp.data.video import write_image
from cosmos_exp.metrics.geometry.results import CrossResult, FrameError, VideoResult, ViewResult
from cosmos_exp.metrics.geometry.robust import RobustFit, fixed_fit, robust_fit
from cosmos_exp.metrics.geometry.views import View

matplotlib.use("Agg")

WORST = 3  # frame pairs that are marked
GREY = (150, 150, 150)
RED_FROM = 3.0  # pixels of error from which a match is fully red; the cookbook's guide calls 1 to 3 good
MIN_WIDTH = 640  # pixels


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
    by_name = {v.name: v for v in views}
    for view in result.views:
        worst = worst_pairs(view)
        if worst:
            files.append(out / f"{name}__{view.view}__worst_pair.png")
            write_image(files[-1], draw_matches(by_name[view.view].frames, worst[0], settings))
    return files


def worst_pairs(view: ViewResult) -> list[tuple[int, int]]:
    """The frame pairs with the largest error of moving matches, or of all matches if none moves, worst first."""
    errors = [(p.moving if p.moving is not None else p.cookbook, p.frames) for p in view.per_pair]
    defined = sorted(((e, f) for e, f in errors if e is not None), key=lambda t: (-t[0], t[1]))
    return [frames for _, frames in defined[:WORST]]


def plot_errors(path: Path, name: str, result: VideoResult) -> None:
    """One row per view and view pair: the errors over time, the worst pairs marked, frames without a value shaded."""
    from matplotlib.figure import Figure

    rows: list[ViewResult | CrossResult] = [*result.views, *result.crosses]
    undefined = [":".join(r.views) if isinstance(r, CrossResult) else r.view for r in rows if not _measured(r)]
    rows = [r for r in rows if _measured(r)]
    figure = Figure(figsize=(9, 2.2 * max(1, len(rows)) + 0.6), layout="constrained", dpi=110)
    figure.suptitle(f"{name}: Sampson error in pixels" + (f"\nundefined: {', '.join(undefined)}" if undefined else ""))
    axes = figure.subplots(max(1, len(rows)), 1, squeeze=False)[:, 0]
    for ax, row in zip(axes, rows, strict=False):
        _plot_row(ax, row)
    if not rows:
        why = [*result.notes, *(v.reason for v in result.views if v.reason)]
        axes[0].text(0.5, 0.5, "; ".join(why) or "no view", ha="center", transform=axes[0].transAxes)
    axes[-1].set_xlabel("frame")
    figure.savefig(path)


def _measured(row: ViewResult | CrossResult) -> bool:
    return (row.pairs_measured if isinstance(row, ViewResult) else row.frames_measured) > 0


def _plot_row(ax: Axes, row: ViewResult | CrossResult) -> None:
    if isinstance(row, ViewResult):
        errors, title, worst = row.per_pair, f"{row.view}: frame to frame", worst_pairs(row)
    else:
        errors, title, worst = row.per_frame, f"{row.views[0]} to {row.views[1]}: F from {row.geometry}", []
    _plot_lines(ax, errors)
    for e in errors:
        if e.cookbook is None:
            ax.axvspan(e.frames[0] - 0.5, e.frames[0] + 0.5, color="0.9", lw=0)
        elif e.frames in worst:
            ax.plot(e.frames[0], e.moving if e.moving is not None else e.cookbook, "v", color="tab:red", ms=8)
    ax.set_title(title + (f"   ({row.reason})" if row.reason else ""), loc="left", fontsize=9)
    ax.set_ylim(bottom=0)
    ax.grid(alpha=0.3)
    if errors:
        ax.legend(loc="upper right", fontsize=7)


def _plot_lines(ax: Axes, errors: Sequence[FrameError]) -> None:
    frames, nan = [e.frames[0] for e in errors], float("nan")
    cookbook = [nan if e.cookbook is None else e.cookbook for e in errors]
    robust = [nan if e.robust is None else e.robust for e in errors]
    moving = [nan if e.moving is None else e.moving for e in errors]
    ax.plot(frames, cookbook, color="0.55", lw=1.2, marker=".", ms=3, label="cookbook: all matches")
    ax.plot(frames, robust, color="tab:orange", lw=1.2, marker=".", ms=3, label="robust: all matches")
    ax.plot(frames, moving, color="tab:blue", lw=1.5, marker=".", ms=4, label="moving matches")


def draw_matches(frames: np.ndarray, pair: tuple[int, int], settings: SampsonSettings) -> np.ndarray:
    """The first frame of a pair with a line from each match to its position in the second frame.

    Static matches are grey; the others go from green (no error) to red (`RED_FROM` pixels).

    Args:
        frames: of the view, uint8 (T, H, W, 3).

    Returns:
        uint8 (H, W, 3) RGB, at least `MIN_WIDTH` pixels wide.
    """
    first, second = (frames[i] for i in pair)
    matcher = MATCHERS.get(settings.matcher)(settings)
    a, b = matcher.features([cv2.cvtColor(f, cv2.COLOR_RGB2GRAY) for f in (first, second)])
    found = matcher.match([(a, b)], first.shape[:2])[0]
    x, y = a.points[found[:, 0]], b.points[found[:, 1]]
    static = np.linalg.norm(y - x, axis=1) < settings.static_pixels
    fitted = ~static if (~static).sum() >= settings.min_matches else np.ones(len(x), dtype=bool)
    enough = fitted.sum() >= settings.min_matches
    fit = robust_fit(x[fitted], y[fitted], replace(settings, estimator="magsac"), pair[0]) if enough else None
    errors = fixed_fit(x, y, fit.fundamental, 1).errors if isinstance(fit, RobustFit) else np.full(len(x), np.nan)
    scale = max(1, -(-MIN_WIDTH // first.shape[1]))
    canvas = cv2.resize(first, None, fx=scale, fy=scale, interpolation=cv2.INTER_NEAREST) // 2 + 100
    for k in np.argsort(~static, kind="stable"):
        start, end = (tuple(np.round((p[k] + 0.5) * scale).astype(int).tolist()) for p in (x, y))
        colour = GREY if static[k] else _error_colour(errors[k])
        cv2.line(canvas, start, end, colour, 1 + scale // 2, cv2.LINE_AA)
        cv2.circle(canvas, end, 1 + scale, colour, -1, cv2.LINE_AA)
    share = static.mean() if len(x) else 0
    caption = (
        f"frames {pair[0]} to {pair[1]}: {len(x)} matches, {share:.0%} static (grey); green 0 to red {RED_FROM:.0f} px"
    )
    bar = np.full((22, canvas.shape[1], 3), 255, np.uint8)
    cv2.putText(bar, caption, (6, 15), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (0, 0, 0), 1, cv2.LINE_AA)
    return np.concatenate([canvas, bar])


def _error_colour(error: float) -> tuple[int, int, int]:
    share = 0.0 if np.isnan(error) else min(1.0, error / RED_FROM)
    return int(255 * min(1, 2 * share)), int(200 * min(1, 2 - 2 * share)), 0
