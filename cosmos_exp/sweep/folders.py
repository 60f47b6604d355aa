"""The folder of a run: new, resumed, or that of a run of `-m`."""

from __future__ import annotations

import datetime
import re
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import OmegaConf

from cosmos_exp.config.composing import is_sweep
from cosmos_exp.config.hashing import check_same_training, stage_hash
from cosmos_exp.config.record import load_config
from cosmos_exp.config.schema import Config
from cosmos_exp.errors import UserError
from cosmos_exp.experiment.launching import launched
from cosmos_exp.run_folder import RunFolder
from cosmos_exp.sweep.naming import run_name


def with_run_dir(config: Config, overrides: list[str]) -> Config:
    """The configuration with its `run_dir` set. Hydra is running.

    An existing folder is resumed: with only `run_dir=…` under its own configuration, else only if the configuration
    trains the same.

    Raises:
        UserError: the folder holds a run of another configuration.
    """
    if config.run_dir is None:
        if config.hardware.num_machines > 1 and not is_multirun():
            raise UserError(
                f"hardware.num_machines={config.hardware.num_machines}: run_dir is not set. Give one folder that all machines "
                "share, by its absolute path: run_dir=/shared/outputs/my_run"
            )
        folder = str(_multirun_folder(config, overrides) if is_multirun() else _new_folder(config))
        if launched(config.hardware.all_processes):
            from cosmos_exp.distributed import Processes

            hardware = config.hardware
            processes = Processes(hardware.device, hardware.all_processes, hardware.num_threads)
            folder = processes.same(folder)
        return config.updated({"run_dir": folder})
    file = Path(config.run_dir) / "config.yaml"
    if not file.is_file():
        return config
    old = load_config(file).updated({"run_dir": config.run_dir})
    if all(re.match(r"\+*(run_dir|judge\.url)=", o) for o in overrides):
        if any(o.lstrip("+").startswith("judge.url=") for o in overrides):  # a record holds no password
            old = old.updated({"judge.url": config.judge.url})
        return old
    fix = "Set another run_dir (or none) for a new run, or give only run_dir=… to resume the old one."
    check_same_training(old, config, Path(config.run_dir), fix)
    return config


def is_multirun() -> bool:
    """Whether this is one of several runs of Hydra."""
    return HydraConfig.initialized() and HydraConfig.get().mode == RunMode.MULTIRUN


def _new_folder(config: Config) -> Path:
    """outputs/<name>/<timestamp>"""
    stamp = datetime.datetime.now().strftime("%Y-%m-%d_%H-%M-%S")
    return _unused(Path("outputs") / config.name / stamp)


def _multirun_folder(config: Config, overrides: list[str]) -> Path:
    """outputs/sweeps/<name>/<run name>: the folder that holds this very run, else a new one."""
    folder = Path(HydraConfig.get().runtime.cwd) / "outputs" / "sweeps" / config.name
    folder /= run_name(config, _swept(overrides))
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


def _swept(overrides: list[str]) -> dict[str, str]:
    """The keys that take several values, with this run's."""
    job = HydraConfig.get()
    swept = {o.partition("=")[0] for o in overrides if is_sweep(o)}
    params = OmegaConf.select(OmegaConf.structured(job.sweeper), "params")
    swept |= {str(key) for key in params or {}}
    own = {key: value for key, _, value in (o.partition("=") for o in job.overrides.task)}
    return {key: own[key] for key in swept & set(own)}
