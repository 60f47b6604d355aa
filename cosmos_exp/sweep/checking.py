"""The preflight checks of a sweep: once for all runs that would start, before one starts or a folder is made."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from omegaconf import OmegaConf

from cosmos_exp.config.composing import compose_all, is_of_hydra
from cosmos_exp.config.schema import Config
from cosmos_exp.errors import UserError
from cosmos_exp.experiment.fork_server import start
from cosmos_exp.text import printable, redact

HERE = ("basic", "submitit_local", "joblib")  # launchers whose runs are processes of this machine


def check_sweep(name: str, folder: Path, overrides: Sequence[str], configs: Mapping[str, Config]) -> int:
    """Check what the runs of folder/name.yaml need, as `cosmos-exp run` does, and print what is missing. Writes nothing.

    The checks run in a process of their own: counting GPUs takes GPU memory, which this process would keep for hours.

    Args:
        overrides: of the command line; those of Hydra itself choose the launcher.
        configs: by the name of the run.

    Returns:
        the exit code: 0, or that of a `run` which lacks the same.

    Raises:
        UserError: the launcher is not installed.
    """
    if not configs:
        return 0
    here = is_here(name, folder, overrides)
    return start("cosmos_exp.sweep.checking:report_missing", (dict(configs), here)).wait() or 0


def is_here(name: str, folder: Path, overrides: Sequence[str]) -> bool:
    """Whether the runs of folder/name.yaml are processes of this machine.

    Raises:
        UserError: the launcher is not installed.
    """
    own = [o for o in overrides if is_of_hydra(o)]
    hydra = compose_all(own, name, (str(folder),)).hydra
    launcher = str(hydra.runtime.choices.get("hydra/launcher"))
    address = OmegaConf.select(hydra, "launcher.ray.init.address")
    on_ray = launcher.startswith("ray") and not (address or os.environ.get("RAY_ADDRESS"))
    return launcher in HERE or on_ray


def report_missing(configs: Mapping[str, Config], here: bool) -> int:
    """Print what the runs lack. Returns the exit code.

    Args:
        here: the runs are processes of this machine.
    """
    try:
        missing = missing_inputs(configs, here)
        if missing:
            raise UserError("\n".join(missing))
    except UserError as error:
        print(f"cosmos-exp: {redact(printable(error))}", file=sys.stderr)
        return error.exit_code
    return 0


def missing_inputs(configs: Mapping[str, Config], here: bool) -> list[str]:
    """What the runs lack, each once; what only some of them lack begins with their names."""
    from cosmos_exp.experiment.checks import ANYWHERE, OF_ONE_FOLDER, REQUIRED, findings

    # Jobs of a cluster run on other machines: the submitting one often has neither their GPUs and memory nor their
    # guardrail, weights, scratch disk and logins. Only what the configuration itself decides is the same on both.
    # The records of one folder concern that run alone: it fails by itself, and the others do their work.
    checks = [name for name in REQUIRED if name not in OF_ONE_FOLDER] if here else ANYWHERE
    lacking: dict[str, list[str]] = {}
    for name, config in configs.items():
        for finding in findings(config, checks):
            if finding.level == "FAIL":
                lacking.setdefault(finding.text, []).append(name)
    return [t if len(names) == len(configs) else f"{_some(names)}: {t}" for t, names in lacking.items()]


def _some(names: Sequence[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
