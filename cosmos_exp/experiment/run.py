"""One run, from its configuration to its results: the five stages in order.

Each stage leaves its output in the run folder and is skipped if that output is complete.
"""

from __future__ import annotations

import os

from cosmos_exp.config.schema import Config
from cosmos_exp.errors import UserError
from cosmos_exp.experiment.checks import check_inputs
from cosmos_exp.experiment.launching import launch, launched


def run(config: Config) -> None:
    """Run a configuration whose `run_dir` is set; an existing folder is resumed.

    With `hardware.num_processes` > 1 it starts the processes, each of which calls `run_stages`, unless `torchrun` or
    `accelerate launch` started them. On several machines one of these does.

    Raises:
        UserError: the request was wrong. The message says how to fix it.
        RunError: the run failed. status.json in the run folder has the same message.
        Interrupted: the run was asked to stop and can be resumed.
    """
    by_launcher, hardware = launched(), config.hardware
    if hardware.num_machines > 1 and not by_launcher:
        raise UserError(
            f"hardware.num_machines={hardware.num_machines}: start this command on each machine with `torchrun "
            f"--nnodes={hardware.num_machines} --nproc-per-node={hardware.num_processes} --rdzv-backend=c10d "
            "--rdzv-endpoint=HOST:29500 -m cosmos_exp run …`, HOST being the first of them."
        )
    if not by_launcher or os.environ["RANK"] == "0":  # the others wait for it before the first stage
        check_inputs(config)
    if hardware.num_processes > 1 and not by_launcher:
        launch(config)
    else:
        run_stages(config)


def run_stages(config: Config) -> None:
    """The stages, in this process: the only one of the run, or one of several that all call this.

    Raises:
        UserError: as `run`.
    """
    # They import torch, diffusers and scipy, which takes seconds: a request that `check_inputs` refuses needs none.
    from cosmos_exp.experiment.evaluate import evaluate
    from cosmos_exp.experiment.generate import generate
    from cosmos_exp.experiment.prepare import prepare
    from cosmos_exp.experiment.record import recorded_run, recorded_stage
    from cosmos_exp.experiment.train import train
    from cosmos_exp.world.kernels import choose_kernels

    choose_kernels(config)
    with recorded_run(config) as (context, tracker):
        inputs = prepare(context)
        train(context, inputs, tracker.log)
        generate(context, inputs)
        evaluate(context, inputs.dataset)
        with recorded_stage("record", context):
            tracker.finish()
