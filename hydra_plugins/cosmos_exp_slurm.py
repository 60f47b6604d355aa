"""`hydra/launcher=slurm`: each run a job of one Slurm array. Needs Slurm's commands and no further package.

Hydra executes this module without an entry in sys.modules, so dataclasses cannot read annotations that are strings.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict


@dataclass
class SlurmQueue:
    """Keys of hydra.launcher. Those without a comment are options of sbatch."""

    _target_: str = "hydra_plugins.cosmos_exp_slurm.SlurmLauncher"
    name: str = "${name}"  # of the jobs
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    reservation: str | None = None
    constraint: str | None = None
    exclude: str | None = None
    comment: str | None = None
    gpus_per_node: int | None = None
    cpus_per_task: int | None = None
    mem_gb: float | None = None  # GB of memory per node
    gres: str | None = None
    cpus_per_gpu: int | None = None
    gpus_per_task: int | None = None
    mem_per_gpu: str | None = None
    mem_per_cpu: str | None = None
    timeout_min: int = 60  # minutes until Slurm ends the job
    signal_delay_s: int = 120  # seconds before that at which the run writes a checkpoint and is queued again
    max_num_timeout: int = 100  # how often a job may be queued again
    array_parallelism: int = 256  # jobs at once
    setup: list[str] | None = None  # lines of shell before the run
    additional_parameters: dict[str, Any] = field(default_factory=dict)  # Any: further options of sbatch


def register_launcher() -> None:
    """Make it a choice. `cosmos_exp.config.composing` calls this: as Hydra loads the plugin in any app, it would be one there, too."""
    node = OmegaConf.structured(SlurmQueue)
    OmegaConf.set_struct(node.additional_parameters, False)  # an override may add keys
    ConfigStore.instance().store(group="hydra/launcher", name="slurm", node=node, provider="cosmos_exp")


class SlurmLauncher(Launcher):
    """Submits the runs and returns at once, unless a sweeper searches; `cosmos_exp.sweep.slurm` waits for them."""

    def __init__(self, **settings: Any):
        self.settings = {k: OmegaConf.to_container(v) if OmegaConf.is_config(v) else v for k, v in settings.items()}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Keep what `launch` needs."""
        self.context, self.task, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        """Submit one job per list of overrides."""
        from cosmos_exp.sweep.slurm import compact, start_jobs, wait_for_submitted

        configs = [self._run(list(overrides)) for overrides in job_overrides]
        task: Any = self.task  # Hydra knows it as a function
        if any(c.dry_run for c in configs):
            from cosmos_exp.experiment.plan import print_plan

            for config in configs:
                print_plan(config)
        else:
            words = getattr(task, "words", None)
            print(f"Slurm jobs: {compact(start_jobs(configs, self.settings, words))}", flush=True)
        values: Sequence[float | None] = [None] * len(configs)
        if getattr(task, "searching", False):  # the sweeper chooses the next values by these
            task.exit_codes.append(wait_for_submitted())
            values = [task.objective(config) for config in configs]
        done = JobStatus.COMPLETED
        return [
            JobReturn(overrides=o, _return_value=v, status=done) for o, v in zip(job_overrides, values, strict=True)
        ]

    def _run(self, overrides: list[str]) -> Any:
        """The configuration of one run with its folder."""
        from cosmos_exp.config.composing import to_config
        from cosmos_exp.sweep.runs import with_run_dir

        composed = self.context.config_loader.load_sweep_config(self.config, overrides)
        HydraConfig.instance().set_config(composed)
        typed = list(self.config.hydra.overrides.task)
        with open_dict(composed):
            composed.pop("hydra")
        config = to_config(composed)
        return config if config.dry_run else with_run_dir(config, typed)
