"""From sweeps/NAME.yaml to the sweep's runs: each composed and checked, with its name, folder and state."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cosmos_exp.config.composing import compose_config, expand, is_of_hydra, quoted
from cosmos_exp.config.hashing import check_same_training, stage_hash
from cosmos_exp.config.paths import sweeps_dir
from cosmos_exp.config.record import load_config
from cosmos_exp.config.schema import Config
from cosmos_exp.errors import UserError
from cosmos_exp.run_folder import RunFolder
from cosmos_exp.sweep.naming import run_name
from cosmos_exp.sweep.slurm_queue import live_job

TAKEN = ("done", "running", "queued")
"""States of runs that need no start."""


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
        if state != "done" and self.folder.is_locked():
            return "running"
        if state == "running":
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
        if self.config.adapter.kind == "none":  # the base is the same, whatever the adapter's keys are
            own = self.config
            old = old.updated({"adapter": own.adapter, "training": own.training, "seed": own.seed})
        fix = "Give the sweep another name (name=…), or remove that folder to run it again."
        check_same_training(old, self.config, self.folder.path, fix)


def expand_sweep(name: str, folder: Path, overrides: Sequence[str], root: Path) -> list[SweepRun]:
    """The runs of folder/name.yaml with `overrides`, each once, in order.

    Args:
        root: the folder that holds outputs/.

    Raises:
        UserError: an invalid configuration, or two different runs with the same name.
    """
    params = sweeper_params(folder / f"{name}.yaml")
    own = [o for o in overrides if not is_of_hydra(o)]
    jobs = expand([*(f"{k}={v}" for k, v in params.items()), *quoted(own)])
    swept = _keys_with_several_values(jobs)
    runs: dict[str, SweepRun] = {}
    for job in jobs:
        config = compose_config(job, name, (str(folder),))
        run = run_name(config, {k: v for k, v in _pairs(job).items() if k in swept})
        refuse_run_dir(config)
        path = root / "outputs" / "sweeps" / config.name / run
        config = config.updated({"run_dir": str(path)})
        if run not in runs:
            runs[run] = SweepRun(run, RunFolder(path), tuple(job), config)
        elif config.adapter.kind != "none" and stage_hash(runs[run].config) != stage_hash(config):
            raise UserError(f"two runs of the sweep would be called {run}. Sweep the key that differs by itself.")
    return list(runs.values())


def refuse_run_dir(config: Config) -> None:
    """Refuse a run folder in a sweep, which gives each run its own.

    Raises:
        UserError: it has one.
    """
    if config.run_dir is not None:
        raise UserError(
            f"run_dir={config.run_dir}: each run of a sweep has its own folder, outputs/sweeps/NAME/RUN, below the current "
            "directory. Leave run_dir out; name=NAME names the sweep's folder."
        )


def _pairs(job: Sequence[str]) -> dict[str, str]:
    return {key: value for key, _, value in (word.partition("=") for word in job)}


def _keys_with_several_values(jobs: list[list[str]]) -> set[str]:
    return {key for key in _pairs(jobs[0]) if len({_pairs(job)[key] for job in jobs}) > 1}


def sweeper_params(file: Path) -> dict[str, str]:
    """The values that the sweep lists for each key, as Hydra's sweeper reads them.

    Raises:
        UserError: they are no keys with values.
    """
    try:
        params = OmegaConf.select(OmegaConf.load(file), "hydra.sweeper.params") or {}
        if not isinstance(params, Mapping):
            raise UserError(f"{file}: hydra.sweeper.params={params}: expected keys with values, e.g. {{rank: '8,16'}}")
        return {str(k): str(v) for k, v in params.items()}
    except (OmegaConfBaseException, RecursionError) as error:
        raise UserError(f"{file}: hydra.sweeper.params: {error}. Fix the file.") from error


def find_sweep(name: str) -> tuple[str, Path]:
    """Name and folder of a sweep: one of sweeps/, or a YAML file by path.

    Raises:
        UserError: there is no such sweep; it lists the shipped ones.
    """
    path = Path(name).expanduser()
    if path.suffix in (".yaml", ".yml") and path.is_file():
        return path.stem, path.parent.absolute()
    if (sweeps_dir() / f"{name}.yaml").is_file():
        return name, sweeps_dir()
    known = ", ".join(sorted(p.stem for p in sweeps_dir().glob("*.yaml")))
    raise UserError(f"{name}: no such sweep. Choose one of {known}, or give the path of a YAML file.")
