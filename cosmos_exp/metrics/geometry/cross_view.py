"""Cross-view Sampson error: do two simultaneous views show the same scene?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from cosmos_exp.config.schema import Sampson
from cosmos_exp.metrics.geometry.epipolar import NO_FIT, RobustFit, cookbook_errors, cookbook_repeats, robust_fit
from cosmos_exp.metrics.geometry.matching import Matcher
from cosmos_exp.metrics.geometry.results import (
    ACROSS,
    FrameError,
    Result,
    column,
    lower_median,
    mean,
    median,
    repeatability_of,
    repeated,
)
from cosmos_exp.metrics.geometry.temporal import Frame

# Matches that a frame needs for an error of its own. F comes from all frames, so a few are enough.
FEW = 5


@dataclass(frozen=True)
class ViewMatches:
    """Matches between two views, those of all frames together.

    name: of the views, A:B.
    x, y: points in the first and the second view, (N, 2).
    moving: whether a match moves over time in either view, bool (N,).
    counts: how many of the N matches each frame has.
    """

    name: str
    x: np.ndarray
    y: np.ndarray
    moving: np.ndarray
    counts: list[int]


FrameMatches = tuple[np.ndarray, np.ndarray, np.ndarray]  # x, y and moving of one frame


def match_views(
    a: Sequence[Frame], b: Sequence[Frame], matcher: Matcher, size: tuple[int, int]
) -> Iterator[FrameMatches]:
    """Match the simultaneous frames of two views, as far as both have some.

    Args:
        size: height and width for both: LightGlue normalises by it. Views of different sizes keep their proportions in pixels.
    """
    frames = list(zip(a, b, strict=False))
    matched = matcher.match([(first.features, second.features) for first, second in frames], size)
    for (first, second), indices in zip(frames, matched, strict=True):
        i, j = indices[:, 0], indices[:, 1]
        yield first.points[i], second.points[j], first.moving[i] | second.moving[j]


def pooled(name: str, frames: Sequence[FrameMatches]) -> ViewMatches:
    """The matches of all frames together."""
    columns = zip((np.zeros((0, 2)), np.zeros((0, 2)), np.zeros(0, dtype=bool)), *frames, strict=True)
    x, y, moving = map(np.concatenate, columns)
    return ViewMatches(name, x, y, moving, [len(first) for first, _, _ in frames])


def cross_error(matches: ViewMatches, settings: Sampson) -> Result:
    """The errors of two views of a fixed rig under one F for all frames: medians over a frame's matches, then over frames."""
    x, y, moving = matches.x, matches.y, matches.moving
    plain, plain_repeats, fit, reason = None, list[np.ndarray](), None, None
    # With static cameras and a static scene the same few points come back in every frame. They add no information on F.
    distinct = len(np.unique(np.rint(np.hstack([x, y])), axis=0))
    if not matches.counts:
        reason = "no frame"
    elif distinct < settings.min_matches:
        reason = f"the views share {distinct} different matches, fewer than {settings.min_matches}"
    else:
        plain, plain_repeats = cookbook_errors(x, y), cookbook_repeats(x, y, settings.repeats, 0)
        fit = robust_fit(x, y, settings, 0)
        if fit is None or plain is None:
            reason = NO_FIT
    errors, start = list[FrameError](), 0
    for t, count in enumerate(matches.counts):
        part = slice(start, start + count)
        errors.append(_frame_error(t, part, moving, plain, plain_repeats, fit))
        start += count
    values = {"cse_mean": mean(column(errors, "cse_mean"))}
    for name in ("matches", "cse", "cse_robust"):
        values[name] = median(column(errors, name))
    repeatability = repeated(errors, ACROSS)
    values |= dict.fromkeys(("cse_moving", "inlier_share"))
    if fit is not None:
        values["inlier_share"] = float((fit.errors < settings.threshold).mean())
    if all(error.lost for error in errors):
        reason = reason or f"no frame has {FEW} matches"
    elif fit is not None and moving.sum() >= settings.min_matches:
        # One frame has few moving matches, so those of all frames are pooled, as for F.
        values["cse_moving"] = float(np.median(fit.errors[moving]))
        repeatability["cse_moving"] = repeatability_of(np.median(fit.all_errors[:, moving], axis=1).tolist())
    return Result(matches.name, values, repeatability, tuple(errors), reason)


def _frame_error(
    t: int,
    part: slice,
    moving: np.ndarray,
    plain: np.ndarray | None,
    plain_repeats: list[np.ndarray],
    fit: RobustFit | None,
) -> FrameError:
    """The errors of frame t, whose matches are this part of the pooled ones, of which the other arguments are."""
    moves = moving[part]
    error = FrameError((t, t), {"matches": len(moves), "moving_matches": int(moves.sum())})
    if len(moves) < FEW or (plain is None and fit is None):
        error.lost = dict.fromkeys(ACROSS, f"fewer than {FEW} matches")
        return error
    if plain is not None:
        error.values |= {"cse": lower_median(plain[part]), "cse_mean": float(plain[part].mean())}
    error.repeats["cse"] = [lower_median(repeat[part]) for repeat in plain_repeats]
    if fit is not None:
        of_frame = RobustFit(fit.fundamental, fit.errors[part], fit.all_errors[:, part])
        error.add_fit("cse_robust", of_frame)
        if moves.sum() >= FEW:
            error.values["cse_moving"] = float(np.median(of_frame.errors[moves]))
    return error
