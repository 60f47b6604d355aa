"""The runs of a sweep through Hydra's multirun and launchers, each in processes of its own."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from cosmos_exp.config.composing import compose_config, register, to_config
from cosmos_exp.config.paths import conf_dir
from cosmos_exp.config.schema import Sweep
from cosmos_exp.experiment.fork_server import start_server
from cosmos_exp.experiment.launching import LOG_TO_FILE, run_isolated
from cosmos_exp.sweep.expanding import SweepRun
from cosmos_exp.sweep.live import watch

SWEEPER = "hydra_plugins.cosmos_exp_sweep.MissingRunsSweeper"


def run_missing(
    name: str, folder: Path, overrides: Sequence[str], runs: list[SweepRun], missing: list[SweepRun]
) -> None:
    """Run the missing runs of folder/name.yaml and show the whole sweep meanwhile. A failed run does not stop the others.

    Args:
        overrides: of the command line; those of Hydra itself choose the launcher.

    Raises:
        UserError: the launcher is not installed.
    """
    import hydra

    from hydra_plugins.cosmos_exp_sweep import MissingRunsSweeper

    own = [o for o in overrides if o.startswith("hydra")]
    compose_config(own, name, (str(folder),))  # reports a launcher that is not installed
    start_server()  # it imports torch while Hydra starts
    words = ["--config-dir", str(folder), "--config-name", name, "-m", *own, f"hydra.sweeper._target_={SWEEPER}"]
    MissingRunsSweeper.wanted = tuple((*r.overrides, f"run_dir='{r.folder.path}'") for r in missing)
    argv, sys.argv = sys.argv, ["cosmos-exp", *words]
    os.environ[LOG_TO_FILE] = "1"
    register()
    try:
        with watch(runs):
            hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")(_run_one)()
    finally:
        os.environ.pop(LOG_TO_FILE, None)
        MissingRunsSweeper.wanted = ()
        sys.argv = argv


def _run_one(composed: DictConfig) -> bool:
    """Hydra's task: one run of the sweep."""
    config = to_config(composed)
    config.sweep = Sweep()
    return run_isolated(config)
