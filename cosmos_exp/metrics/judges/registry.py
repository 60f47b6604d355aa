"""The judges by name. A judge of your own needs no entry here: `--plugin MODULE judge=rules judge.builder=MODULE.NAME`."""

from __future__ import annotations

from collections.abc import Callable

import torch

from cosmos_exp.config.builders import import_function, resolve_builder
from cosmos_exp.config.schema import Judge as JudgeSettings
from cosmos_exp.errors import UserError
from cosmos_exp.metrics.judges.interface import Judge

# (settings, device, precision "bf16" or "no", seed) -> judge
JudgeBuilder = Callable[[JudgeSettings, torch.device, str, int], Judge]

# `judge.name` -> a JudgeBuilder; the builder of "rules" is `judge.builder`
JUDGES = {
    "reason2": "cosmos_exp.metrics.judges.reason2:Reason2",
    "server": "cosmos_exp.metrics.judges.server:ServerJudge",
}


def load_judge(settings: JudgeSettings, device: torch.device, precision: str, seed: int) -> Judge | None:
    """The judge that the configuration names; None for judge=none.

    Args:
        precision: "bf16", or "no" for fp32.

    Raises:
        UserError: unknown name, or the judge's module cannot be imported or is not trusted.
    """
    if settings.name == "none":
        return None
    builder: JudgeBuilder
    if settings.name == "rules":
        builder = resolve_builder("judge.builder", settings.builder or "")
    elif settings.name in JUDGES:
        builder = import_function("judge.name", JUDGES[settings.name])
    else:
        raise UserError(f"judge.name={settings.name}: choose one of none, rules, {', '.join(JUDGES)}")
    return builder(settings, device, precision, seed)
