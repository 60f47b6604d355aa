"""The plan of a sweep by arms: a tuning run per arm and value, then each arm at its own values with several seeds."""

from __future__ import annotations

import itertools
import json
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cosmos_exp.config.composing import Composer, expand, is_of_hydra, is_sweep, parsed, quoted
from cosmos_exp.config.schema import Adapter, Config, Sweep
from cosmos_exp.errors import UserError
from cosmos_exp.experiment.objective import check_objective
from cosmos_exp.run_folder import RunFolder
from cosmos_exp.sweep.runs import SweepRun, composed, file_name, run_name, sweeper_words

Values = Mapping[str, Any]  # configuration keys with their values
RANK_KEYS = ("rank", "alpha", "rank_pattern", "alpha_pattern")  # of which a truncated arm has its own
TUNING = "tune"  # folder of the tuning runs inside the sweep's folder
VALIDATION = "validation_loss"
# What both phases share: else a tuning run could see test prompts, or be scored in another way.
SHARED = ("data", "generation", "judge", "sampson", "model", "seed", "margins", "name", "run_dir", "cache_dir")
MEASURED = "sampson.enabled"  # a measure that the choice does not need may be left out of the tuning


@dataclass(frozen=True)
class Arm:
    """One arm of a sweep.

    source: the arm whose adapters are truncated to this arm's rank instead of a training; None: it is trained.
    """

    name: str
    values: Values
    config: Config
    source: str | None = None

    @property
    def is_base(self) -> bool:
        return self.config.adapter.kind == "none"

    @property
    def is_trained(self) -> bool:
        return not (self.is_base or self.source)


@dataclass(frozen=True)
class TuningRun:
    """A run of the first phase: an arm with one value of each key of the grid."""

    arm: str
    values: Values
    run: SweepRun


@dataclass(frozen=True)
class SweepPlan:
    """All arms of a sweep, and the runs of its first phase.

    common: overrides of all runs.
    composer: of its runs. It keeps them, as each phase asks for all runs again.
    tested: the second phase follows the first.
    """

    file: Path
    folder: Path
    sweep: Sweep
    common: tuple[str, ...]
    arms: list[Arm]
    composer: Composer
    tuning: list[TuningRun] = field(default_factory=list)
    tested: bool = True

    def run(self, values: Values, name: str) -> SweepRun:
        """A run with `values` added to the overrides of the sweep; `name` is its folder inside the sweep's."""
        words = tuple(dict.fromkeys([*self.common, *itertools.starmap(word, values.items())]))
        folder = self.folder / name
        config = composed(words, self.composer).updated({"sweep": Sweep(), "run_dir": str(folder)})
        return SweepRun(name, RunFolder(folder), tuple(quoted(words)), config)

    def test_runs(self, chosen: Mapping[str, Values]) -> dict[str, list[SweepRun]]:
        """The runs of the second phase by arm: each seed at the arm's chosen values. Arms without a choice yet are left out."""
        runs: dict[str, list[SweepRun]] = {}
        for arm in self.arms if self.tested else ():
            source = arm.source or arm.name
            if self.sweep.tune.grid and not arm.is_base and source not in chosen:
                continue
            seeds: Sequence[int | None] = [None]
            if self.sweep.seeds and not arm.is_base:
                seeds = self.sweep.seeds
            runs[arm.name] = [self._test_run(arm, chosen.get(source, {}), seed) for seed in seeds]
        return runs

    def _test_run(self, arm: Arm, tuned: Values, seed: int | None) -> SweepRun:
        values, end = {**arm.values, **tuned}, ""
        if seed is not None:
            values["seed"] = seed
        if seed:
            end = f"-seed{seed}"
        if arm.source:
            values["adapter.truncate_from"] = f"../{run_folder_name(arm.source, tuned)}{end}"
        return self.run(values, run_folder_name(arm.name, tuned) + end)


