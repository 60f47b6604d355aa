"""Which of the made videos are kept, and what that selection did to their scores and their diversity.

`--keep` is a condition on the frame of scores, one row per video and one column per measure, which `DataFrame.eval`
evaluates as `DataFrame.query` does. A video without a score that the condition names is dropped.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from pathlib import Path

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
from cosmos_exp.metrics.prompt_sensitivity import motion_maps
from cosmos_exp.metrics.score import CHUNK_FUNCTIONS
from cosmos_exp.text import one_line
from cosmos_exp.tracking.progress import with_progress

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
MAP_SIZE = 10, 6  # width and height to which motion maps are reduced before they are compared
DIVERSITY = (
    "mean motion (grey levels)",
    "spread of motion (grey levels)",  # standard deviation over the videos at a place, mean over the places
    "effective number of scenes",
    "effective number of prompts",
)


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

    def batches(self, candidates: pd.DataFrame) -> list[pd.DataFrame]:
        """The videos to make at a time: with a ranking those of a prompt, with a target one."""
        if self.best is not None:
            return [group for _, group in candidates.groupby("sample", sort=False)]
        size = BATCH
        if self.target:
            size = 1
        return [candidates[first : first + size] for first in range(0, len(candidates), size)]


def computed_measures(config: Config) -> list[str]:
    """The measures that are computed from each video under a configuration; some may be undefined for a video."""
    measures: list[str] = []
    for function in MEASURE_FUNCTIONS.names:
        is_on = function not in SWITCHES or attrgetter(SWITCHES[function])(config)
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
    if rule.target is not None and rule.target < 1:
        raise UserError(f"--target {rule.target}: must be at least 1. Leave it out to make all videos.")
    if (rule.best is None) != (rule.by is None):
        raise UserError("--best N and --by MEASURE go together: the N best videos of each prompt by a measure.")
    if rule.best is None or rule.by is None:
        return
    _check_measure("--by", rule.by, measures)
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
    names = names_of(text)
    for name in names:
        _check_measure("--keep", name, measures)
    problem = "it names no measure"
    if names:
        try:
            if _evaluate(text, pd.DataFrame([dict.fromkeys(measures, 1.0)])).dtype == bool:
                return
            problem = "it is neither true nor false"
        except Exception as error:  # pandas raises errors of many types for an expression that it cannot read
            problem = one_line(error)[:160]
    raise UserError(
        f"--keep '{one_line(text)}': {problem}. Write e.g. '{EXAMPLE}'. The measures are {', '.join(measures)}."
    )


def names_of(condition: str) -> list[str]:
    """The names in a condition, each once: words, and anything in backticks."""
    names: dict[str, None] = {}
    for quoted, word in re.findall(r"`([^`]+)`|(?<![\w.`])([A-Za-z_]\w*)", condition):
        if word not in ("and", "or", "not"):
            names[quoted or word] = None
    return list(names)


def _check_measure(option: str, name: str, measures: Sequence[str]) -> None:
    if name in measures:
        return
    switches = {"physics": "judge=NAME", "instruction": "judge=NAME"}
    function = measure_info(name).function
    if function in SWITCHES:
        switches[name] = f"{SWITCHES[function]}=true"
    if name in switches:
        raise UserError(f"{option}: {name}: is not measured in this run. Turn it on with --set {switches[name]}.")
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
    names, parts = names_of(keep), [keep]
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
    maps = _maps(list(videos["video"]), conditioning, tiling, show)
    numbers = np.column_stack([scores.to_numpy(float), maps.mean(axis=1)])
    scenes, prompts = pd.factorize(videos["scene"])[0], pd.factorize(videos["sample"])[0]

    def figures(chosen: np.ndarray) -> np.ndarray:
        means = pd.DataFrame(numbers[chosen]).mean()
        spread = maps[chosen].std(axis=0).mean()
        return np.array([*means, spread, _effective(scenes[chosen]), _effective(prompts[chosen])])

    is_kept = videos["reason"].isna().to_numpy()
    effects = pd.DataFrame(
        {
            "made": figures(np.arange(len(is_kept))),
            "kept": figures(np.flatnonzero(is_kept)),
            "low": np.nan,
            "high": np.nan,
        },
        index=[*("mean " + scores.columns), *DIVERSITY],
    )
    if not is_kept.all():
        random = np.random.RandomState(0)
        draws = [figures(random.permutation(len(is_kept))[: is_kept.sum()]) for _ in range(DRAWS)]
        ends = pd.DataFrame(draws).quantile([0.025, 0.975])
        effects["low"], effects["high"] = ends.to_numpy()
    effects["moved"] = (effects["kept"] > effects["high"]).astype(int) - (effects["kept"] < effects["low"]).astype(int)
    return effects[effects["kept"].notna()]


def _effective(codes: np.ndarray) -> float:
    """Exponential of the entropy of the shares: as many equally frequent ones would be as diverse (Hill 1973, order 1)."""
    shares = np.unique(codes, return_counts=True)[1] / len(codes)
    return float(np.exp(-(shares * np.log(shares)).sum()))


def _maps(videos: Sequence[Path], conditioning: int, tiling: Tiling, show: bool) -> np.ndarray:
    """The motion maps of all cameras of each video, reduced, float32 (videos, fields)."""
    rows = []
    for video in with_progress(videos, "comparing motion", len(videos), "video", show):
        frames = read_video(video)
        if len(frames) <= conditioning:
            frames = np.concatenate([frames, frames[-1:]])  # nothing moves
        reduced = []
        for motion in motion_maps(frames, conditioning, tiling):
            reduced.append(cv2.resize(motion, MAP_SIZE, interpolation=cv2.INTER_AREA))
        rows.append(np.ravel(reduced))
    return np.stack(rows)
