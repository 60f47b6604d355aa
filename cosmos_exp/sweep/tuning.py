"""A sweep by arms, phase after phase: the tuning runs, the choice of each arm's values, the trained arms, the truncated ones.

sweep.json in the sweep's folder records the arms, their runs and the tuning. Reports read it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

from cosmos_exp.files import JsonObject, write_json
from cosmos_exp.report.runs import Run
from cosmos_exp.report.tuning import PointScore, chosen_point, point_score
from cosmos_exp.run_folder import SWEEP_FILE
from cosmos_exp.sweep.plan import SweepPlan, TuningRun
from cosmos_exp.sweep.running import Start, run_unfinished
from cosmos_exp.sweep.runs import SweepRun


@dataclass(frozen=True)
class Point:
    """One set of values of an arm in the tuning.

    scored: of its finished runs.
    runs: their folders, relative to the sweep's.
    """

    values: JsonObject
    scored: PointScore
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


@dataclass(frozen=True)
class PlannedRuns:
    """The runs of a sweep by arms that are known now.

    tuning: of the first phase.
    tests: of the second phase by arm; an arm whose tuning is unfinished is not among them.
    waiting: arms without a choice yet.
    """

    choices: Mapping[str, Choice]
    tuning: list[SweepRun]
    tests: Mapping[str, list[SweepRun]]
    waiting: list[str]

    @property
    def runs(self) -> list[SweepRun]:
        return sum(self.tests.values(), list(self.tuning))


def planned_runs(plan: SweepPlan) -> PlannedRuns:
    """What is known of a plan now, from the runs on disk."""
    choices, chosen = {}, {}
    for arm in plan.arms:
        runs = [tuning for tuning in plan.tuning if tuning.arm == arm.name]
        if runs:
            choice = choices[arm.name] = _choose(plan, arm.name, runs)
            if choice.chosen is not None:
                chosen[arm.name] = choice.chosen
    tests = plan.test_runs(chosen)
    waiting = [arm.name for arm in plan.arms if arm.name not in tests]
    return PlannedRuns(choices, [tuning.run for tuning in plan.tuning], tests, waiting)


def _choose(plan: SweepPlan, arm: str, runs: Sequence[TuningRun]) -> Choice:
    """The choice of a tuned arm. It is decided when all its tuning runs are done."""
    tune = plan.sweep.tune
    groups: dict[str, list[SweepRun]] = {}
    values: dict[str, JsonObject] = {}
    for tuning in runs:
        groups.setdefault(repr(tuning.values), []).append(tuning.run)
        values[repr(tuning.values)] = dict(tuning.values)
    points, unfinished = [], False
    for key, group in groups.items():
        done = [Run(run.folder) for run in group if run.state() == "done"]
        unfinished = unfinished or len(done) < len(group)
        names = [run.name for run in group]
        points.append(Point(values[key], point_score(done, tune.by), names))
    index = None if unfinished else chosen_point([point.scored for point in points], tune.by, tune.rule)
    if index is None:
        return Choice(arm, points, None, [])
    chosen = points[index].values
    return Choice(arm, points, chosen, [key for key in tune.grid if _at_edge(chosen[key], tune.grid[key])])


def _at_edge(value: object, tried: Sequence[object]) -> bool:
    numbers = [each for each in tried if isinstance(each, (int, float)) and not isinstance(each, bool)]
    return len(numbers) == len(tried) > 1 and value in (min(numbers), max(numbers))


def write_record(plan: SweepPlan, now: PlannedRuns) -> None:
    """Write sweep.json: the arms with their runs and chosen values, and every point of the tuning."""
    arms = []
    for arm in plan.arms:
        choice = now.choices.get(arm.source or arm.name)
        arms.append(
            {
                "name": arm.name,
                "runs": [run.name for run in now.tests.get(arm.name, [])],
                "values": dict(arm.values),
                "tuned": choice.chosen if choice else {},
                "truncated_from": arm.source,
            }
        )
    content: JsonObject = {"arms": arms, "seeds": list(plan.sweep.seeds), "claims": list(plan.sweep.claims)}
    if plan.sweep.tune.grid:
        content["tuning"] = {**plan.sweep.tune.model_dump(), "choices": list(map(_as_json, now.choices.values()))}
    write_json(plan.folder / SWEEP_FILE, content)


def _as_json(choice: Choice) -> JsonObject:
    points = [{"values": point.values, **asdict(point.scored), "runs": point.runs} for point in choice.points]
    return {"arm": choice.arm, "points": points, "chosen": choice.chosen, "edges": choice.edges}


Phase = Callable[[SweepPlan, PlannedRuns], list[SweepRun]]


def run_phases(plan: SweepPlan, start: Start) -> PlannedRuns:
    """Run what is missing or failed, phase by phase, and record the sweep after each.

    Args:
        start: runs the missing ones (second argument) of a phase's runs.
    """
    for phase in (_tuning, _trained, _truncated):

        def runs_now(phase: Phase = phase) -> list[SweepRun]:
            now = planned_runs(plan)
            write_record(plan, now)
            return phase(plan, now)

        run_unfinished(runs_now, start)
        ended = runs_now()
        if ended and ended[0].config.fail_fast and any(run.state() == "failed" for run in ended):
            break
    return planned_runs(plan)


def _tuning(plan: SweepPlan, now: PlannedRuns) -> list[SweepRun]:
    return now.tuning


def _trained(plan: SweepPlan, now: PlannedRuns) -> list[SweepRun]:
    runs = []
    for arm in plan.arms:
        if arm.source is None:
            runs += now.tests.get(arm.name, [])
    return runs


def _truncated(plan: SweepPlan, now: PlannedRuns) -> list[SweepRun]:
    """Runs of truncated arms whose source has its adapter: the others would fail for want of it."""
    runs = []
    for arm in plan.arms:
        if arm.source:
            for run, origin in zip(now.tests.get(arm.name, []), now.tests.get(arm.source, []), strict=True):
                if origin.folder.adapter_file.is_file():
                    runs.append(run)
    return runs
