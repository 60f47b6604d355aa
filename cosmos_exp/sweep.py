"""`cosmos-exp sweep NAME`: a study through Hydra's multirun and launchers, one process a run; again finishes the rest."""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from hydra._internal.core_plugins.basic_sweeper import BasicSweeper

from cosmos_exp.compose import compose_config, load_config, quote_choices
from cosmos_exp.config import Config, stage_hash, sweeps_dir
from cosmos_exp.errors import UserError
from cosmos_exp.isolated import LOG_TO_FILE
from cosmos_exp.run_folder import RunFolder, differences

# What the base model, which is not trained, does not depend on.
_TRAINING_ONLY = ("adapter", "rank", "alpha", "seed", "training")
# Named by `run_name` in their own way.
_NAMED = (
    "adapter",
    "adapter.kind",
    "rank",
    "adapter.rank",
    "alpha",
    "adapter.alpha",
    "adapter.scaling",
    "seed",
    "experiment",
)


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


def run_name(config: Config, swept: dict[str, str]) -> str:
    """What sets a run apart: `base`, `lora-r8`, `dora-r32-seed1`, `lora-r8-a16-rslora`, then other swept keys.

    Args:
        swept: the study's keys that take several values, with this run's value.
    """
    adapter, base = config.adapter, config.adapter.kind == "none"
    words = ["base"] if base else [f"{adapter.kind}-r{adapter.rank}"]
    if not base:
        words += [f"a{adapter.alpha:g}"] if adapter.alpha != adapter.rank else []
        words += ["rslora"] if adapter.scaling == "rslora" else []
        words += [f"seed{config.seed}"] if config.seed else []
    for key, value in sorted(swept.items()):
        if key in _NAMED or (base and key.split(".")[0] in _TRAINING_ONLY):
            continue
        words.append(f"{key.rsplit('.', 1)[-1]}{value}")
    return re.sub(r"[^\w.+-]", "", "-".join(words))[:120]


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


def main(args: argparse.Namespace) -> int:
    """Run what is missing or failed. Exit code 1 if a run has failed or is unfinished."""
    name, folder = find_study(args.name)
    runs = plan(name, folder, args.overrides, Path.cwd())
    for run in runs:
        run.check_same()
    left = [r for r in runs if r.state() not in ("done", "running")]
    if args.list or not left:
        from cosmos_exp.sweep_view import print_states

        print_states(runs)
        return 0 if args.list else _ended(runs, args.debug)
    return _run(name, folder, args.overrides, runs, left, args.debug)


def _run(
    name: str, folder: Path, overrides: Sequence[str], runs: list[PlannedRun], left: list[PlannedRun], debug: bool
) -> int:
    from cosmos_exp import run_command
    from cosmos_exp.sweep_view import watch
    from hydra_plugins.cosmos_exp_study import StudySweeper

    StudySweeper.wanted = tuple((*r.overrides, f"run_dir='{r.folder.path}'") for r in left)
    hydra_words = [o for o in overrides if o.startswith("hydra")]
    words = ["--config-dir", str(folder), "--config-name", name, "-m", *hydra_words]
    words.append("hydra.sweeper._target_=hydra_plugins.cosmos_exp_study.StudySweeper")
    os.environ[LOG_TO_FILE] = "1"
    try:
        with watch(runs):
            run_command.main(words, debug)
    except KeyboardInterrupt:
        print("interrupted; the same command goes on", file=sys.stderr)
        return 1
    finally:
        os.environ.pop(LOG_TO_FILE, None)
        StudySweeper.wanted = ()
    return _ended(runs, debug)


def _ended(runs: list[PlannedRun], debug: bool) -> int:
    """The study's table and how each run that is not done ended."""
    from cosmos_exp.report.command import main as report

    study = runs[0].folder.path.parent
    unfinished = [(r, r.state()) for r in runs]
    unfinished = [(r, s) for r, s in unfinished if s != "done"]
    if len(unfinished) < len(runs):
        report(argparse.Namespace(dir=str(study), out=None, debug=debug))
    for run, state in unfinished:
        error = run.folder.read(run.folder.status_file).get("error") or "no status was written"
        print(f"{run.name}: {state}: {str(error).splitlines()[0]}   ({run.folder.path / 'log.txt'})", file=sys.stderr)
    if unfinished:
        print(
            f"{len(runs) - len(unfinished)} of {len(runs)} runs are done; the same command does the rest.",
            file=sys.stderr,
        )
    return int(bool(unfinished))
