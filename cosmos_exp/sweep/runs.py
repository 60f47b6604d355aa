"""The runs of a sweep: their names, folders and states, and how sweeps/NAME.yaml becomes runs."""

from __future__ import annotations

import datetime
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import filterfalse
from pathlib import Path
from typing import Any

import pandas as pd
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import OmegaConf

from cosmos_exp.config.composing import Composer, expand, is_of_hydra, is_sweep, quoted
from cosmos_exp.config.hashing import check_same_training, stage_hash
from cosmos_exp.config.layers import adapter_label
from cosmos_exp.config.paths import sweeps_dir
from cosmos_exp.config.record import load_config
from cosmos_exp.config.schema import Config
from cosmos_exp.errors import UserError
from cosmos_exp.experiment.launching import launched
from cosmos_exp.run_folder import RunFolder
from cosmos_exp.sweep.slurm import live_job

TAKEN = ("done", "running", "queued")
"""States of runs that need no start."""

# The base model does not depend on these, as it is not trained.
_TRAINING_ONLY = ("adapter", "rank", "alpha", "seed", "training")
# `run_name` has its own words for these.
_NAMED = {"adapter", "adapter.kind", "rank", "adapter.rank", "alpha", "adapter.alpha", "adapter.scaling", "seed"}
_NAMED |= {"experiment", "adapter.rank_pattern", "adapter.alpha_pattern"}
_LONGEST_NAME = 120


@dataclass(frozen=True)
class SweepRun:
    """One run of a sweep: its name, folder, Hydra overrides and configuration."""

    name: str
    folder: RunFolder
    overrides: tuple[str, ...]
    config: Config

    def state(self) -> str:
        """done, failed, interrupted, running, queued or missing; `to evaluate` if only later stages have changed.

        A folder that a process holds is running, whatever its status says: it may be about to write one.

        Raises:
            UserError: the run has a Slurm job and Slurm does not answer.
        """
        job = live_job(self.folder)
        if job:
            return str(job.run_state)
        state = str(self.folder.status.get("state", "missing"))
        if state == "done":
            is_same = self.folder.stage_done("evaluate", stage_hash(self.config, "evaluate"))
            return "done" if is_same else "to evaluate"
        if self.folder.is_locked():
            return "running"
        return "interrupted" if state == "running" else state

    def check_same(self) -> None:
        """Refuse a folder that holds a run of another training.

        Raises:
            UserError: it names the keys that differ.
        """
        same = self.folder.manifest.get("config_hash") == stage_hash(self.config)
        if same or not self.folder.config.is_file():
            return
        old = load_config(self.folder.config)
        if self.config.adapter.kind == "none":  # the base is the same, whatever the adapter's keys are
            own = self.config
            old = old.updated({"adapter": own.adapter, "training": own.training, "seed": own.seed})
        fix = "Give the sweep another name (name=…), or remove that folder to run it again."
        check_same_training(old, self.config, self.folder.path, fix)


def in_state(runs: Iterable[SweepRun], state: str) -> list[SweepRun]:
    """The runs that are in a state now."""
    return [run for run in runs if run.state() == state]


def missing_runs(runs: Iterable[SweepRun]) -> list[SweepRun]:
    """The runs that are missing, failed or interrupted."""
    return [run for run in runs if run.state() not in TAKEN]


def run_name(config: Config, swept: Mapping[Any, object]) -> str:
    """The name of a run: `base`, `lora-r8`, `dora-r32-seed1`, `lora-r8-a16-rslora`, then other swept keys.

    Args:
        swept: the keys that take several values in the sweep, with this run's value.
    """
    is_base = config.adapter.kind == "none"
    words = [adapter_label(config.adapter)]
    if config.seed and not is_base:
        words.append(f"seed{config.seed}")
    for key, value in sorted(swept.items()):
        if key in _NAMED or (is_base and key.split(".")[0] in _TRAINING_ONLY):
            continue
        words.append(f"{key.rsplit('.', 1)[-1]}{value}")
    return file_name(words)[:_LONGEST_NAME]


def file_name(words: Sequence[str]) -> str:
    """The words as the name of a folder."""
    return re.sub(r"[^\w.+-]", "", "-".join(words))


def find_sweep(name: str) -> tuple[str, Path]:
    """Name and folder of a sweep: one of sweeps/, or a YAML file by path.

    Raises:
        UserError: there is no such sweep; it lists the shipped ones.
    """
    path = Path(name).expanduser()
    if path.suffix in (".yaml", ".yml") and path.is_file():
        return path.stem, path.parent.absolute()
    known = sorted(file.stem for file in sweeps_dir().glob("*.yaml"))
    if name not in known:
        raise UserError(f"{name}: no such sweep. Choose one of {', '.join(known)}, or give the path of a YAML file.")
    return name, sweeps_dir()


def sweeper_words(file: Path) -> list[str]:
    """KEY=VALUES for each key of which the sweep lists values, as Hydra's sweeper reads them."""
    params = OmegaConf.select(OmegaConf.load(file), "hydra.sweeper.params") or {}
    return [f"{key}={values}" for key, values in params.items()]


