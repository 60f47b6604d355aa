"""A sweep by arms: the base and the tuning runs, the choice of each arm's values, the trained arms, the truncated ones.

sweep.json in the sweep's folder records the arms, their runs and the tuning. Reports read it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass

from cosmos_exp.files import JsonObject, write_json
from cosmos_exp.report.runs import Run
from cosmos_exp.report.tuning import chosen_point, point_score
from cosmos_exp.run_folder import SWEEP_FILE
from cosmos_exp.sweep.plan import SweepPlan, TuningRun
from cosmos_exp.sweep.running import Start, run_unfinished
from cosmos_exp.sweep.runs import SweepRun, in_state


@dataclass(frozen=True)
class Choice:
    """The tuning of an arm, as sweep.json records it.

    points: of each set of values: `values`, `runs` (folders relative to the sweep's), and the keys of `PointScore`.
    chosen: the values of the best point; None while a run is missing, or if no point has a score.
    edges: the keys whose chosen value is the smallest or largest that was tried.
    """

    arm: str
    points: list[JsonObject]
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
    by_arm: dict[str, list[TuningRun]] = {}
    runs = []
    for tuning in plan.tuning:
        by_arm.setdefault(tuning.arm, []).append(tuning)
        runs.append(tuning.run)
    choices, chosen = {}, {}
    for arm, tunings in by_arm.items():
        choice = choices[arm] = _choose(plan, arm, tunings)
        if choice.chosen is not None:
            chosen[arm] = choice.chosen
    tests = plan.test_runs(chosen)
    waiting = [arm.name for arm in plan.arms if arm.name not in tests]
    return PlannedRuns(choices, runs, tests, waiting)


def _choose(plan: SweepPlan, arm: str, runs: Sequence[TuningRun]) -> Choice:
    """The choice of a tuned arm. It is decided when all its tuning runs are done."""
    tune, unfinished = plan.sweep.tune, False
    points: dict[str, JsonObject] = {}
    done: dict[str, list[Run]] = {}
    for tuning in runs:
        key = repr(tuning.values)
        points.setdefault(key, {"values": dict(tuning.values), "runs": []})["runs"].append(tuning.run.name)
        finished = done.setdefault(key, [])
        if tuning.run.state() == "done":
            finished.append(Run(tuning.run.folder))
        else:
            unfinished = True
    scores = []
    for key, point in points.items():
        scores.append(point_score(done[key], tune.by))
        point |= asdict(scores[-1])
    every = list(points.values())
    index = None if unfinished else chosen_point(scores, tune.by, tune.rule)
    if index is None:
        return Choice(arm, every, None, [])
    chosen, edges = every[index]["values"], []
    for key in chosen:
        tried = [point["values"][key] for point in every]
        if all(isinstance(value, (int, float)) for value in tried):
            low, high = min(tried), max(tried)
            if low < high and chosen[key] in (low, high):
                edges.append(key)
    return Choice(arm, every, chosen, edges)


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
        content["tuning"] = {**plan.sweep.tune.model_dump(), "choices": list(map(asdict, now.choices.values()))}
    write_json(plan.folder / SWEEP_FILE, content)


def run_phases(plan: SweepPlan, start: Start) -> PlannedRuns:
    """Run what is missing or failed: what can start now, then what that makes possible. The sweep is recorded after each.

    Args:
        start: runs the missing ones (second argument) of some runs.
    """
    tried: set[str] = set()
    while True:
        now = planned_runs(plan)
        write_record(plan, now)
        runs = []
        for run in now.runs:
            source = run.config.adapter.truncate_from
            # The run's own folder may not exist yet, and no path leads through it then.
            ready = source is None or any((run.folder.path / source / "adapter").resolve().glob("*.safetensors"))
            if ready and run.name not in tried:
                runs.append(run)
                tried.add(run.name)
        if not runs:
            return now
        run_unfinished(runs, start)
        if runs[0].config.fail_fast and in_state(runs, "failed"):
            return planned_runs(plan)
