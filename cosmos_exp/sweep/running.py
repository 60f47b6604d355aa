"""The runs of a sweep through Hydra's multirun and launchers, each in processes of its own."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from omegaconf import DictConfig

from cosmos_exp.config.composing import NO_SEARCH, compose_config, is_of_hydra, quoted, register, to_config
from cosmos_exp.config.paths import conf_dir
from cosmos_exp.config.schema import Sweep
from cosmos_exp.errors import UserError
from cosmos_exp.experiment.fork_server import SECONDS_TO_CHECKPOINT, start_server
from cosmos_exp.experiment.launching import LOG_TO_FILE, run_isolated
from cosmos_exp.files import write_text
from cosmos_exp.provenance import variables
from cosmos_exp.run_folder import RunFolder
from cosmos_exp.sweep.expanding import SweepRun
from cosmos_exp.sweep.live import watch
from cosmos_exp.sweep.slurm import wait_for_jobs
from cosmos_exp.sweep.slurm_queue import compact, live_job
from cosmos_exp.text import printable

SWEEPER = "hydra_plugins.cosmos_exp_sweep.MissingRunsSweeper"
FULL_ERROR = "HYDRA_FULL_ERROR"  # Hydra raises a launcher's exception instead of printing a traceback and leaving
STOP_FILE = ".fail_fast"  # in the folder of the runs: the run that failed, so that all others stop


def run_missing(
    name: str, folder: Path, overrides: Sequence[str], runs: list[SweepRun], missing: list[SweepRun]
) -> None:
    """Run the missing runs of folder/name.yaml, wait for jobs of the others, and show the whole sweep meanwhile.

    A failed run does not stop the others unless `fail_fast` is set. Afterwards no status of a run that has ended says
    `running`.

    Args:
        overrides: of the command line; those of Hydra itself choose the launcher.

    Raises:
        UserError: the launcher is not installed, or it refuses the request.
    """
    own = quoted([o for o in overrides if is_of_hydra(o)])
    sweep_dir = runs[0].folder.path.parent
    if missing:
        compose_config(own, name, (str(folder),))  # reports a launcher that is not installed
        sweep_dir = missing[0].folder.path.parent
    words = [
        "--config-dir",
        str(folder),
        "--config-name",
        name,
        "-m",
        NO_SEARCH,
        *own,
        f"hydra.sweep.dir='{sweep_dir}'",
    ]
    (sweep_dir / STOP_FILE).unlink(missing_ok=True)
    if jobs := [job.id for r in runs if (job := live_job(r.folder))]:
        print(f"Slurm jobs of an earlier command: {compact(jobs)}", flush=True)
    try:
        with watch(runs):
            if missing:
                _launch(words, missing)
            wait_for_jobs([r.folder for r in runs], runs[0].config.fail_fast)
    except UserError:
        raise
    except Exception as error:  # whatever a launcher raises; the runs' own records say how each ended
        print(f"the launcher failed: {_first_line(error)}", file=sys.stderr)
    finally:
        (sweep_dir / STOP_FILE).unlink(missing_ok=True)
    for run in missing:
        if run.folder.status.get("state") == "running" and run.state() == "interrupted":
            run.folder.record_failure("its process was killed (out of memory, or by hand)")


def _launch(words: list[str], missing: list[SweepRun]) -> None:
    """Give the runs to Hydra's launcher."""
    import hydra

    from hydra_plugins.cosmos_exp_sweep import MissingRunsSweeper

    start_server()  # it imports torch while Hydra starts
    MissingRunsSweeper.wanted = tuple((*r.overrides, f"run_dir='{r.folder.path}'") for r in missing)
    argv, sys.argv = sys.argv, ["cosmos-exp", *words, f"hydra.sweeper._target_={SWEEPER}"]
    register()
    try:
        with variables({LOG_TO_FILE: "1", FULL_ERROR: "1"}):
            hydra.main(version_base="1.3", config_path=str(conf_dir()), config_name="config")(_run_one)()
    finally:
        MissingRunsSweeper.wanted = ()
        sys.argv = argv


def _run_one(composed: DictConfig) -> bool:
    """Hydra's task: one run of the sweep."""
    config = to_config(composed).updated({"sweep": Sweep()})
    _wait_for_predecessor(RunFolder(str(config.run_dir)))
    if not config.fail_fast:
        return run_isolated(config)
    stop = Path(str(config.run_dir)).parent / STOP_FILE
    if stop.exists():
        return False
    succeeded = run_isolated(config, stop.exists)
    if not succeeded and not stop.exists():
        write_text(stop, f"{config.run_dir}\n")
    return succeeded


def _wait_for_predecessor(folder: RunFolder) -> None:
    """Ray starts a run again when its worker was killed; the killed worker's run writes its checkpoint meanwhile."""
    end = time.monotonic() + SECONDS_TO_CHECKPOINT
    while folder.is_locked() and time.monotonic() < end:
        time.sleep(0.2)


def _first_line(error: Exception) -> str:
    return next((printable(line) for line in str(error).splitlines() if line.strip()), type(error).__name__)