def read_plan(file: Path, overrides: Sequence[str], root: Path, config_dirs: Sequence[str] = ()) -> SweepPlan | None:
    """The plan of a sweep whose YAML has arms or a tuning grid; None for a plain product of values.

    Args:
        overrides: of the command line, for all runs.
        root: the folder that holds outputs/.
        config_dirs: further folders of groups.

    Raises:
        UserError: an arm, the grid or the measure of the choice is wrong. It names the key.
    """
    settings, common, several = [], [], []  # of the sweep itself, of all runs, of several values
    for override in overrides:
        if is_of_hydra(override):
            continue
        if override.lstrip("+").startswith("sweep."):
            settings.append(override)
        elif is_sweep(quoted([override])[0]):
            several.append(override)
        else:
            common.append(override)
    composer = Composer(file.stem, (str(file.parent), *config_dirs))
    first = composed([*common, *settings], composer)
    sweep = first.sweep
    if not sweep.arms and not sweep.tune.grid and not sweep.seeds:
        return None
    if several:
        raise UserError(
            f"{several[0]}: several values. This sweep has arms: add arms (sweep.arms), tune the key for each arm "
            "(sweep.tune.grid), or give the training seeds as sweep.seeds=[0,1,2]."
        )
    plan = SweepPlan(file, root / "outputs" / "sweeps" / first.name, sweep, tuple(common), [], composer)
    _check(plan, first)
    plan = replace(plan, arms=_arms(plan))
    _check_grids(plan)
    return replace(plan, tuning=_tuning(plan))


def _arms(plan: SweepPlan) -> list[Arm]:
    trained: dict[str, Arm] = {}
    truncated: list[Arm] = []
    for name, values in (plan.sweep.arms or _product(plan)).items():
        if "truncate" in values:
            truncated += _truncated_arms(plan, name, values, trained)
        else:
            trained[name] = Arm(name, dict(values), plan.run(values, name).config)
    arms, taken = [*trained.values(), *truncated], {TUNING}
    for arm in arms:
        if arm.name in taken:
            raise UserError(
                f"sweep.arms: the name {arm.name} is taken. Rename an arm (truncated ones are called NAME-rRANK)."
            )
        taken.add(arm.name)
    return arms


def _product(plan: SweepPlan) -> dict[str, Values]:
    """Without sweep.arms: an arm for each combination of the values that hydra.sweeper.params lists."""
    jobs = expand(sweeper_words(plan.file))
    if not jobs or not jobs[0]:
        raise UserError(
            f"{plan.file}: no arms. Name them, e.g. sweep: {{arms: {{lora-r8: {{adapter: lora, rank: 8}}}}}}."
        )
    arms: dict[str, Values] = {}
    for job in jobs:
        values = {}
        for override in job:
            values[override.split("=", 1)[0]] = parsed(override).value()
        arms.setdefault(run_name(plan.run(values, "").config, values), values)  # the base is one arm, whatever its rank
    return arms


def _truncated_arms(plan: SweepPlan, name: str, values: Values, trained: Mapping[str, Arm]) -> list[Arm]:
    """`{truncate: {from: lora-r32, rank: [2, 4]}}`: one arm per rank, NAME-r2, NAME-r4."""
    where, truncate = f"sweep.arms.{name}.truncate", values["truncate"]
    if not isinstance(truncate, Mapping) or set(truncate) != {"from", "rank"}:
        raise UserError(f"{where}: expected {{from: ARM, rank: [2, 4, 8]}}")
    source = trained.get(str(truncate["from"]))
    if source is None or source.is_base:
        raise UserError(
            f"{where}.from={truncate['from']}: name a trained arm that is listed above it: {', '.join(trained)}"
        )
    adapter = source.config.adapter
    most = min([adapter.rank, *adapter.rank_pattern.values()])  # a layer of lower rank cannot be cut to a higher one
    shared = {key: value for key, value in source.values.items() if key.removeprefix("adapter.") not in RANK_KEYS}
    if adapter.kind == "peft":
        raise UserError(
            f"{where}.from={source.name}: {adapter.method} has no rank to cut. Name an arm of lora, dora or full."
        )
    if adapter.kind == "full":  # cut to a LoRA of any rank that the layers have
        shared, most = shared | {"adapter": "lora"}, sys.maxsize
    arms = []
    for rank in truncate["rank"]:
        if rank not in range(1, most + 1):
            raise UserError(f"{where}.rank={rank}: must be a number from 1 to {most}")
        cut = {**shared, "adapter.rank": rank, "adapter.alpha": truncated_alpha(adapter, rank)}
        arms.append(Arm(f"{name}-r{rank}", cut, plan.run(cut, name).config, source.name))
    return arms


