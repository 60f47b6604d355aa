"""Agreement of a judge with people: exact and within-one agreement, correlations, weighted kappa, confusion table."""

from __future__ import annotations

import csv
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cosmos_exp.config.schema import Config
from cosmos_exp.errors import UserError
from cosmos_exp.metrics.judges.asking import judge_all
from cosmos_exp.metrics.judges.interface import Judge, Question
from cosmos_exp.metrics.judges.rubric import load_rubric

RESAMPLES = 2000
LABELS = {
    "exact": "exact agreement",
    "within_one": "within one",
    "spearman": "Spearman",
    "pearson": "Pearson",
    "kappa": "kappa, quadratic weights",
    "bias": "judge minus person",
}


@dataclass(frozen=True)
class Pair:
    """A person's score of a video and the judge's; the judge's is None before it is asked, or if it gave no score."""

    video: Path
    person: float
    judge: float | None
    prompt: str | None
    measure: str


def read_pairs(path: Path) -> list[Pair]:
    """The rows of a CSV or JSON-lines file: video, score; optional prompt, measure (default: instruction), judge.

    Raises:
        UserError: the file is not readable or empty, or a row has no video or score.
    """
    rows: Sequence[Mapping[str, str]]
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        if path.suffix == ".csv":
            rows = list(csv.DictReader(lines))
        else:
            rows = list(map(json.loads, filter(str.strip, lines)))
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as CSV or JSON lines ({error})") from error
    if not rows:
        raise UserError(f"{path}: has no rows. It needs the columns video and score.")
    pairs = []
    for number, row in enumerate(rows, 1):
        try:
            pairs.append(_pair(path.parent, row))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise UserError(
                f"{path}, row {number}: expected a video and a score from 1 to 5 ({type(error).__name__}: {error})"
            ) from error
    return pairs


def _pair(folder: Path, row: Mapping[str, str]) -> Pair:
    person, judge = float(row["score"]), None
    if row.get("judge") not in (None, ""):
        judge = float(row["judge"])
    for score in (person, judge):
        if score is not None and not 1 <= score <= 5:
            raise ValueError(f"{score:g} is not from 1 to 5")
    video = folder / Path(row["video"]).expanduser()
    return Pair(video, person, judge, row.get("prompt") or None, row.get("measure") or "instruction")


def with_scores(rows: list[Pair], judge: Judge, config: Config, cache: Path | None) -> list[Pair]:
    """The rows, with the judge's scores where they have none.

    Raises:
        UserError: a video does not exist, or a row has no prompt and its rubric needs one.
    """
    questions: dict[Question, list[int]] = {}
    for i, row in enumerate(rows):
        if row.judge is not None:
            continue
        rubric = load_rubric(row.measure)
        if not row.video.is_file():
            raise UserError(f"{row.video}: no such file. Correct the column video.")
        if rubric.needs_instruction and not row.prompt:
            raise UserError(f"{row.video}: the rubric {row.measure} needs a prompt; add the column prompt")
        questions.setdefault(Question(row.video, rubric, row.prompt), []).append(i)
    out = list(rows)
    for question, verdict in judge_all(judge, list(questions), config.judge, config.seed, cache):
        for i in questions[question]:
            out[i] = replace(out[i], judge=verdict.score)
    return out


def confusion(person: np.ndarray, judge: np.ndarray) -> np.ndarray:
    """Counts of the rounded scores, int (5, 5): row the person's score, column the judge's."""
    table = np.zeros((5, 5), dtype=int)
    np.add.at(table, (np.rint(person).astype(int) - 1, np.rint(judge).astype(int) - 1), 1)
    return table


def figures_of(person: np.ndarray, judge: np.ndarray) -> dict[str, float]:
    """The figures of LABELS; NaN where constant scores leave one undefined.

    Cohen's kappa (1968) has quadratic weights and is of the rounded scores.
    """
    from scipy import stats
    from statsmodels.stats.inter_rater import cohens_kappa

    apart = np.abs(np.rint(person) - np.rint(judge))
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return {
            "exact": float((apart == 0).mean()),
            "within_one": float((apart <= 1).mean()),
            "spearman": float(stats.spearmanr(person, judge).statistic),
            "pearson": float(stats.pearsonr(person, judge).statistic),
            "kappa": float(cohens_kappa(confusion(person, judge), wt="quadratic", return_results=False)),
            "bias": float((judge - person).mean()),
        }


def agreement(rows: list[Pair], seed: int) -> dict[str, Any]:
    """How well a judge agrees with people. The bootstrap draws videos with replacement; the rows of a video stay together.

    Args:
        seed: of the bootstrap.

    Returns:
        plain JSON. n: rows with both scores. missing: rows without a judge's score, left out. confusion: as `confusion`. And by
        the keys of LABELS: the value and its 95 % percentile bootstrap interval over videos, as value, ci_low and ci_high; None
        if constant scores leave the figure undefined.

    Raises:
        UserError: fewer than two rows have both scores.
    """
    import pandas as pd

    table = pd.DataFrame(rows).dropna(subset="judge")
    if len(table) < 2:
        raise UserError(
            f"{len(table)} rows have both scores; agreement needs at least two. Add rows with a score of a person."
        )
    person, judge = table["person"].to_numpy(float), table["judge"].to_numpy(float)
    videos = list(table.groupby(table["video"].astype(str)).indices.values())
    rng, draws = np.random.default_rng(seed), []
    for _ in range(RESAMPLES):
        chosen = np.concatenate([videos[k] for k in rng.integers(0, len(videos), len(videos))])
        draws.append(figures_of(person[chosen], judge[chosen]))
    limits = pd.DataFrame(draws).quantile([0.025, 0.975])
    counts = confusion(person, judge).tolist()
    result: dict[str, Any] = {
        "n": len(table),
        "videos": len(videos),
        "missing": len(rows) - len(table),
        "confusion": counts,
    }
    for name, value in figures_of(person, judge).items():
        low, high = limits[name]
        result[name] = None
        if not np.isnan(value):
            result[name] = {"value": value, "ci_low": float(low), "ci_high": float(high)}
    return result


def format_agreement(result: Mapping[str, Any]) -> str:
    """The result as text: counts, figures, and the confusion table."""
    lines = [f"{result['n']} scores of {result['videos']} videos"]
    if result["missing"]:
        lines[0] += f", {result['missing']} without a judge's score (left out)"
    for name, label in LABELS.items():
        figure = result[name]
        text = "- (undefined: constant scores)"
        if figure:
            text = f"{figure['value']:6.2f}  [{figure['ci_low']:.2f}, {figure['ci_high']:.2f}]"
        lines.append(f"  {label:26} {text}")
    row = "{:6d}" * 5
    lines += ["", "person  judge:  " + row.format(1, 2, 3, 4, 5)]
    for score, counts in enumerate(result["confusion"], 1):
        lines.append(f"{score:6d}          " + row.format(*counts))
    return "\n".join(lines)
