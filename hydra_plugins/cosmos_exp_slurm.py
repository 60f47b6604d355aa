"""`hydra/launcher=slurm`: each run a job of one Slurm array. Needs Slurm's commands and no further package."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict


class SlurmLauncher(Launcher):
    """Submits the runs and returns at once, unless a sweeper searches; `cosmos_exp.sweep.slurm` waits for them."""

    def __init__(self, **settings: Any):
        self.settings = {k: OmegaConf.to_container(v) if OmegaConf.is_config(v) else v for k, v in settings.items()}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what `launch` needs."""
        self.context, self.task, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Submit one job per list of overrides."""
        from cosmos_exp.sweep.slurm import start_jobs, wait_for_submitted
        from cosmos_exp.sweep.slurm_queue import compact

        configs = [self._run(list(overrides)) for overrides in job_overrides]
        if any(c.dry_run for c in configs):
            from cosmos_exp.experiment.dry_run import print_plan

            for config in configs:
                print_plan(config)
        else:
            print(f"Slurm jobs: {compact(start_jobs(configs, self.settings))}", flush=True)
        values: Sequence[float | None] = [None] * len(configs)
        if getattr(self.task, "searching", False):  # the sweeper chooses the next values by these
            self.task.exit_codes.append(wait_for_submitted())
            values = [self.task.objective(config) for config in configs]
        done = JobStatus.COMPLETED
        return [
            JobReturn(overrides=o, _return_value=v, status=done) for o, v in zip(job_overrides, values, strict=True)
        ]

    def _run(self, overrides: list[str]) -> Any:
        """The configuration of one run with its folder."""
        from cosmos_exp.config.composing import to_config
        from cosmos_exp.sweep.folders import with_run_dir

        composed = self.context.config_loader.load_sweep_config(self.config, overrides)
        HydraConfig.instance().set_config(composed)
        typed = list(self.config.hydra.overrides.task)
        with open_dict(composed):
            composed.pop("hydra")
        config = to_config(composed)
        return config if config.dry_run else with_run_dir(config, typed)
