"""The plan of a sweep by arms: a tuning run per arm and value, then each arm at its own values with several seeds."""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cosmos_exp.config.composing import compose_config, expand, is_of_hydra, is_sweep, parsed, quoted
from cosmos_exp.config.measures import MEASURES
from cosmos_exp.config.schema import Adapter, Config, Sweep
from cosmos_exp.errors import UserError
from cosmos_exp.run_folder import RunFolder
from cosmos_exp.sweep.expanding import SweepRun, refuse_run_dir, sweeper_params
from cosmos_exp.sweep.naming import run_name

Values = Mapping[str, Any]  # configuration keys with their values
NAME = r"[A-Za-z0-9][\w.+-]*"
RANK_KEYS = ("rank", "alpha", "rank_pattern", "alpha_pattern")  # of which a truncated arm has its own
TUNING = "tune"  # folder of the tuning runs inside the sweep's folder
VALIDATION = "validation_loss"


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
    def is_tuned(self) -> bool:
        return not self.is_base and self.source is None


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
    """

    file: Path
    folder: Path
    sweep: Sweep
    common: tuple[str, ...]
    arms: list[Arm]
    tuning: list[TuningRun] = field(default_factory=list)

    def compose(self, words: Sequence[str], name: str) -> SweepRun:
        """A run with `words` added to those of the sweep; `name` is its folder inside the sweep's."""
        words = tuple(dict.fromkeys([*self.common, *words]))
        config = compose_config(list(words), self.file.stem, (str(self.file.parent),))
        refuse_run_dir(config)
        config = config.updated({"sweep": Sweep(), "run_dir": str(self.folder / name)})
        return SweepRun(name, RunFolder(self.folder / name), tuple(quoted(words)), config)

    def test_runs(self, chosen: Mapping[str, Values]) -> dict[str, list[SweepRun]]:
        """The runs of the second phase by arm: each seed at the arm's chosen values. Arms without a choice yet are left out."""
        found: dict[str, list[SweepRun]] = {}
        for arm in self.arms:
            source = arm.source or arm.name
            if self.sweep.tune.grid and not arm.is_base and source not in chosen:
                continue
            own = chosen.get(source, {})
            seeds = [None] if arm.is_base else self._seeds
            found[arm.name] = [self._test_run(arm, own, seed) for seed in seeds]
        return found

    @property
    def _seeds(self) -> list[int | None]:
        return list(self.sweep.seeds) or [None]

    def _test_run(self, arm: Arm, own: Values, seed: int | None) -> SweepRun:
        words = [word(k, v) for k, v in {**arm.values, **own}.items()]
        words += [f"seed={seed}"] if seed is not None else []
        end = f"-seed{seed}" if seed else ""
        if arm.source:
            words += [f"adapter.truncate_from=../{run_folder_name(arm.source, own)}{end}"]
        return self.compose(words, run_folder_name(arm.name, own) + end)


def read_plan(file: Path, overrides: Sequence[str], root: Path) -> SweepPlan | None:
    """The plan of a sweep whose YAML has arms or a tuning grid; None for a plain product of values.

    Args:
        overrides: of the command line, for all runs.
        root: the folder that holds outputs/.

    Raises:
        UserError: an arm, the grid or the measure of the choice is wrong. It names the key.
    """
    own = [o for o in overrides if not is_of_hydra(o)]
    several = [o for o in own if is_sweep(quoted([o])[0])]
    first = compose_config([o for o in own if o not in several], file.stem, (str(file.parent),))
    sweep = first.sweep
    if not sweep.arms and not sweep.tune.grid and not sweep.seeds:
        return None
    if several:
        raise UserError(
            f"{several[0]}: several values. This sweep has arms: add arms (sweep.arms), tune the key for each arm "
            "(sweep.tune.grid), or give the training seeds as sweep.seeds=[0,1,2]."
        )
    common = [o for o in own if not o.lstrip("+").startswith("sweep.")]
    plan = SweepPlan(file, root / "outputs" / "sweeps" / first.name, sweep, tuple(common), [])
    plan = replace(plan, arms=_arms(plan))
    _check(plan, first)
    return replace(plan, tuning=_tuning(plan))