def composed(words: Sequence[str], composer: Composer) -> Config:
    """The configuration of a run of a sweep.

    Raises:
        UserError: it is invalid, or sets run_dir.
    """
    config = composer.config(words)
    if config.run_dir is not None:
        raise UserError(
            f"run_dir={config.run_dir}: each run of a sweep has its own folder, outputs/sweeps/NAME/RUN, below the current "
            "directory. Leave run_dir out; name=NAME names the sweep's folder."
        )
    return config


def expand_sweep(
    name: str, folder: Path, overrides: Sequence[str], root: Path, config_dirs: Sequence[str] = ()
) -> list[SweepRun]:
    """The runs of folder/name.yaml with `overrides`, each once, in order.

    Args:
        root: the folder that holds outputs/.
        config_dirs: further folders of groups.

    Raises:
        UserError: an invalid configuration, or two different runs with the same name.
    """
    own_words = quoted(list(filterfalse(is_of_hydra, overrides)))
    jobs = expand(sweeper_words(folder / f"{name}.yaml") + own_words)
    values = pd.DataFrame(map(_values, jobs))  # a row per job
    swept = values.loc[:, values.nunique() > 1].to_dict("records")
    composer = Composer(name, (str(folder), *config_dirs))
    runs: dict[str, SweepRun] = {}
    for job, swept_values in zip(jobs, swept, strict=True):
        config = composed(job, composer)
        run = run_name(config, swept_values)
        path = root / "outputs" / "sweeps" / config.name / run
        config = config.updated({"run_dir": str(path)})
        if run not in runs:
            runs[run] = SweepRun(run, RunFolder(path), tuple(job), config)
        elif config.adapter.kind != "none" and stage_hash(runs[run].config) != stage_hash(config):
            raise UserError(f"two runs of the sweep would be called {run}. Sweep the key that differs by itself.")
    return list(runs.values())


def _values(words: Iterable[str]) -> dict[str, str]:
    values = {}
    for word in words:
        key, _, value = word.partition("=")
        values[key] = value
    return values


def with_run_dir(config: Config, overrides: list[str]) -> Config:
    """The configuration of `cosmos-exp run` with its `run_dir` set. Hydra is running.

    An existing folder is resumed: with only `run_dir=…` (and `dry_run`) under its own configuration, else only if the
    configuration trains the same.

    Raises:
        UserError: the folder holds a run of another configuration; only `run_dir=…` is given, and it holds none.
    """
    if config.run_dir is None:
        is_multirun = HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN
        folder = _multirun_folder(config, overrides) if is_multirun else _new_folder(config)
        return config.updated({"run_dir": str(folder)})
    folder, named = Path(config.run_dir), [word.lstrip("+").partition("=")[0] for word in overrides]
    is_resumed, file = set(named) <= {"run_dir", "dry_run"}, folder / "config.yaml"
    if not file.is_file():
        if not is_resumed or "run_dir" not in named:  # a sweep names the folders of its runs
            return config
        below = sorted(path.parent for path in folder.glob("*/config.yaml"))
        listed = f" Runs in it: {', '.join(map(str, below[-3:]))}." if below else ""
        raise UserError(
            f"run_dir={folder}: no run to resume, it has no config.yaml.{listed} For a new run of the embedded model there name "
            "the model, too: model=tabletop."
        )
    old = load_config(file).updated({"run_dir": config.run_dir, "dry_run": config.dry_run})
    if is_resumed:
        return old
    fix = "Set another run_dir (or none) for a new run, or give only run_dir=… to resume the old one."
    check_same_training(old, config, folder, fix, named)
    return config


def _new_folder(config: Config) -> Path:
    """outputs/<name>/<timestamp>, the same in all processes that a launcher has started."""
    hardware = config.hardware
    stamp = datetime.datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    folder = _unused(Path("outputs") / config.name / stamp)
    if launched():
        from accelerate.utils import broadcast_object_list

        from cosmos_exp.distributed import Processes

        Processes(hardware.device, hardware.all_processes, hardware.num_threads)
        return Path(broadcast_object_list([str(folder)])[0])
    return folder


def _multirun_folder(config: Config, overrides: list[str]) -> Path:
    """outputs/sweeps/<name>/<run name>: the folder that holds this very run, else a new one."""
    job = HydraConfig.get()
    swept = {word.partition("=")[0] for word in overrides if is_sweep(word)}
    swept |= set(OmegaConf.select(OmegaConf.structured(job.sweeper), "params") or {})
    task_values = _values(job.overrides.task)
    name = run_name(config, {key: task_values[key] for key in swept & set(task_values)})
    folder = Path(job.runtime.cwd) / "outputs" / "sweeps" / config.name / name
    return folder if _holds(folder, config) else _unused(folder)


def _holds(folder: Path, config: Config) -> bool:
    """Whether a folder holds this very run, or a run without work. The base is one run for all ranks."""
    if not (folder / "config.yaml").is_file():
        return False
    if not RunFolder(folder).is_taken():
        return True
    old = load_config(folder / "config.yaml")
    return config.adapter.kind == old.adapter.kind == "none" or stage_hash(old, "train") == stage_hash(config, "train")


def _unused(folder: Path) -> Path:
    unique, number = folder, 2
    while unique.exists():
        unique, number = folder.with_name(f"{folder.name}-{number}"), number + 1
    return unique.absolute()
