"""The keys of hydra/launcher=slurm. They are part of no run's configuration."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


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
    nodes: int = 1  # machines per run, as hardware.num_machines
    tasks_per_node: int = 1  # always 1: a run starts its processes itself
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
