"""The judges by name. A judge of your own needs no entry here: judge=rules with judge.builder=IMPORT_PATH."""

from __future__ import annotations

from collections.abc import Callable

import torch

from cosmos_exp.config.builders import resolve_builder
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
        UserError: unknown name, or the judge's module cannot be imported.
    """
    if settings.name == "none":
        return None
    if settings.name == "rules":
        key, path = "judge.builder", settings.builder or ""
    elif settings.name in JUDGES:
        key, path = "judge.name", JUDGES[settings.name]
    else:
        raise UserError(f"judge.name={settings.name}: choose one of none, rules, {', '.join(JUDGES)}")
    builder: JudgeBuilder = resolve_builder(key, path)
    return builder(settings, device, precision, seed)
