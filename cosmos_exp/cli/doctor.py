"""`cosmos-exp doctor`: can this machine do this run?"""

from __future__ import annotations

import argparse

from cosmos_exp.cli.arguments import add_overrides

HELP = "check whether this machine can do a run; downloads nothing"
EPILOG = """examples:
  cosmos-exp doctor                                                  the default run on this machine
  cosmos-exp doctor model=cosmos_predict25_2b hardware=8xh100        a run of the real model
  cosmos-exp doctor model=cosmos_predict25_2b hardware=1xh100 judge=reason2_8b data=folder data.path=DIR

Asks the network for judge.url, and whether the hub gives what is not on this machine. A line that begins with FAIL says what is
missing and how to get it; the exit code is then 1."""


def options(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    add_overrides(parser, "the run, e.g. model=cosmos_predict25_2b hardware=8xh100")


def run(args: argparse.Namespace) -> int:
    """Print one line per check. Exit code 1 if one fails."""
    import torch  # noqa: F401  # it is part of the machine; the checks themselves need none

    from cosmos_exp.config.composing import compose_config
    from cosmos_exp.experiment.checks import CHECKS, findings

    config, code = compose_config(args.overrides), 0
    for finding in findings(config, CHECKS):
        print(f"{finding.level:4}  {finding.what:10} {finding.text}")
        if finding.level == "FAIL":
            code = 1
    return code
