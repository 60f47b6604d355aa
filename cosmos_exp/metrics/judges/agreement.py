"""Agreement of a judge with people: exact and within-one agreement, correlations, weighted kappa, confusion table."""

from __future__ import annotations

import csv
import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from cosmos_exp.config.schema import Config
from cosmos_exp.errors import UserError
from cosmos_exp.metrics.judges.asking import judge_all
from cosmos_exp.metrics.judges.interface import Judge, Question
from cosmos_exp.metrics.judges.rubric import load_rubric

RESAMPLES = 2000
SCORES = (1, 2, 3, 4, 5)
LABELS = {
    "exact": "exact agreement",
    "within_one": "within one",
    "spearman": "Spearman",
    "pearson": "Pearson",
    "kappa": "kappa, quadratic weights",
    "bias": "judge minus person",
}

Figure = Callable[[np.ndarray, np.ndarray], float]  # of the persons' scores and the judge's, (N,) each


@dataclass(frozen=True)
class Pair:
    """A person's score of a video and the judge's; the judge's is None before it is asked, or if it gave no score."""

    video: Path
    person: float
    judge: float | None
    prompt: str | None
    measure: str


@dataclass(frozen=True)
class Interval:
    """A figure with its 95 % percentile bootstrap interval over videos."""

    value: float
    ci_low: float
    ci_high: float


@dataclass(frozen=True)
class Agreement:
    """How well a judge agrees with people.

    n: rows with both scores. missing: rows without a judge's score, left out.
    figures: by the keys of LABELS; None if constant scores leave the figure undefined.
    confusion: counts; a row per score of the person, a column per score of the judge.
    """

    n: int
    videos: int
    missing: int
    figures: dict[str, Interval | None]
    confusion: list[list[int]]

    def to_json(self) -> dict[str, object]:
        """As plain JSON, the figures at the top level."""
        counts = {"n": self.n, "videos": self.videos, "missing": self.missing}
        figures = {name: None if f is None else asdict(f) for name, f in self.figures.items()}
        return {**counts, **figures, "confusion": self.confusion}


def read_pairs(path: Path) -> list[Pair]:
    """The rows of a CSV or JSON-lines file: video, score; optional prompt, measure (default: instruction), judge.

    Raises:
        UserError: the file is not readable or empty, or a row has no video or score.
    """
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".csv":
            rows: Sequence[Mapping[str, str]] = list(csv.DictReader(text.splitlines()))
        else:
            rows = [json.loads(line) for line in text.splitlines() if line.strip()]
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read as CSV or JSON lines ({error})") from error
    if not rows:
        raise UserError(f"{path}: has no rows. It needs the columns video and score.")
    return [_pair(path, number, row) for number, row in enumerate(rows, 1)]


def _pair(path: Path, number: int, row: Mapping[str, str]) -> Pair:
    try:
        video, person, judged = Path(row["video"]).expanduser(), float(row["score"]), row.get("judge")
        judge = None if judged in (None, "") else float(judged)
    except (KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path}, row {number}: expected a video and a score from 1 to 5 ({type(error).__name__}: {error})"
        ) from error
    if not all(1 <= s <= 5 for s in (person, judge) if s is not None):
        raise UserError(f"{path}, row {number}: scores must lie from 1 to 5")
    video = video if video.is_absolute() else path.parent / video
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


def kappa(person: np.ndarray, judge: np.ndarray) -> float:
    """Cohen's kappa with quadratic weights (Cohen 1968) of the rounded scores; NaN if all scores are equal."""
    from statsmodels.stats.inter_rater import cohens_kappa

    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        return float(cohens_kappa(confusion(person, judge), wt="quadratic", return_results=False))


def confusion(person: np.ndarray, judge: np.ndarray) -> np.ndarray:
    """Counts of the rounded scores, int (5, 5): row the person's score, column the judge's."""
    table = np.zeros((5, 5), dtype=int)
    np.add.at(table, (np.rint(person).astype(int) - 1, np.rint(judge).astype(int) - 1), 1)
    return table


def _correlation(kind: str) -> Figure:
    from scipy import stats

    call = {"spearman": stats.spearmanr, "pearson": stats.pearsonr}[kind]

    def value(a: np.ndarray, b: np.ndarray) -> float:
        constant = np.ptp(a) == 0 or np.ptp(b) == 0
        return float("nan") if constant else float(call(a, b).statistic)

    return value


def agreement(rows: list[Pair], seed: int, resamples: int = RESAMPLES) -> Agreement:
    """Every figure with its interval. The bootstrap draws videos with replacement; the rows of a video stay together.

    Args:
        seed: of the bootstrap.

    Raises:
        UserError: fewer than two rows have both scores.
    """
    scored = [r for r in rows if r.judge is not None]
    if len(scored) < 2:
        raise UserError(
            f"{len(scored)} rows have both scores; agreement needs at least two. Add rows with a score of a person."
        )
    person = np.array([r.person for r in scored])
    judge = np.array([r.judge for r in scored], dtype=float)
    figures: dict[str, Figure] = {
        "exact": lambda a, b: float((np.rint(a) == np.rint(b)).mean()),
        "within_one": lambda a, b: float((np.abs(np.rint(a) - np.rint(b)) <= 1).mean()),
        "spearman": _correlation("spearman"),
        "pearson": _correlation("pearson"),
        "kappa": kappa,
        "bias": lambda a, b: float((b - a).mean()),
    }
    videos = sorted({str(r.video) for r in scored})
    members = [np.array([i for i, r in enumerate(scored) if str(r.video) == v]) for v in videos]
    rng = np.random.default_rng(seed)
    samples = [
        np.concatenate([members[k] for k in rng.integers(0, len(members), len(members))]) for _ in range(resamples)
    ]
    intervals = {name: _interval(figure, person, judge, samples) for name, figure in figures.items()}
    table = confusion(person, judge).tolist()
    return Agreement(len(scored), len(videos), len(rows) - len(scored), intervals, table)


def _interval(figure: Figure, person: np.ndarray, judge: np.ndarray, samples: list[np.ndarray]) -> Interval | None:
    point = figure(person, judge)
    if np.isnan(point):
        return None
    values = np.array([figure(person[s], judge[s]) for s in samples])
    values = values[~np.isnan(values)]
    low, high = np.percentile(values, [2.5, 97.5]) if len(values) else (np.nan, np.nan)
    return Interval(point, float(low), float(high))


def format_agreement(result: Agreement) -> str:
    """The result as text: counts, figures, and the confusion table."""
    missing = f", {result.missing} without a judge's score (left out)" if result.missing else ""
    lines = [f"{result.n} scores of {result.videos} videos{missing}"]
    for name, label in LABELS.items():
        figure = result.figures[name]
        text = (
            "- (undefined: constant scores)"
            if figure is None
            else f"{figure.value:6.2f}  [{figure.ci_low:.2f}, {figure.ci_high:.2f}]"
        )
        lines.append(f"  {label:26} {text}")
    lines += ["", "person  judge:  " + "".join(f"{s:6d}" for s in SCORES)]
    lines += [
        f"{s:6d}          " + "".join(f"{n:6d}" for n in row) for s, row in zip(SCORES, result.confusion, strict=True)
    ]
    return "\n".join(lines)
