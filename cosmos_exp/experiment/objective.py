"""The one number by which a sweeper such as Optuna chooses its next values: `objective`."""

from __future__ import annotations

import math

from cosmos_exp.config.measures import LOSSES, MEASURES
from cosmos_exp.config.schema import Config
from cosmos_exp.errors import RunError, UserError
from cosmos_exp.run_folder import RunFolder


def direction(name: str, key: str = "objective") -> str:
    """`minimize` or `maximize`: the better direction of a loss or measure.

    Raises:
        UserError: there is no such measure, or none of its directions is better.
    """
    if name in LOSSES:
        return "minimize"
    choices = [*LOSSES, *(measure for measure, info in MEASURES.items() if info.better)]
    if name not in choices:
        raise UserError(f"{key}={name}: nothing to optimise. Choose one of {', '.join(choices)}.")
    return "maximize" if MEASURES[name].better > 0 else "minimize"


def check_objective(config: Config, name: str, key: str = "objective") -> None:
    """Refuse an objective that no run of this configuration can have, before the first one starts.

    Args:
        name: of the loss or measure. key: that sets it.

    Raises:
        UserError: it says what is missing.
    """
    direction(name, key)
    missing = ""
    if name in LOSSES and config.adapter.kind == "none" and key == "objective":
        missing = "adapter=none trains nothing. Choose a measure, e.g. tse_robust"
    if name == "validation_loss" and config.data.validation_videos == 0:
        missing = "no clips are held out. Set data.validation_videos to at least 1"
    if name in ("physics", "instruction") and config.judge.name == "none":
        missing = "judge=none scores no video. Choose a judge, e.g. judge=rules"
    if name.startswith(("tse", "cse")) and not config.sampson.enabled:
        missing = "sampson.enabled=false. Leave it out, or choose another measure"
    if missing:
        raise UserError(f"{key}={name}: {missing}.")


def objective_value(folder: RunFolder, objective: str) -> float:
    """The value of a finished run.

    Raises:
        RunError: the run failed, or it has no finite value.
    """
    status, where = folder.status, folder.path
    if status.get("state") != "done":
        reason = str(status.get("error") or "it wrote no status").splitlines()[0]
        raise RunError(f"objective={objective}: {where} did not finish ({reason}).")
    metrics = folder.read(folder.metrics)
    if objective in LOSSES:
        value, reason = metrics.get("training", {}).get(objective), ""
    else:
        summary = metrics.get("measures", {}).get(objective, {})
        value, reason = summary.get("mean"), summary.get("reason", "")
    if value is None or not math.isfinite(value):
        raise RunError(f"objective={objective}: {where} has no value. {reason}".strip())
    return float(value)
