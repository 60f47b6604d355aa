"""The choice of each arm's values from its tuning runs, and the record of a planned sweep: sweep.json in its folder."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from cosmos_exp.config.measures import LIMITS, measure_info
from cosmos_exp.config.schema import Tune
from cosmos_exp.files import JsonObject, write_json
from cosmos_exp.run_folder import SWEEP_FILE, RunFolder
from cosmos_exp.statistics.intervals import scene_scores, summarize
from cosmos_exp.statistics.scores import ScoreRow, read_scores
from cosmos_exp.statistics.selection import choose_point
from cosmos_exp.sweep.expanding import SweepRun
from cosmos_exp.sweep.plan import VALIDATION, SweepPlan, TuningRun, Values


@dataclass(frozen=True)
class Point:
    """One set of values of an arm in the tuning.

    score: mean over the tuning runs and the selection scenes (or validation clips); None if a run has none.
    low, high: its 95 % interval; None for the validation loss and for one scene.
    n: scenes, or training runs of the validation loss.
    missing: videos without a score; they are left out of the mean.
    scenes: mean score of each scene; empty for the validation loss.
    runs: their folders, relative to the sweep's.
    """

    values: JsonObject
    score: float | None
    low: float | None
    high: float | None
    n: int
    missing: int
    scenes: dict[str, float]
    runs: list[str]


@dataclass(frozen=True)
class Choice:
    """The tuning of an arm: all points, and the chosen one.

    chosen: None while a run is missing, or if no point has a score.
    edges: the keys whose chosen value is the smallest or largest that was tried.
    """

    arm: str
    points: list[Point]
    chosen: JsonObject | None
    edges: list[str]


def choose(plan: SweepPlan) -> dict[str, Choice]:
    """The choice of each tuned arm. An arm is decided when all its tuning runs are done."""
    found = {}
    for arm in dict.fromkeys(t.arm for t in plan.tuning):
        own = [t for t in plan.tuning if t.arm == arm]
        groups: dict[str, list[TuningRun]] = {}
        for one in own:
            groups.setdefault(repr(one.values), []).append(one)
        points = [_point(group, plan) for group in groups.values()]
        chosen = _best(points, plan.sweep.tune) if all(t.run.state() == "done" for t in own) else None
        edges = [k for k in plan.sweep.tune.grid if chosen and _at_edge(chosen[k], plan.sweep.tune.grid[k])]
        found[arm] = Choice(arm, points, chosen, edges)
    return found


def _point(group: list[TuningRun], plan: SweepPlan) -> Point:
    folders = [t.run.folder for t in group]
    names = [str(f.path.relative_to(plan.folder)) for f in folders]
    done = [f for t, f in zip(group, folders, strict=True) if t.run.state() == "done"]
    by = plan.sweep.tune.by
    scored = _validation(done) if by == VALIDATION else _measured(done, by)
    return Point(dict(group[0].values), *scored, names)


# mean, interval, n, missing, scenes
Scored = tuple[float | None, float | None, float | None, int, int, dict[str, float]]


def _validation(folders: list[RunFolder]) -> Scored:
    losses = [f.read(f.metrics).get("training", {}).get("validation_loss") for f in folders]
    known = [float(x) for x in losses if x is not None and math.isfinite(x)]
    return (sum(known) / len(known) if known and len(known) == len(folders) else None), None, None, len(known), 0, {}


def _measured(folders: list[RunFolder], measure: str) -> Scored:
    scenes: dict[str, str] = {}
    rows: list[ScoreRow] = []
    for index, folder in enumerate(folders):
        scenes |= folder.manifest.get("data", {}).get("scenes") or {}
        rows += [{**r, "run_seed": index} for r in read_scores(folder.scores) if r["measure"] == measure]
    summary = summarize(rows, scenes, LIMITS).get(measure)
    if summary is None:
        return None, None, None, 0, 0, {}
    return (
        summary["mean"],
        summary["ci_low"],
        summary["ci_high"],
        summary["n"],
        summary["missing"],
        scene_scores(rows, scenes),
    )


def _best(points: list[Point], tune: Tune) -> JsonObject | None:
    """The values of the chosen point."""
    better = -1 if tune.by == VALIDATION else measure_info(tune.by).better
    whole = [{} if p.score is None else p.scenes or {"": p.score} for p in points]
    index = choose_point(whole, better, tune.rule)
    return None if index is None else points[index].values


def _at_edge(value: object, tried: Sequence[object]) -> bool:
    numbers = [v for v in tried if isinstance(v, (int, float)) and not isinstance(v, bool)]
    return len(numbers) == len(tried) > 1 and value in (min(numbers), max(numbers))


def decided(choices: Mapping[str, Choice]) -> dict[str, Values]:
    """The chosen values of the arms that have one."""
    return {arm: c.chosen for arm, c in choices.items() if c.chosen is not None}


def write_record(plan: SweepPlan, choices: Mapping[str, Choice], tests: Mapping[str, list[SweepRun]]) -> Path:
    """Write sweep.json: the arms with their runs and chosen values, and every point of the tuning. Reports read it."""
    tune = plan.sweep.tune
    arms = []
    for arm in plan.arms:
        choice = choices.get(arm.source or arm.name)
        arms.append(
            {
                "name": arm.name,
                "runs": [r.name for r in tests.get(arm.name, [])],
                "values": dict(arm.values),
                "tuned": choice.chosen if choice else {},
                "truncated_from": arm.source,
            }
        )
    content: JsonObject = {"arms": arms, "seeds": list(plan.sweep.seeds), "claims": list(plan.sweep.claims)}
    if tune.grid:
        content["tuning"] = {**asdict(tune), "choices": [asdict(c) for c in choices.values()]}
    file = plan.folder / SWEEP_FILE
    write_json(file, content)
    return file
