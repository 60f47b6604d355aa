"""`cosmos-exp doctor`: can this machine do this run? Every line says what is there and, if it is not, how to mend it."""

from __future__ import annotations

from cosmos_exp.config.composing import compose_config
from cosmos_exp.errors import UserError
from cosmos_exp.experiment.preflight import CHECKS


def main(overrides: list[str]) -> int:
    """Print a line a check. Exit code 1 if one fails."""
    config = compose_config(overrides)
    failed = False
    for name, check in CHECKS.items():
        try:
            print(f"ok    {name:10} {check(config)}")
        except UserError as error:
            failed = True
            print(f"FAIL  {name:10} {error}")
    return int(failed)
