"""A sweep by arms, phase after phase: the tuning runs, the choice, the trained arms, the truncated ones."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from cosmos_exp.sweep.expanding import SweepRun
from cosmos_exp.sweep.plan import SweepPlan
from cosmos_exp.sweep.running_elsewhere import Start, run_unfinished
from cosmos_exp.sweep.tuning import Choice, choose, decided, write_record

Phase = Callable[[SweepPlan, "PlannedRuns"], list[SweepRun]]


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
        return [*self.tuning, *(r for own in self.tests.values() for r in own)]


def planned_runs(plan: SweepPlan) -> PlannedRuns:
    """What is known of a plan now, from the runs on disk."""
    choices = choose(plan)
    tests = plan.test_runs(decided(choices))
    waiting = [a.name for a in plan.arms if a.name not in tests]
    return PlannedRuns(choices, [t.run for t in plan.tuning], tests, waiting)


def run_phases(plan: SweepPlan, start: Start) -> PlannedRuns:
    """Run what is missing or failed, phase by phase, and record the sweep after each.

    Args:
        start: runs the missing ones (second argument) of a phase's runs.
    """
    for phase in (_tuning, _trained, _truncated):

        def runs_of(phase: Phase = phase) -> list[SweepRun]:
            now = planned_runs(plan)
            write_record(plan, now.choices, now.tests)
            return phase(plan, now)

        run_unfinished(runs_of, start)
        ended = runs_of()
        if ended and ended[0].config.fail_fast and any(r.state() == "failed" for r in ended):
            break
    now = planned_runs(plan)
    write_record(plan, now.choices, now.tests)
    return now


def _tuning(plan: SweepPlan, now: PlannedRuns) -> list[SweepRun]:
    return now.tuning


def _trained(plan: SweepPlan, now: PlannedRuns) -> list[SweepRun]:
    return _of_arms(now, [a.name for a in plan.arms if a.source is None])


def _truncated(plan: SweepPlan, now: PlannedRuns) -> list[SweepRun]:
    """Runs of truncated arms whose source has its adapter: the others would fail for want of it."""
    sources = {a.name: a.source for a in plan.arms if a.source}
    found = []
    for arm, source in sources.items():
        trained = now.tests.get(source, [])
        pairs = zip(now.tests.get(arm, []), trained, strict=True)
        found += [run for run, origin in pairs if origin.folder.adapter_file.is_file()]
    return found


def _of_arms(now: PlannedRuns, arms: Sequence[str]) -> list[SweepRun]:
    return [r for arm in arms for r in now.tests.get(arm, [])]
