"""One run, from its configuration to its results: the five stages in order.

Each stage leaves its output in the run folder and is skipped if that output is complete.
"""

from __future__ import annotations

import os
import sys

from cosmos_exp.config.schema import Config
from cosmos_exp.experiment.checks import check_inputs, server_findings
from cosmos_exp.experiment.evaluate import evaluate
from cosmos_exp.experiment.generate import generate
from cosmos_exp.experiment.launching import launch
from cosmos_exp.experiment.machines import joined
from cosmos_exp.experiment.prepare import prepare
from cosmos_exp.experiment.record import recorded_run, recorded_stage
from cosmos_exp.experiment.train import train
from cosmos_exp.world.kernels import choose_kernels


def run(config: Config) -> None:
    """Run a configuration whose `run_dir` is set; an existing folder is resumed.

    With `hardware.num_processes` > 1 it starts that many processes, each of which calls this function again. Processes
    started by torchrun take part in the same way. With `hardware.num_machines` > 1 each machine calls it.

    Raises:
        UserError: the request was wrong. The message says how to fix it.
        RunError: the run failed. status.json in the run folder has the same message.
        Interrupted: the run was asked to stop and can be resumed.
    """
    if "WORLD_SIZE" not in os.environ:  # else this is one of the run's processes
        check_inputs(config)
        for warning in server_findings(config):
            print(f"warning: {warning.text}", file=sys.stderr, flush=True)
        if config.hardware.num_processes > 1:
            launch(config)
            return
    with joined(config.hardware):
        choose_kernels(config.hardware.attention, config.approximate.tf32, config.training.deterministic)
        with recorded_run(config) as (context, tracker):
            inputs = prepare(context)
            train(context, inputs, tracker.log)
            generate(context, inputs)
            evaluate(context, inputs)
            with recorded_stage("record", context):
                tracker.finish()
