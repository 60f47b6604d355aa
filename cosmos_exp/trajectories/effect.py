"""What a selection did: kept against made in scores and diversity, beside what a random choice of as many would give."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import cv2
import numpy as np

from cosmos_exp.config.measures import measure_info
from cosmos_exp.config.tiling import Tiling
from cosmos_exp.data.video import read_video
from cosmos_exp.files import JsonObject
from cosmos_exp.metrics.words.motion_map import motion_maps
from cosmos_exp.tracking.progress import with_progress
from cosmos_exp.trajectories.making import Scored

DRAWS = 2000  # random choices of as many videos as were kept
MAP_SIZE = 40, 24  # width and height to which motion maps are reduced before they are compared
MOST_COMPARED = 1500  # videos whose motion is compared in pairs: 1500 make a table of 18 MB

Statistic = Callable[[np.ndarray], float]  # of the indices of some videos


@dataclass(frozen=True)
class Effect:
    """One figure of the kept and of the made videos.

    Attributes:
        name: e.g. `mean instruction`, `scenes`.
        kind: score, first frames, or motion.
        low, high: 95 % of random choices of as many videos as were kept lie within; None: everything was kept.
    """

    name: str
    kind: str
    made: float
    kept: float
    low: float | None
    high: float | None

    @property
    def moved(self) -> int:
        """1 if kept is above what chance gives, -1 if below, 0 if within."""
        if self.low is None or self.high is None:
            return 0
        return int(self.kept > self.high) - int(self.kept < self.low)

    def to_json(self) -> JsonObject:
        """All figures."""
        return asdict(self) | {"moved": self.moved}


def selection_effects(
    made: Sequence[Scored], kept: Sequence[Scored], conditioning: int, tiling: Tiling, show: bool = True
) -> list[Effect]:
    """Compare the kept videos with all that were made.

    Args:
        conditioning: number of conditioning frames of each video.
        show: show progress while motion is measured.
    """
    chosen = {s.candidate.file for s in kept}
    is_kept = np.array([s.candidate.file in chosen for s in made])
    draws = _draws(len(made), int(is_kept.sum()))
    names = list(dict.fromkeys(name for s in made for name in s.scores))
    effects = []
    for name in names:
        values = np.array([np.nan if s.scores.get(name) is None else s.scores[name] for s in made], dtype=float)
        if not np.isnan(values[is_kept]).all():
            effects.append(_effect(f"mean {name}", "score", _nan_mean(values), is_kept, draws))
    for what, labels in (
        ("scenes", [s.candidate.start.scene for s in made]),
        ("prompts", [s.candidate.start.pair.name for s in made]),
    ):
        codes = np.unique(labels, return_inverse=True)[1]
        effects.append(_effect(f"number of {what}", "first frames", _distinct(codes), is_kept, draws))
        effects.append(_effect(f"effective number of {what}", "first frames", _effective(codes), is_kept, draws))
    maps = _maps(made, conditioning, tiling, show)
    effects.append(_effect("mean motion (grey levels)", "motion", _nan_mean(maps.mean(axis=1)), is_kept, draws))
    effects.append(_effect("mean distance of two videos' motion", "motion", _distance(maps), is_kept, draws))
    return [e for e in effects if np.isfinite(e.kept)]  # one video has no distance


def _draws(made: int, kept: int) -> np.ndarray:
    """Random choices of `kept` of `made` videos: indices (DRAWS, kept). Empty if everything was kept."""
    if kept == made:
        return np.zeros((0, kept), dtype=int)
    random = np.random.RandomState(0)
    return np.stack([random.permutation(made)[:kept] for _ in range(DRAWS)])


def _effect(name: str, kind: str, statistic: Statistic, is_kept: np.ndarray, draws: np.ndarray) -> Effect:
    low = high = None
    if len(draws):
        values = np.array([statistic(d) for d in draws])
        values = values[np.isfinite(values)]
        if len(values):
            low, high = (float(np.quantile(values, q)) for q in (0.025, 0.975))
    return Effect(name, kind, statistic(np.arange(len(is_kept))), statistic(np.flatnonzero(is_kept)), low, high)


def _nan_mean(values: np.ndarray) -> Statistic:
    def mean(chosen: np.ndarray) -> float:
        known = values[chosen]
        known = known[~np.isnan(known)]
        return float(known.mean()) if len(known) else float("nan")

    return mean


def _distinct(codes: np.ndarray) -> Statistic:
    return lambda chosen: float(len(np.unique(codes[chosen])))


def _effective(codes: np.ndarray) -> Statistic:
    """Exponential of the entropy of the shares: as many equally frequent ones would be as diverse (Hill 1973, order 1)."""

    def effective(chosen: np.ndarray) -> float:
        shares = np.bincount(codes[chosen]) / len(chosen)
        shares = shares[shares > 0]
        return float(np.exp(-(shares * np.log(shares)).sum()))

    return effective


def _distance(maps: np.ndarray) -> Statistic:
    """Mean over pairs of the mean absolute difference of their motion maps, grey levels.

    Args:
        maps: (videos, fields)
    """
    first = np.linspace(0, len(maps) - 1, min(len(maps), MOST_COMPARED)).round().astype(int)
    place = np.full(len(maps), -1)
    place[first] = np.arange(len(first))
    table = np.stack([np.abs(maps[first] - maps[i]).mean(axis=1) for i in first])

    def distance(chosen: np.ndarray) -> float:
        own = place[chosen]
        own = own[own >= 0]
        pairs = len(own) * (len(own) - 1)
        return float(table[np.ix_(own, own)].sum() / pairs) if pairs else float("nan")

    return distance


def _maps(made: Sequence[Scored], conditioning: int, tiling: Tiling, show: bool) -> np.ndarray:
    """The motion maps of all cameras of each video, reduced, float32 (videos, fields)."""
    found = []
    for scored in with_progress(made, "comparing motion", len(made), "video", show):
        frames = read_video(scored.video)
        maps = motion_maps(frames, conditioning, tiling) if len(frames) > conditioning else []
        reduced = [cv2.resize(m, MAP_SIZE, interpolation=cv2.INTER_AREA).ravel() for m in maps]
        found.append(np.concatenate(reduced) if reduced else np.zeros(MAP_SIZE[0] * MAP_SIZE[1], np.float32))
    return np.stack(found)


def in_words(effects: Sequence[Effect], made: int, kept: int, chosen_by: Sequence[str]) -> list[str]:
    """Sentences: what the selection changed beyond chance.

    Args:
        chosen_by: the measures that the selection used.
    """
    if kept == made:
        return [f"All {made} videos were kept, so that nothing was selected."]
    words = [
        f"{kept} of {made} videos were kept. The range is what 95 % of {DRAWS:,} random choices of {kept} of the {made} give; "
        "a figure outside of it was changed by the selection."
    ]
    for effect in effects:
        if effect.moved:
            words.append(_sentence(effect, chosen_by))
    same = [e.name for e in effects if not e.moved]
    if same:
        words.append(f"Within what chance gives: {', '.join(same)}.")
    words.append(
        f"Of these {len(effects)} figures about {len(effects) / 20:.0f} would lie outside of their range by chance alone. A filter "
        "keeps what its measures reward. What they do not see is as frequent among the kept videos as among all, or more "
        "frequent: look at the contact sheet before you train on the set."
    )
    return words


def _sentence(effect: Effect, chosen_by: Sequence[str]) -> str:
    direction = "higher" if effect.moved > 0 else "lower"
    text = f"{effect.name} is {direction}: {effect.kept:.3g} kept, {effect.made:.3g} made, {effect.low:.3g} to {effect.high:.3g} by chance"
    measure = effect.name.removeprefix("mean ")
    if effect.kind == "score":
        if measure in chosen_by:
            return f"{text}. The selection asked for it."
        better = measure_info(measure).better * effect.moved
        verdict = {1: " (better)", -1: " (worse)", 0: ""}[better]
        return f"{text}{verdict}. The selection did not ask for it; it came along."
    if effect.kind == "first frames":
        return (
            f"{text}. The kept set {'uses its prompts more evenly' if effect.moved > 0 else 'leans on fewer prompts'}."
        )
    less = {"mean motion (grey levels)": ("moves more", "moves less")}.get(
        effect.name, ("is more varied", "is less varied")
    )
    return f"{text}. What is kept {less[0] if effect.moved > 0 else less[1]}."
