"""The choice of each arm's values from its tuning runs, and the record of a planned sweep: sweep.json in its folder."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from cosmos_exp.files import JsonObject, write_json
from cosmos_exp.report.runs import Run
from cosmos_exp.report.tuning import PointScore, chosen_point, point_score
from cosmos_exp.run_folder import SWEEP_FILE
from cosmos_exp.sweep.expanding import SweepRun
from cosmos_exp.sweep.plan import SweepPlan, TuningRun, Values


@dataclass(frozen=True)
class Point:
    """One set of values of an arm in the tuning.

    scored: of its finished runs.
    runs: their folders, relative to the sweep's.
    """

    values: JsonObject
    scored: PointScore
    runs: list[str]

    def as_json(self) -> JsonObject:
        """Its entry in sweep.json."""
        return {"values": self.values, **asdict(self.scored), "runs": self.runs}


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

    def as_json(self) -> JsonObject:
        """Its entry in sweep.json."""
        points = [p.as_json() for p in self.points]
        return {"arm": self.arm, "points": points, "chosen": self.chosen, "edges": self.edges}


def choose(plan: SweepPlan) -> dict[str, Choice]:
    """The choice of each tuned arm. An arm is decided when all its tuning runs are done."""
    found = {}
    for arm in dict.fromkeys(t.arm for t in plan.tuning):
        own = [t for t in plan.tuning if t.arm == arm]
        groups: dict[str, list[TuningRun]] = {}
        for one in own:
            groups.setdefault(repr(one.values), []).append(one)
        points = [_point(group, plan) for group in groups.values()]
        done = all(t.run.state() == "done" for t in own)
        index = chosen_point([p.scored for p in points], plan.sweep.tune.by, plan.sweep.tune.rule) if done else None
        chosen = None if index is None else points[index].values
        edges = [k for k in plan.sweep.tune.grid if chosen and _at_edge(chosen[k], plan.sweep.tune.grid[k])]
        found[arm] = Choice(arm, points, chosen, edges)
    return found


def _point(group: list[TuningRun], plan: SweepPlan) -> Point:
    names = [str(t.run.folder.path.relative_to(plan.folder)) for t in group]
    done = [Run(t.run.folder) for t in group if t.run.state() == "done"]
    return Point(dict(group[0].values), point_score(done, plan.sweep.tune.by), names)


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
        content["tuning"] = {**tune.model_dump(), "choices": [c.as_json() for c in choices.values()]}
    file = plan.folder / SWEEP_FILE
    write_json(file, content)
    return file
