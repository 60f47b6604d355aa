"""How good is a judge? Its scores against people's (or rules'): agreement, correlation, weighted kappa, confusion."""

from __future__ import annotations

import csv
import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from cosmos_exp.errors import UserError
from cosmos_exp.metrics.judges.asking import judge_all
from cosmos_exp.metrics.judges.interface import Judge, Question
from cosmos_exp.metrics.judges.rubric import load_rubric

DRAWS = 2000

SCORES = (1, 2, 3, 4, 5)


@dataclass(frozen=True)
class Pair:
    """A video's score by a person and by the judge (None: to be asked, or its answer held none)."""

    video: Path
    person: float
    judge: float | None
    prompt: str | None
    measure: str


def read_pairs(path: Path) -> list[Pair]:
    """Rows of a CSV or JSON lines file: video, score; optional prompt, measure (default: instruction), judge.

    Raises:
        UserError: not readable, or a row without video and score; names the row.
    """
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".csv":
            rows: list[dict[str, Any]] = list(csv.DictReader(text.splitlines()))
        else:
            rows = [json.loads(line) for line in text.splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as CSV or JSON lines ({error})") from error
    if not rows:
        raise UserError(f"{path}: holds no row")
    return [_pair(path, number, row) for number, row in enumerate(rows, 1)]


def _pair(path: Path, number: int, row: dict[str, Any]) -> Pair:
    try:
        video = Path(row["video"]).expanduser()
        person, judge = float(row["score"]), row.get("judge")
        judge = None if judge in (None, "") else float(judge)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path}, row {number}: needs video and score, a number from 1 to 5 ({type(error).__name__} {error})"
        ) from error
    if not all(1 <= s <= 5 for s in (person, judge) if s is not None):
        raise UserError(f"{path}, row {number}: scores lie from 1 to 5")
    video = video if video.is_absolute() else path.parent / video
    return Pair(video, person, judge, row.get("prompt") or None, row.get("measure") or "instruction")


def with_scores(rows: list[Pair], judge: Judge, config: Any, cache: Path | None) -> list[Pair]:
    """The rows with the judge's scores where they have none.

    Raises:
        UserError: a video that is not there, or a rubric that needs a prompt which its row does not give.
    """
    questions: dict[Question, list[int]] = {}
    for i, row in enumerate(rows):
        if row.judge is not None:
            continue
        rubric = load_rubric(row.measure)
        if not row.video.is_file():
            raise UserError(f"there is no such file: {row.video}")
        if rubric.needs_instruction and not row.prompt:
            raise UserError(f"{row.video}: the rubric {row.measure} needs a prompt; give its row one")
        questions.setdefault(Question(row.video, rubric, row.prompt), []).append(i)
    out = list(rows)
    for question, verdict in judge_all(judge, list(questions), config.judge, config.seed, cache):
        for i in questions[question]:
            out[i] = replace(out[i], judge=verdict.score)
    return out


def kappa(person: np.ndarray, judge: np.ndarray) -> float:
    """Cohen's kappa with quadratic weights (Cohen 1968) of scores rounded to whole numbers; NaN for constant scores."""
    from statsmodels.stats.inter_rater import cohens_kappa

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return float(cohens_kappa(confusion(person, judge), wt="quadratic", return_results=False))


def confusion(person: np.ndarray, judge: np.ndarray) -> np.ndarray:
    """Counts, int (5, 5): row the person's score, column the judge's, both rounded."""
    table = np.zeros((5, 5), dtype=int)
    np.add.at(table, (np.rint(person).astype(int) - 1, np.rint(judge).astype(int) - 1), 1)
    return table


def _correlation(kind: str) -> Callable[[np.ndarray, np.ndarray], float]:
    from scipy import stats

    call = {"spearman": stats.spearmanr, "pearson": stats.pearsonr}[kind]

    def value(a: np.ndarray, b: np.ndarray) -> float:
        constant = np.ptp(a) == 0 or np.ptp(b) == 0
        return float("nan") if constant else float(call(a, b).statistic)

    return value


def agreement(rows: list[Pair], seed: int, draws: int = DRAWS) -> dict[str, Any]:
    """Every figure with its 95 % percentile bootstrap interval over videos; rows without a judge's score are counted.

    A video's rows stay together in each draw. Figures that a set of constant scores leaves undefined are None.
    """
    there = [r for r in rows if r.judge is not None]
    if len(there) < 2:
        raise UserError(f"{len(there)} rows have both scores; agreement needs at least two")
    person = np.array([r.person for r in there])
    judge = np.array([r.judge for r in there], dtype=float)
    figures: dict[str, Callable[[np.ndarray, np.ndarray], float]] = {
        "exact": lambda a, b: float((np.rint(a) == np.rint(b)).mean()),
        "within_one": lambda a, b: float((np.abs(np.rint(a) - np.rint(b)) <= 1).mean()),
        "spearman": _correlation("spearman"),
        "pearson": _correlation("pearson"),
        "kappa": kappa,
        "bias": lambda a, b: float((b - a).mean()),
    }
    videos = sorted({str(r.video) for r in there})
    members = [np.array([i for i, r in enumerate(there) if str(r.video) == v]) for v in videos]
    rng = np.random.default_rng(seed)
    samples = [np.concatenate([members[k] for k in rng.integers(0, len(members), len(members))]) for _ in range(draws)]
    out: dict[str, Any] = {"n": len(there), "videos": len(videos), "missing": len(rows) - len(there)}
    for name, figure in figures.items():
        values = np.array([figure(person[s], judge[s]) for s in samples])
        values = values[~np.isnan(values)]
        point = figure(person, judge)
        low, high = np.percentile(values, [2.5, 97.5]) if len(values) else (np.nan, np.nan)
        out[name] = None if np.isnan(point) else {"value": point, "ci_low": float(low), "ci_high": float(high)}
    out["confusion"] = confusion(person, judge).tolist()
    return out


WORDS = {
    "exact": "exact agreement",
    "within_one": "within one",
    "spearman": "Spearman",
    "pearson": "Pearson",
    "kappa": "kappa, quadratic weights",
    "bias": "judge minus person",
}


def show(result: dict[str, Any]) -> str:
    """As text."""
    lines = [
        f"{result['n']} scores of {result['videos']} videos"
        + (f", {result['missing']} without a judge's score (left out)" if result["missing"] else "")
    ]
    for name, words in WORDS.items():
        value = result[name]
        figures = (
            "- (constant scores)"
            if value is None
            else f"{value['value']:6.2f}  [{value['ci_low']:.2f}, {value['ci_high']:.2f}]"
        )
        lines.append(f"  {words:26} {figures}")
    lines += ["", "person  judge:  " + "".join(f"{s:6d}" for s in SCORES)]
    lines += [
        f"{s:6d}          " + "".join(f"{n:6d}" for n in row)
        for s, row in zip(SCORES, result["confusion"], strict=True)
    ]
    return "\n".join(lines)