def _arms(plan: SweepPlan) -> list[Arm]:
    trained: dict[str, Arm] = {}
    truncated: list[Arm] = []
    for name, values in (plan.sweep.arms or _product(plan)).items():
        if not re.fullmatch(NAME, name) or name == TUNING:
            raise UserError(
                f"sweep.arms.{name}: not a name for an arm; use letters, digits and -_.+ (and not {TUNING})"
            )
        if not isinstance(values, Mapping):
            raise UserError(
                f"sweep.arms.{name}: expected keys with values, e.g. {{adapter: lora, rank: 8}}, not {values!r}"
            )
        if "truncate" in values:
            truncated += _truncated_arms(plan, name, values, trained)
            continue
        run = plan.compose([word(k, v) for k, v in values.items()], name)
        trained[name] = Arm(name, dict(values), run.config)
    return [*trained.values(), *truncated]


def _product(plan: SweepPlan) -> dict[str, Values]:
    """Without sweep.arms: an arm for each combination of the values that hydra.sweeper.params lists."""
    jobs = expand([f"{k}={v}" for k, v in sweeper_params(plan.file).items()])
    if not jobs or not jobs[0]:
        raise UserError(
            f"{plan.file}: no arms. Name them, e.g. sweep: {{arms: {{lora-r8: {{adapter: lora, rank: 8}}}}}}."
        )
    found: dict[str, Values] = {}
    for job in jobs:
        values = {w.split("=", 1)[0]: parsed(w).value() for w in job}
        config = plan.compose(job, "").config
        found.setdefault(run_name(config, values), values)  # the base is one arm, whatever its rank
    return found


def _truncated_arms(plan: SweepPlan, name: str, values: Values, trained: Mapping[str, Arm]) -> list[Arm]:
    """`{truncate: {from: lora-r32, rank: [2, 4]}}`: one arm per rank, NAME-r2, NAME-r4."""
    where, found = f"sweep.arms.{name}.truncate", values["truncate"]
    if len(values) > 1 or not isinstance(found, Mapping) or set(found) != {"from", "rank"}:
        raise UserError(f"{where}: expected {{from: ARM, rank: [2, 4, 8]}} and nothing else in this arm")
    source = trained.get(str(found["from"]))
    if source is None or source.is_base:
        known = ", ".join(n for n, a in trained.items() if not a.is_base) or "none"
        raise UserError(f"{where}.from={found['from']}: name a trained arm that is listed above it: {known}")
    ranks = found["rank"] if isinstance(found["rank"], (list, tuple)) else [found["rank"]]
    adapter = source.config.adapter
    most = min([adapter.rank, *adapter.rank_pattern.values()])  # a layer of lower rank cannot be cut to a higher one
    arms = []
    for rank in ranks:
        if not isinstance(rank, int) or isinstance(rank, bool) or not 0 < rank <= most:
            raise UserError(f"{where}.rank={rank}: must be a number from 1 to {most}")
        alpha = truncated_alpha(source.config.adapter, rank)
        own = {k: v for k, v in source.values.items() if k.removeprefix("adapter.") not in RANK_KEYS}
        own |= {"adapter.rank": rank, "adapter.alpha": alpha}
        run = plan.compose([word(k, v) for k, v in own.items()], name)
        arms.append(Arm(f"{name}-r{rank}", own, run.config, source.name))
    return arms


def truncated_alpha(adapter: Adapter, rank: int) -> float:
    """The alpha that keeps the scale of an adapter at another rank."""
    ratio = rank / adapter.rank
    return adapter.alpha * (ratio**0.5 if adapter.scaling == "rslora" else ratio)


# What both phases share: else a tuning run could see test prompts, or be scored in another way.
MEASURED = ("sampson.enabled",)  # a measure that the choice does not need may be left out of the tuning
SHARED = ("data", "generation", "judge", "sampson", "model", "seed", "margins", "name", "run_dir", "cache_dir")


def _check(plan: SweepPlan, first: Config) -> None:
    tune, sweep = plan.sweep.tune, plan.sweep
    trained = [a for a in plan.arms if a.is_tuned]
    names = [a.name for a in plan.arms]
    twice = sorted({n for n in names if names.count(n) > 1})
    if twice:
        raise UserError(
            f"sweep.arms: two arms are called {twice[0]}. Rename one (truncated arms are called NAME-rRANK)."
        )
    for one, other in itertools.combinations(plan.arms, 2):
        if one.source == other.source and one.config.updated({"run_dir": None}) == other.config.updated(
            {"run_dir": None}
        ):
            raise UserError(
                f"sweep.arms: {one.name} and {other.name} have the same configuration. Remove one, or give it another value."
            )
    for key, values in (("sweep.seeds", sweep.seeds), ("sweep.tune.seeds", tune.seeds)):
        if len(set(values)) < len(values):
            raise UserError(f"{key}={values}: a seed appears twice. Remove one.")
    split = next((a.name for a in plan.arms if a.config.generation.split != "test"), None)
    if split:
        raise UserError(
            f"generation.split: the arm {split} is not tested on the test prompts. Leave the key out: the sweep sets it."
        )
    if tune.grid:
        _check_tuning(plan, first, trained)


