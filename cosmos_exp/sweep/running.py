"""The runs of a sweep: checked once for all, then started through Hydra's launchers, each in processes of its own."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from cosmos_exp.config.composing import compose_all, is_of_hydra, quoted, run_hydra, to_config
from cosmos_exp.config.schema import Config, Sweep
from cosmos_exp.errors import UserError
from cosmos_exp.experiment.fork_server import SECONDS_TO_CHECKPOINT, start, start_server
from cosmos_exp.experiment.launching import LOG_TO_FILE, run_isolated
from cosmos_exp.files import write_text
from cosmos_exp.provenance import variables
from cosmos_exp.run_folder import RunFolder
from cosmos_exp.sweep.live import print_changes, watch
from cosmos_exp.sweep.runs import SweepRun, in_state, missing_runs
from cosmos_exp.sweep.slurm import compact, live_job, live_jobs, wait_for_jobs
from cosmos_exp.text import printable, redact

SWEEPER = "hydra.sweeper._target_=hydra_plugins.cosmos_exp_sweep.MissingRunsSweeper"
STOP_FILE = ".fail_fast"  # in the folder of the runs: the run that failed, so that all others stop
LOCAL = ("basic", "submitit_local", "joblib")  # launchers whose runs are processes of this machine
PATIENCE = SECONDS_TO_CHECKPOINT + 15.0  # a run whose sweep was killed gets SIGTERM, writes a checkpoint, then SIGKILL
Start = Callable[[list[SweepRun], list[SweepRun]], None]


def is_local(name: str, folder: Path, overrides: Sequence[str], config_dirs: Sequence[str] = ()) -> bool:
    """Whether the runs of folder/name.yaml are processes of this machine.

    Raises:
        UserError: the launcher is not installed.
    """
    hydra = compose_all(list(filter(is_of_hydra, overrides)), name, (str(folder), *config_dirs)).hydra
    launcher = str(hydra.runtime.choices.get("hydra/launcher"))
    address = OmegaConf.select(hydra, "launcher.ray.init.address") or os.environ.get("RAY_ADDRESS")
    return launcher in LOCAL or (launcher.startswith("ray") and not address)


def check_sweep(configs: Mapping[str, Config], starting: set[str], local: bool) -> int:
    """Check what the runs that would start need, as `cosmos-exp run` does, and print what is missing. Writes nothing.

    The checks run in a process of their own: counting GPUs takes GPU memory, which this process would keep for hours.

    Args:
        configs: of all runs of the sweep by name.
        starting: names of those that would start.
        local: the runs are processes of this machine; those of a cluster check for themselves.

    Returns:
        the exit code: 0, or that of a `run` which lacks the same.
    """
    if not starting:
        return 0
    return start("cosmos_exp.sweep.running:report_missing", (dict(configs), starting, local)).wait() or 0


def report_missing(configs: Mapping[str, Config], starting: set[str], local: bool) -> int:
    """Print what the runs lack. Returns the exit code. The arguments are those of `check_sweep`."""
    try:
        if local:
            check_runs(configs, starting)
        check_same_samples(configs)
    except UserError as error:
        print(f"cosmos-exp: {redact(printable(error))}", file=sys.stderr)
        return error.exit_code
    return 0


def check_runs(configs: Mapping[str, Config], starting: set[str]) -> None:
    """Check what the runs need.

    Raises:
        UserError: what they lack, each once; what only some of them lack begins with the name of the first.
    """
    from cosmos_exp.experiment.checks import REQUIRED, findings

    lacking: dict[str, list[str]] = {}
    for name in sorted(starting):
        for finding in findings(configs[name], REQUIRED):
            # The records of one folder concern that run alone: it fails by itself, and the others do their work.
            if finding.level == "FAIL" and finding.what != "records":
                lacking.setdefault(finding.text, []).append(name)
    lines = []
    for text, names in lacking.items():
        if len(names) < len(starting):
            text = f"{', '.join(names)}: {text}"
        lines.append(text)
    if lines:
        raise UserError("\n".join(lines))


def check_same_samples(configs: Mapping[str, Config]) -> None:
    """Refuse runs that would be compared on different test samples. Nothing is downloaded for this.

    Raises:
        UserError: it names two of the runs.
    """
    first, samples = "", {}
    for name, config in configs.items():
        key = repr((config.data, config.generation.max_prompts))
        if config.generation.split != "test" or key in samples:
            continue
        samples[key] = _test_samples(config)
        first = first or name
        if samples[key] != next(iter(samples.values())):
            raise UserError(
                f"{first} and {name} would be tested on different samples, so that they cannot be compared. Give all runs "
                "of the sweep the same test data, data.split_seed and generation.max_prompts."
            )


def _test_samples(config: Config) -> object:
    """The names of a run's test prompts, or where the data have to decide them, what they decide it by."""
    from cosmos_exp.sweep.frozen_claims import prompts_of

    prompts, _ = prompts_of(config)
    if prompts is not None:
        return sorted(prompts)
    data = config.data
    return [data.path, data.repo_id, data.test_repo_id, data.episodes, data.test_videos, data.split_seed]


