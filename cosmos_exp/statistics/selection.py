"""The choice among tried values, e.g. of a learning rate, by their scores on selection scenes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

SceneScores = Mapping[str, float]  # mean score of each scene


def choose_point(points: Sequence[SceneScores], better: int, rule: str = "best") -> int | None:
    """The index of the chosen point; None if no point has a score.

    best: the best mean; of equal ones the first. one_standard_error: the first point, in the order given, that is at most
    one standard error of the paired difference worse than the best (after Breiman et al. 1984, section 3.4.3): list the
    values from the most cautious to the boldest.

    Args:
        points: Scores by scene.
        better: 1 if higher is better, -1 if lower is better.
        rule: best or one_standard_error.
    """
    scored = [i for i, p in enumerate(points) if p]
    if not scored:
        return None
    best = max(scored, key=lambda i: better * float(np.mean(list(points[i].values()))))
    if rule == "best":
        return best
    return next(i for i in scored if i == best or _is_close(points[i], points[best], better))


def _is_close(point: SceneScores, best: SceneScores, better: int) -> bool:
    """Whether a point is at most one standard error worse than the best, over the scenes that both have."""
    common = sorted(set(point) & set(best))
    if len(common) < 2:
        return False
    worse = better * np.array([best[s] - point[s] for s in common])
    return bool(worse.mean() <= worse.std(ddof=1) / np.sqrt(len(common)))