def _check_tuning(plan: SweepPlan, first: Config, trained: Sequence[Arm]) -> None:
    tune, sweep = plan.sweep.tune, plan.sweep
    for where, keys in (("grid", tune.grid), ("overrides", tune.overrides)):
        for key in keys:
            if key.split(".")[0] in SHARED and not (where == "overrides" and key in MEASURED):
                raise UserError(
                    f"sweep.tune.{where}.{key}: data, prompts, seeds and judge are the same in both phases. Set it for the whole sweep instead."
                )
    for key, values in tune.grid.items():
        if not isinstance(values, (list, tuple)) or not values:
            raise UserError(f"sweep.tune.grid.{key}={values!r}: expected a list of values, e.g. [0.001, 0.003]")
        if len({repr(v) for v in values}) < len(values):
            raise UserError(f"sweep.tune.grid.{key}={list(values)}: a value appears twice. Remove one.")
        own = [a.name for a in trained if key in a.values]
        if own:
            raise UserError(
                f"sweep.tune.grid.{key}: the arm {own[0]} sets this key itself. Leave it out of one of them."
            )
    if tune.by in ("physics", "instruction") and first.judge.name == "none":
        raise UserError(f"sweep.tune.by={tune.by}: needs a judge, e.g. judge=rules or judge=reason2_2b")
    known = [m for m, info in MEASURES.items() if info.better]
    if tune.by != VALIDATION and tune.by not in known:
        raise UserError(f"sweep.tune.by={tune.by}: choose {VALIDATION} or a measure: {', '.join(known)}")
    if tune.by == VALIDATION and first.data.validation_videos == 0:
        raise UserError("sweep.tune.by=validation_loss: needs data.validation_videos of at least 1")
    if tune.by == VALIDATION and tune.rule != "best":
        raise UserError(f"sweep.tune.rule={tune.rule}: needs a measure of videos in sweep.tune.by, which has scenes")
    both = sorted(set(tune.seeds) & set(sweep.seeds or [first.seed]))
    if both or not tune.seeds:
        raise UserError(
            f"sweep.tune.seeds={tune.seeds}: give at least one training seed that is not a test seed "
            f"({sweep.seeds or [first.seed]}), so that the choice is not made on the runs that are reported"
        )


def _tuning(plan: SweepPlan) -> list[TuningRun]:
    tune = plan.sweep.tune
    found = []
    for arm in (a for a in plan.arms if a.is_tuned) if tune.grid else ():
        for point in itertools.product(*tune.grid.values()):
            own = dict(zip(tune.grid, point, strict=True))
            for seed in tune.seeds:
                split = "none" if tune.by == VALIDATION else "selection"
                values = {**arm.values, **tune.overrides, **own, "seed": seed, "generation.split": split}
                name = f"{TUNING}/{run_folder_name(arm.name, own)}" + (f"-seed{seed}" if len(tune.seeds) > 1 else "")
                run = plan.compose([word(k, v) for k, v in values.items()], name)
                found.append(TuningRun(arm.name, own, run))
    return found


def run_folder_name(arm: str, values: Values) -> str:
    """`lora-r8-learning_rate0.003`: the arm and its tuned values."""
    words = [arm, *(f"{k.rsplit('.', 1)[-1]}{v}" for k, v in values.items())]
    return re.sub(r"[^\w.+-]", "", "-".join(words))


def word(key: str, value: object) -> str:
    """A Hydra override that sets `key` to any YAML value."""
    return f"{key}={_literal(value)}"


def _literal(value: object) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, (int, float)):
        return repr(value)
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{k}:{_literal(v)}" for k, v in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ",".join(_literal(v) for v in value) + "]"
    text = str(value)
    return text if re.fullmatch(r"[\w./+-]+", text) else "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
