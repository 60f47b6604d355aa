"""Which of the made videos are kept, and what that selection did to their scores and their diversity.

`--keep` is a condition on the frame of scores, one row per video and one column per measure, which `DataFrame.eval`
evaluates as `DataFrame.query` does. A video without a score that the condition names is dropped.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
import pandas as pd

from cosmos_exp.config.measures import measure_info, measures_of
from cosmos_exp.config.registry import MEASURE_FUNCTIONS
from cosmos_exp.config.schema import Config
from cosmos_exp.config.tiling import Tiling
from cosmos_exp.data.video import read_video
from cosmos_exp.errors import UserError
from cosmos_exp.metrics.judges.rubric import load_rubrics
from cosmos_exp.metrics.score import CHUNK_FUNCTIONS
from cosmos_exp.metrics.words import motion_maps
from cosmos_exp.text import one_line
from cosmos_exp.tracking.progress import with_progress

if TYPE_CHECKING:
    from cosmos_exp.trajectories.plan import Candidate

EXAMPLE = "instruction>=4 and physics>=3 and tse<0.5"
BATCH = 16  # videos that are made before they are scored, where the number that is made is known beforehand
# The setting that turns a function of MEASURE_FUNCTIONS on, by its name. Others are always on.
SWITCHES = {
    "sampson": "sampson.enabled",
    "side": "measures.words",
    "recording": "measures.recording",
    "motion": "measures.motion",
}
DRAWS = 2000  # random choices of as many videos as were kept
MAP_SIZE = 40, 24  # width and height to which motion maps are reduced before they are compared
MOST_COMPARED = 1500  # videos whose motion is compared in pairs: 1500 make a table of 18 MB

Statistic = Callable[[np.ndarray], float]  # of the indices of some videos


@dataclass(frozen=True)
class Rule:
    """What is kept.

    Attributes:
        keep: the condition; None: all.
        best: of each prompt, keep so many; None: all.
        by: the measure that ranks them.
        target: stop as soon as so many are kept; None: make all.
    """

    keep: str | None = None
    best: int | None = None
    by: str | None = None
    target: int | None = None

    def batches(self, candidates: Sequence[Candidate]) -> list[list[Candidate]]:
        """The videos to make at a time: with a ranking those of a prompt, with a target one."""
        if self.best is not None:
            by_prompt: dict[str, list[Candidate]] = {}
            for candidate in candidates:
                by_prompt.setdefault(candidate.start.pair.name, []).append(candidate)
            return list(by_prompt.values())
        size = 1 if self.target else BATCH
        return [list(candidates[first : first + size]) for first in range(0, len(candidates), size)]

    @property
    def named(self) -> list[str]:
        """The measures that the rule names."""
        names = _names(self.keep or "")
        if self.by:
            names.append(self.by)
        return names


def computed_measures(config: Config) -> list[str]:
    """The measures that are computed from each video under a configuration; some may be undefined for a video."""
    measures: list[str] = []
    for function in MEASURE_FUNCTIONS.names:
        group, _, key = SWITCHES.get(function, "").partition(".")
        is_on = not group or getattr(getattr(config, group), key)
        if is_on and function not in CHUNK_FUNCTIONS:
            measures += measures_of(function)
    return measures


def judged_measures(config: Config) -> list[str]:
    """The measures that the judge gives."""
    if config.judge.name == "none":
        return []
    return [rubric.measure for rubric in load_rubrics(config.judge.rubrics)]


def check_rule(rule: Rule, config: Config, videos: int) -> None:
    """Check a rule before anything is made.

    Args:
        videos: of each prompt.

    Raises:
        UserError: the condition is none, the videos do not get a measure that it names, or --best, --by and --target do
            not fit.
    """
    measures = [*computed_measures(config), *judged_measures(config)]
    if rule.keep is not None:
        check_keep(rule.keep, measures)
    if rule.by is not None:
        _check_measure("--by", rule.by, measures)
    if rule.target is not None and rule.target < 1:
        raise UserError(f"--target {rule.target}: must be at least 1. Leave it out to make all videos.")
    if rule.best is None and rule.by is None:
        return
    if rule.best is None or rule.by is None:
        raise UserError("--best N and --by MEASURE go together: the N best videos of each prompt by a measure.")
    if not 1 <= rule.best < videos:
        raise UserError(
            f"--best {rule.best}: must be at least 1 and below the number of videos of each prompt, {videos}. Give more "
            "--seeds, e.g. --seeds 0..9."
        )
    if not measure_info(rule.by).better:
        raise UserError(f"--by {rule.by}: neither high nor low is better. Choose another measure, or use it in --keep.")


def check_keep(text: str, measures: Sequence[str]) -> None:
    """Check the condition of --keep.

    Raises:
        UserError: it names no measure or something else, or pandas cannot evaluate it to true or false.
    """
    names = _names(text)
    for name in names:
        _check_measure("--keep", name, measures)
    problem = "it names no measure"
    if names:
        try:
            result = _evaluate(text, pd.DataFrame([dict.fromkeys(measures, 1.0)]))
            problem = "it is neither true nor false"
            if result.dtype == bool:
                return
        except Exception as error:  # pandas raises errors of many types for an expression that it cannot read
            problem = one_line(error)[:160]
    raise UserError(
        f"--keep '{one_line(text)}': {problem}. Write e.g. '{EXAMPLE}'. The measures are {', '.join(measures)}."
    )


def _names(text: str) -> list[str]:
    """The names in a condition, each once: words, and anything in backticks."""
    names: dict[str, None] = {}
    for quoted, word in re.findall(r"`([^`]+)`|(?<![\w.`])([A-Za-z_]\w*)", text):
        if word not in ("and", "or", "not"):
            names[quoted or word] = None
    return list(names)


def _check_measure(option: str, name: str, measures: Sequence[str]) -> None:
    if name in measures:
        return
    function, switch = measure_info(name).function, None
    if function in SWITCHES:
        switch = f"{SWITCHES[function]}=true"
    if name in ("physics", "instruction"):
        switch = "judge=NAME"
    if switch:
        raise UserError(f"{option}: {name}: is not measured in this run. Turn it on with --set {switch}.")
    hint = ""
    if near := difflib.get_close_matches(name.lower(), measures, n=2):
        hint = f" Did you mean {' or '.join(near)}?"
    raise UserError(f"{option}: {one_line(name)}: no measure of these videos.{hint} There are {', '.join(measures)}.")


def _evaluate(text: str, scores: pd.DataFrame) -> pd.Series:
    """Whether the condition holds for each row. A name is a column and nothing else."""
    return scores.eval(text.strip(), engine="python", local_dict={}, global_dict={})


def refusals(keep: str, scores: pd.DataFrame) -> pd.Series:
    """Why each video is dropped: the first score that is missing, or the first part of the condition that does not hold.

    Parts are the operands of `and`, if the condition has neither `or` nor parentheses.

    Args:
        scores: one row per video, one column per measure.

    Returns:
        one reason per row; missing for a video that is kept.
    """
    names, parts = _names(keep), [keep]
    scores = scores.reindex(columns=names)
    if not re.search(r"[()]|\bor\b", keep):
        parts = re.split(r"\band\b", keep)
    reasons = pd.Series(None, index=scores.index, dtype=object)
    for name in names:
        reasons[reasons.isna() & scores[name].isna()] = f"no score: {name}"
    for part in parts:
        reasons[reasons.isna() & ~_evaluate(part, scores)] = f"not {part.strip()}"
    return reasons


@dataclass
class Selection:
    """What was made and kept so far.

    kept: number of kept videos.
    """

    rule: Rule
    kept: int = 0
    _videos: list[pd.DataFrame] = field(default_factory=list)
    _scores: list[pd.DataFrame] = field(default_factory=list)

    def add(self, videos: pd.DataFrame, scores: pd.DataFrame) -> None:
        """Decide on a batch of `Rule.batches`.

        Args:
            videos: one row per video.
            scores: their scores, one column per measure; NaN: undefined.
        """
        reasons = pd.Series(None, index=scores.index, dtype=object)
        if self.rule.keep is not None:
            reasons = refusals(self.rule.keep, scores)
        if self.rule.best is not None:
            self._rank(scores, reasons)
        self._videos.append(videos.assign(reason=reasons))
        self._scores.append(scores)
        self.kept += int(reasons.isna().sum())

    def _rank(self, scores: pd.DataFrame, reasons: pd.Series) -> None:
        """Give a reason to all but the best of the videos that have none. Ties: the first made is better."""
        best, by, target = self.rule.best, self.rule.by, self.rule.target
        assert best is not None
        assert by is not None
        values = scores.reindex(columns=[by])[by] * -measure_info(by).better
        reasons[reasons.isna() & values.isna()] = f"no score: {by}"
        order = values[reasons.isna()].sort_values(kind="stable").index
        reasons[order[best:]] = f"not among the best {best} of its prompt by {by}"
        if target is not None and target - self.kept < best:
            reasons[order[target - self.kept : best]] = "not needed: the target was reached"

    @property
    def is_complete(self) -> bool:
        """Whether the target is reached."""
        return self.rule.target is not None and self.kept >= self.rule.target

    @property
    def videos(self) -> pd.DataFrame:
        """All made videos in order: the columns that were added, and `reason`: why it is dropped; missing: it is kept."""
        return pd.concat(self._videos, ignore_index=True)

    @property
    def scores(self) -> pd.DataFrame:
        """The scores of all made videos, one column per measure; NaN: undefined."""
        return pd.concat(self._scores, ignore_index=True)

    def dropped(self) -> dict[str, int]:
        """How many were dropped for each reason, the most frequent first."""
        return self.videos["reason"].value_counts().to_dict()


# --- what the selection did ---


def selection_effects(
    videos: pd.DataFrame, scores: pd.DataFrame, conditioning: int, tiling: Tiling, show: bool = True
) -> pd.DataFrame:
    """Compare the kept videos with all that were made.

    Args:
        videos, scores: as in `Selection`; of the videos the columns scene, sample, video (its file) and reason are read.
        conditioning: number of conditioning frames of each video.
        show: show progress while motion is measured.

    Returns:
        one row per figure, with the columns `made`, `kept`, `low` and `high` (95 % of random choices of as many videos
        lie within; NaN if everything was kept) and `moved`: 1 if kept is above that range, -1 if below, else 0.
    """
    statistics: dict[str, Statistic] = {}
    for measure, column in scores.items():
        statistics[f"mean {measure}"] = _mean(column.to_numpy())
    for what, column in (("scenes", videos["scene"]), ("prompts", videos["sample"])):
        codes = pd.factorize(column)[0]
        statistics[f"number of {what}"] = _distinct(codes)
        statistics[f"effective number of {what}"] = _effective(codes)
    maps = _maps(list(videos["video"]), conditioning, tiling, show)
    statistics["mean motion (grey levels)"] = _mean(maps.mean(axis=1))
    statistics["mean distance of two videos' motion"] = _distance(maps)
    is_kept = videos["reason"].isna().to_numpy()
    draws = _draws(len(is_kept), int(is_kept.sum()))
    rows = {}
    for name, statistic in statistics.items():
        rows[name] = _effect(statistic, is_kept, draws)
    effects = pd.DataFrame.from_dict(rows, orient="index", columns=["made", "kept", "low", "high"])
    effects["moved"] = (effects["kept"] > effects["high"]).astype(int) - (effects["kept"] < effects["low"]).astype(int)
    return effects[effects["kept"].notna()]  # one video has no distance


def _draws(made: int, kept: int) -> list[np.ndarray]:
    """Random choices of `kept` of `made` videos, by their indices. None if everything was kept."""
    if kept == made:
        return []
    random = np.random.RandomState(0)
    return [random.permutation(made)[:kept] for _ in range(DRAWS)]


def _effect(statistic: Statistic, is_kept: np.ndarray, draws: list[np.ndarray]) -> list[float]:
    """A figure of all videos, of the kept ones, and the range of random choices."""
    low = high = np.nan
    chance = np.array([statistic(chosen) for chosen in draws])
    if np.isfinite(chance).any():
        low, high = np.nanquantile(chance, (0.025, 0.975))
    return [statistic(np.arange(len(is_kept))), statistic(np.flatnonzero(is_kept)), low, high]


def _mean(values: np.ndarray) -> Statistic:
    """The mean of the values that are defined; NaN without any."""

    def mean(chosen: np.ndarray) -> float:
        return float(pd.Series(values[chosen]).mean())

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
    compared = np.linspace(0, len(maps) - 1, min(len(maps), MOST_COMPARED)).round().astype(int)
    place = np.full(len(maps), -1)
    place[compared] = np.arange(len(compared))
    table = np.stack([np.abs(maps[compared] - maps[index]).mean(axis=1) for index in compared])

    def distance(chosen: np.ndarray) -> float:
        inside = place[chosen]
        inside = inside[inside >= 0]
        if len(inside) < 2:
            return np.nan
        return float(table[np.ix_(inside, inside)].sum() / (len(inside) * (len(inside) - 1)))

    return distance


def _maps(videos: Sequence[Path], conditioning: int, tiling: Tiling, show: bool) -> np.ndarray:
    """The motion maps of all cameras of each video, reduced, float32 (videos, fields)."""
    rows = []
    for video in with_progress(videos, "comparing motion", len(videos), "video", show):
        frames = read_video(video)
        if len(frames) <= conditioning:
            frames = np.concatenate([frames, frames[-1:]])  # nothing moves
        reduced = []
        for motion in motion_maps(frames, conditioning, tiling):
            reduced.append(cv2.resize(motion, MAP_SIZE, interpolation=cv2.INTER_AREA).ravel())
        rows.append(np.concatenate(reduced))
    return np.stack(rows)
