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
from cosmos_exp.experiment.launching import launch, launched
from cosmos_exp.experiment.prepare import prepare
from cosmos_exp.experiment.record import recorded_run, recorded_stage
from cosmos_exp.experiment.train import train
from cosmos_exp.world.kernels import choose_kernels


def run(config: Config) -> None:
    """Run a configuration whose `run_dir` is set; an existing folder is resumed.

    With `hardware.num_processes` or `num_machines` > 1 it starts this machine's processes, each of which calls `run_stages`,
    unless `torchrun` or `accelerate launch` started them.

    Raises:
        UserError: the request was wrong. The message says how to fix it.
        RunError: the run failed. status.json in the run folder has the same message.
        Interrupted: the run was asked to stop and can be resumed.
    """
    by_launcher = launched(config.hardware.all_processes)
    if not by_launcher or os.environ["RANK"] == "0":  # the others wait for it before the first stage
        check_inputs(config)
        for warning in server_findings(config):
            print(f"warning: {warning.text}", file=sys.stderr, flush=True)
    if config.hardware.all_processes > 1 and not by_launcher:
        launch(config)
    else:
        run_stages(config)


def run_stages(config: Config) -> None:
    """The stages, in this process: the only one of the run, or one of several that all call this.

    Raises:
        UserError: as `run`.
    """
    choose_kernels(config.hardware.attention, config.approximate.tf32, config.training.deterministic)
    with recorded_run(config) as (context, tracker):
        inputs = prepare(context)
        train(context, inputs, tracker.log)
        generate(context, inputs)
        evaluate(context, inputs)
        with recorded_stage("record", context):
            tracker.finish()