def run_unfinished(runs: list[SweepRun], start: Start) -> None:
    """Start each run once that is missing, failed or interrupted, also one that another process gives up within PATIENCE.

    A run that another process holds for longer belongs to a sweep that is still at work: it is left alone.

    Args:
        start: Runs the missing ones (second argument) of all runs.
    """
    _start_missing(runs, runs, start)
    held = in_state(runs, "running")
    if not held or (runs[0].config.fail_fast and in_state(runs, "failed")):
        return
    names = ", ".join(run.name for run in held)
    print(f"{names}: held by another process, e.g. of a sweep that was killed; waiting up to {PATIENCE:.0f} s")
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline and in_state(held, "running"):
        time.sleep(0.2)
    _start_missing(runs, held, start)


def _start_missing(runs: list[SweepRun], candidates: list[SweepRun], start: Start) -> None:
    missing = missing_runs(candidates)
    if missing or any(live_job(run.folder) for run in runs):  # it also waits for Slurm jobs
        start(runs, missing)


def run_missing(
    name: str,
    folder: Path,
    overrides: Sequence[str],
    runs: list[SweepRun],
    missing: list[SweepRun],
    config_dirs: Sequence[str] = (),
) -> None:
    """Run the missing runs of folder/name.yaml, wait for jobs of the others, and print what changes meanwhile.

    A failed run does not stop the others unless `fail_fast` is set. Afterwards no status of a run that has ended says
    `running`.

    Args:
        overrides: of the command line; those of Hydra itself choose the launcher.

    Raises:
        UserError: the launcher is not installed, or it refuses the request.
    """
    sweep_dir = (missing or runs)[0].folder.path.parent
    search = ",".join(f"'file://{Path(more).absolute()}'" for more in config_dirs)
    words = ["--config-dir", str(folder), "--config-name", name, f"hydra.searchpath=[{search}]"]
    (sweep_dir / STOP_FILE).unlink(missing_ok=True)
    jobs = [[*run.overrides, f"run_dir='{run.folder.path}'"] for run in missing]
    try:
        with watch(print_changes, runs):
            run_jobs(words, overrides, jobs, _run_one, [run.folder for run in runs], runs[0].config.fail_fast)
    finally:
        (sweep_dir / STOP_FILE).unlink(missing_ok=True)
    for run in missing:
        if run.folder.status.get("state") == "running" and run.state() == "interrupted":
            run.folder.record_failure("its process was killed (out of memory, or by hand)")


def run_jobs(
    words: list[str],
    overrides: Sequence[str],
    jobs: list[list[str]],
    task: Callable[[DictConfig], object],
    folders: list[RunFolder],
    fail_fast: bool = False,
) -> None:
    """Give jobs to Hydra's launcher, and wait for them and for Slurm jobs of an earlier command.

    Args:
        words: of Hydra's command line.
        overrides: of the command line; those of Hydra itself choose the launcher.
        jobs: the overrides of each, with its `run_dir`.
        task: gets the composed configuration of a job; with an attribute `words` it is a command for Slurm.
        folders: of all jobs, also of those that an earlier command submitted.

    Raises:
        UserError: the launcher is not installed, or it refuses the request.
    """
    from hydra_plugins.cosmos_exp_sweep import MissingRunsSweeper

    if live := live_jobs(folders):
        print(f"Slurm jobs of an earlier command: {compact(live)}", flush=True)
    MissingRunsSweeper.wanted[:] = jobs
    place = f"hydra.sweep.dir='{folders[0].path.parent}'"  # of multirun.yaml
    try:
        if jobs:
            start_server()  # it imports torch while Hydra starts
            # HYDRA_FULL_ERROR: Hydra raises a launcher's exception instead of printing a traceback and leaving.
            with variables({LOG_TO_FILE: "1", "HYDRA_FULL_ERROR": "1"}):
                run_hydra(["-m", *words, *quoted(filter(is_of_hydra, overrides)), SWEEPER, place], task)
        wait_for_jobs(folders, fail_fast)
    except UserError:
        raise
    except Exception as error:  # whatever a launcher raises; the jobs' own records say how each ended
        reason = printable(error).strip() or type(error).__name__
        print(f"the launcher failed: {reason.splitlines()[0]}", file=sys.stderr)


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
