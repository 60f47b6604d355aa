"""Which of the made videos are kept: `--keep` is a condition on the frame of scores, one row per video and one column per measure."""

from __future__ import annotations

import re
from collections.abc import Sequence

import pandas as pd

from cosmos_exp.config.measures import MEASURES
from cosmos_exp.config.schema import Config
from cosmos_exp.errors import UserError
from cosmos_exp.metrics.judges.rubric import load_rubrics
from cosmos_exp.text import one_line

EXAMPLE = "instruction>=4 and physics>=3 and tse<0.5"


def scored_measures(config: Config) -> list[str]:
    """The measures that each video gets under a configuration; some may be undefined for a video."""
    functions_off = {
        "sampson": not config.sampson.enabled,
        "side": not config.measures.words,
        "recording": not config.measures.recording,
        "motion": not config.measures.motion,
        "scene": True,  # of videos of several chunks only
    }
    measures = []
    for name, measure in MEASURES.items():
        if measure.function and not functions_off.get(measure.function):
            measures.append(name)
    if config.judge.name != "none":
        measures += [rubric.measure for rubric in load_rubrics(config.judge.rubrics)]
    return measures


def check_keep(condition: str, measures: Sequence[str]) -> None:
    """Check the condition of --keep.

    Raises:
        UserError: it names something that is no measure of the videos, or pandas cannot evaluate it to true or false.
    """
    problem = "it names no measure"
    if named_measures(condition, measures):
        try:
            holds = _evaluate(condition, pd.DataFrame([dict.fromkeys(measures, 1.0)]))
            if isinstance(holds, pd.Series) and holds.dtype == bool:
                return
            problem = "it is neither true nor false"
        except Exception as error:  # pandas raises errors of many types for an expression that it cannot read
            problem = one_line(error)[:160]
    raise UserError(
        f"--keep '{one_line(condition)}': {problem}. Write e.g. '{EXAMPLE}'. The measures are {', '.join(measures)}; "
        "--set measures.motion=true judge=rules and the like turn others on."
    )


def named_measures(condition: str, measures: Sequence[str]) -> list[str]:
    """The measures that a condition names."""
    return [name for name in measures if re.search(rf"(?<![\w.]){re.escape(name)}(?!\w)", condition)]


def reasons_to_drop(condition: str | None, scores: pd.DataFrame) -> pd.Series:
    """Why each video is dropped: a score that is missing, or the condition does not hold.

    Args:
        scores: one row per video, one column per measure; NaN: undefined.

    Returns:
        one reason per row; missing for a video that is kept.
    """
    reasons = pd.Series(None, index=scores.index, dtype=object)
    if condition is None:
        return reasons
    for name in named_measures(condition, list(scores.columns)):
        reasons[reasons.isna() & scores[name].isna()] = f"no score: {name}"
    reasons[reasons.isna() & ~_evaluate(condition, scores)] = f"not {condition.strip()}"
    return reasons


def _evaluate(condition: str, scores: pd.DataFrame) -> pd.Series:
    """Whether the condition holds for each row. A name is a column and nothing else."""
    return scores.eval(condition.strip(), engine="python", local_dict={}, global_dict={})
