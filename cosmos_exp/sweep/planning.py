"""`cosmos-exp sweep NAME`: a study through Hydra's multirun and launchers, one process a run; again finishes the rest."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

from cosmos_exp.config.composing import compose_config, quote_choices
from cosmos_exp.config.hashing import differences, stage_hash
from cosmos_exp.config.paths import sweeps_dir
from cosmos_exp.config.record import load_config
from cosmos_exp.config.schema import Config
from cosmos_exp.errors import UserError
from cosmos_exp.run_folder import RunFolder
from cosmos_exp.sweep.naming import run_name


@dataclass(frozen=True)
class PlannedRun:
    """One run of a study: its name, folder, Hydra overrides and configuration."""

    name: str
    folder: RunFolder
    overrides: tuple[str, ...]
    config: Config

    def state(self) -> str:
        """done, failed, interrupted, running, or missing; `to evaluate` when only later stages have changed."""
        status = self.folder.read(self.folder.status_file)
        state = status.get("state", "missing")
        if state == "running" and not self.folder.is_locked():
            return "interrupted"
        if state == "done" and not self.folder.stage_done("evaluate", stage_hash(self.config, "evaluate")):
            return "to evaluate"
        return state

    def check_same(self) -> None:
        """Refuse a folder that holds a run of another training.

        Raises:
            UserError: it names the keys that differ.
        """
        if not self.folder.config.is_file():
            return
        old = load_config(self.folder.config)
        if self.config.adapter.kind == "none":  # the base is the same whatever an adapter's keys say
            old.adapter, old.training, old.seed = self.config.adapter, self.config.training, self.config.seed
        if stage_hash(old, "train") == stage_hash(self.config, "train"):
            return
        groups = ("adapter", "model", "data", "training", "seed")
        changed = [c for c in differences(asdict(old), asdict(self.config)) if re.split(r"[.:]", c)[0] in groups]
        raise UserError(
            f"{self.folder.path} holds a run of another configuration ({'; '.join(changed[:4])}).\n"
            "Give the study another name (name=…), or remove that folder to run it anew."
        )


def expand(overrides: Sequence[str]) -> list[list[str]]:
    """Hydra's own product of all values, one list of overrides a run."""
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parsed = OverridesParser.create().parse_overrides(list(overrides))
    return BasicSweeper.split_arguments(parsed, None)[0]


def plan(name: str, folder: Path, overrides: Sequence[str], root: Path) -> list[PlannedRun]:
    """The runs of folder/name.yaml with `overrides`, each once, in order. Every one is composed and checked here.

    Args:
        root: where outputs/sweeps/<study>/<run> goes.

    Raises:
        UserError: a configuration that does not hold, or two runs under one name.
    """
    params = _sweeper_params(name, folder, [o for o in overrides if o.startswith("hydra")])
    own = [o for o in overrides if not o.startswith("hydra")]
    words = [*(f"{k}={v}" for k, v in params.items()), *quote_choices(own)]
    jobs = expand(words)
    first = dict(w.split("=", 1) for w in jobs[0])
    several = {k for k in first if len({dict(w.split("=", 1) for w in job)[k] for job in jobs}) > 1}
    runs: dict[str, PlannedRun] = {}
    for job in jobs:
        config = compose_config(job, name, (str(folder),))
        swept = {k: v for k, v in (w.split("=", 1) for w in job) if k in several}
        called = run_name(config, swept)
        place = root / "outputs" / "sweeps" / config.name / called
        config.run_dir = str(place)
        if called in runs:
            if config.adapter.kind != "none" and stage_hash(runs[called].config) != stage_hash(config):
                raise UserError(f"two runs of the study would be called {called}; sweep the key that differs by itself")
            continue
        runs[called] = PlannedRun(called, RunFolder(place), tuple(job), config)
    return list(runs.values())


def _sweeper_params(name: str, folder: Path, overrides: list[str]) -> dict[str, str]:
    from omegaconf import OmegaConf

    content = OmegaConf.load(folder / f"{name}.yaml")
    params = OmegaConf.select(content, "hydra.sweeper.params") or {}
    return {str(k): str(v) for k, v in params.items()}


def find_study(name: str) -> tuple[str, Path]:
    """Name and folder of a study: one of sweeps/, or a YAML file by path.

    Raises:
        UserError: neither; lists those there are.
    """
    path = Path(name).expanduser()
    if path.suffix in (".yaml", ".yml") and path.is_file():
        return path.stem, path.parent.absolute()
    if (sweeps_dir() / f"{name}.yaml").is_file():
        return name, sweeps_dir()
    there = ", ".join(sorted(p.stem for p in sweeps_dir().glob("*.yaml")))
    raise UserError(f"{name}: no such study; there are {there}, or give the path of a YAML file")