def truncated_alpha(adapter: Adapter, rank: int) -> float:
    """The alpha that keeps the scale of an adapter at another rank."""
    ratio = rank / adapter.rank
    return adapter.alpha * (ratio**0.5 if adapter.scaling == "rslora" else ratio)


def _check(plan: SweepPlan, first: Config) -> None:
    """Refuse a tuning that could see the test, and seeds that would count twice."""
    tune, seeds = plan.sweep.tune, plan.sweep.seeds
    for key, numbers in (("sweep.seeds", seeds), ("sweep.tune.seeds", tune.seeds)):
        if len(set(numbers)) < len(numbers):
            raise UserError(f"{key}={numbers}: a seed appears twice. Remove one.")
    if not tune.grid:
        return
    for key in (*tune.grid, *tune.overrides):
        if key.split(".")[0] in SHARED and key != MEASURED:
            raise UserError(
                f"sweep.tune: {key}: data, prompts, seeds and judge are the same in both phases. Set it for the whole sweep instead."
            )
    check_objective(first, tune.by, "sweep.tune.by")
    if tune.by == VALIDATION and tune.rule != "best":
        raise UserError(f"sweep.tune.rule={tune.rule}: needs a measure of videos in sweep.tune.by, which has scenes")
    tested = seeds or [first.seed]
    if not tune.seeds or set(tune.seeds) & set(tested):
        raise UserError(
            f"sweep.tune.seeds={tune.seeds}: give at least one training seed that is not a test seed "
            f"({tested}), so that the choice is not made on the runs that are reported"
        )


def _check_grids(plan: SweepPlan) -> None:
    """Refuse an arm's own values of an arm that is not tuned, or of a key that the others do not tune."""
    tune = plan.sweep.tune
    tuned = [arm.name for arm in plan.arms if arm.is_trained]
    for name, grid in tune.grids.items():
        if name not in tuned:
            raise UserError(f"sweep.tune.grids.{name}: no arm that is tuned. Name one of {', '.join(tuned)}.")
        for key in grid:
            if key not in tune.grid:
                known = ", ".join(tune.grid)
                raise UserError(
                    f"sweep.tune.grids.{name}: {key} is not in sweep.tune.grid, which has {known}. Add it there."
                )


def _tuning(plan: SweepPlan) -> list[TuningRun]:
    tune, runs = plan.sweep.tune, []
    if not tune.grid:
        return []
    split = "none" if tune.by == VALIDATION else "selection"
    for arm in plan.arms:
        if not arm.is_trained:
            continue
        grid = tune.grid | tune.grids.get(arm.name, {})
        for point, seed in itertools.product(itertools.product(*grid.values()), tune.seeds):
            point_values = dict(zip(grid, point, strict=True))
            values = {**arm.values, **tune.overrides, **point_values, "seed": seed, "generation.split": split}
            name = f"{TUNING}/{run_folder_name(arm.name, point_values)}"
            if len(tune.seeds) > 1:
                name += f"-seed{seed}"
            runs.append(TuningRun(arm.name, point_values, plan.run(values, name)))
    return runs


def run_folder_name(arm: str, values: Values) -> str:
    """`lora-r8-learning_rate0.003`: the arm and its tuned values."""
    return file_name([arm, *(f"{key.rsplit('.', 1)[-1]}{value}" for key, value in values.items())])


def word(key: str, value: object) -> str:
    """A Hydra override that sets `key` to any YAML value."""
    return f"{key}={_literal(value)}"


def _literal(value: object) -> str:
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{_literal(inner)}" for key, inner in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(map(_literal, value)) + "]"
    if not isinstance(value, str):
        return json.dumps(value)
    return value if re.fullmatch(r"[\w./+-]+", value) else "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
